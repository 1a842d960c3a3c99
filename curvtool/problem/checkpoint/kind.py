"""What kind of file this is, judged by its content and never by its name."""

from __future__ import annotations

import enum
import zipfile
from pathlib import Path

from curvtool.errors import InputError
from curvtool.problem.wording import did_you_mean, listed

LEGACY_MAGIC = bytes.fromhex("8a0a6cfc9c46")  # after the pickle protocol's own bytes
_EXPECTED = "expected a checkpoint written by torch.save"
_RESAVE = 'Save the weights again with torch.save(model.state_dict(), "weights.pt").'

# First bytes, what they are, and what to do instead.
_FOREIGN: tuple[tuple[bytes, str, str], ...] = (
    (b"\x89PNG", "a PNG picture", "Give the checkpoint that belongs to it."),
    (b"\xff\xd8\xff", "a JPEG picture", "Give the checkpoint that belongs to it."),
    (b"%PDF", "a PDF document", "Give the checkpoint that belongs to it."),
    (
        b"\x89HDF\r\n\x1a\n",
        "an HDF5 file",
        "A finished run is shown by `curvtool show`; Keras weights have to be loaded in Keras and "
        "saved from PyTorch.",
    ),
    (b"\x1f\x8b", "a gzip archive", "Unpack it first (gunzip)."),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "Unpack it first (unzstd)."),
    (b"BZh", "a bzip2 archive", "Unpack it first (bunzip2)."),
    (b"\xfd7zXZ", "an xz archive", "Unpack it first (unxz)."),
    (b"7z\xbc\xaf", "a 7z archive", "Unpack it first."),
    (b"\x93NUMPY", "a NumPy array", "As data, give it by --data; weights are read from .pt files."),
    (
        b"version https://git-lfs",
        "a Git LFS pointer, not the file itself",
        "Fetch the file with `git lfs pull`.",
    ),
    (b"<!DOCTYPE", "an HTML page", "The download gave a web page; download the file itself."),
    (b"<html", "an HTML page", "The download gave a web page; download the file itself."),
)


class Kind(enum.Enum):
    """The two formats that torch.save has had."""

    ZIP = "zip"
    LEGACY = "legacy"


def kind_of_file(path: Path) -> Kind:
    """Tell a checkpoint from everything else that people hand over.

    Args:
        path: the file.

    Returns:
        Which of the two formats of torch.save it has.

    Raises:
        InputError: for anything else; the message says what the file is and what to do.
    """
    _require_file(path)
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise InputError(
            f"{path}: {_EXPECTED}; the file cannot be read ({error.strerror}). Check its "
            f"permissions."
        ) from error
    size = path.stat().st_size
    if not head:
        raise InputError(
            f"{path}: {_EXPECTED}; the file is empty (0 bytes). Copy or save it again: the disk "
            f"may have been full, or the transfer never began."
        )
    if head[0] == 0x80 and LEGACY_MAGIC in head[:24]:
        return Kind.LEGACY
    if head.startswith(b"PK"):
        _require_torch_zip(path, size)
        return Kind.ZIP
    raise InputError(f"{path}: {_EXPECTED}; got {_foreign(head, size)}")


def truncated(path: Path) -> InputError:
    """The error for a file that ends too early."""
    return InputError(
        f"{path}: {_EXPECTED}; the file is truncated or damaged: it ends after "
        f"{path.stat().st_size:,} bytes, before its contents do. Copy it again and compare the "
        f"sizes, or take an earlier checkpoint."
    )


def _require_file(path: Path) -> None:
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except OSError as error:  # a name too long, a folder that may not be searched
        raise InputError(
            f"{path}: {_EXPECTED}; the path cannot be followed ({error.strerror}). Check the path "
            f"and the permissions of its folders."
        ) from error
    if is_file:
        return
    if is_folder:
        raise InputError(f"{path}: {_EXPECTED}; got {_folder(path)}")
    if path.exists():
        raise InputError(
            f"{path}: {_EXPECTED}; got a pipe or device. Write the checkpoint to a file first."
        )
    try:
        beside = [p.name for p in path.parent.iterdir() if p.is_file()]
    except OSError:
        beside = []
    raise InputError(
        f"{path}: {_EXPECTED}; there is no such file.{did_you_mean(path.name, beside)} Check the "
        f"path; relative ones start in the working directory."
    )


def _folder(path: Path) -> str:
    if (path / ".metadata").exists():
        return (
            "a folder of torch.distributed.checkpoint, which this version does not read. Convert "
            "it with `python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER "
            "weights.pt`."
        )
    if (path / "config.json").exists():
        return (
            "a Hugging Face model folder, which this version does not read. Load it with "
            'transformers and save it with torch.save(model.state_dict(), "weights.pt").'
        )
    inside = sorted(p.name for p in path.iterdir() if p.suffix in {".pt", ".pth", ".ckpt", ".bin"})
    hint = f" It holds {listed(inside)}." if inside else ""
    return f"a folder.{hint} Name one file."


def _require_torch_zip(path: Path, size: int) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise truncated(path) from error
    names = [record.filename for record in records]
    inner = {name.partition("/")[2] for name in names}
    if any(n == "constants.pkl" or n.startswith("code/") for n in inner):
        raise InputError(
            f"{path}: {_EXPECTED}; got a TorchScript program, which is code that loading would "
            f"run. Load it where you trust it with torch.jit.load, and save its weights: "
            f'torch.save(program.state_dict(), "weights.pt").'
        )
    if any(n == "archive_format" or "data/weights/" in n for n in [*inner, *names]):
        raise InputError(
            f"{path}: {_EXPECTED}; got a torch.export program (.pt2), which is code that loading "
            f"would run. Load it where you trust it with torch.export.load, and save its weights: "
            f'torch.save(program.state_dict, "weights.pt").'
        )
    if names and all(name.endswith(".npy") for name in names):
        raise InputError(
            f"{path}: {_EXPECTED}; got a NumPy archive with {listed(names)}. As data, give it by "
            f"--data npz:{path.name}; weights are read from .pt files."
        )
    if "data.pkl" not in inner:
        raise InputError(
            f"{path}: {_EXPECTED}; got a zip archive of another program, with "
            f"{listed(names, most=4) or 'nothing in it'}. Give the checkpoint itself, unpacked."
        )
    # torch.save never compresses. Compressed records would be read wrongly where the file is
    # mapped, and a small file could unfold into any size; so could records that overlap.
    unpacked = sum(record.file_size for record in records)
    if any(r.compress_type != zipfile.ZIP_STORED for r in records) or unpacked > size:
        raise InputError(
            f"{path}: {_EXPECTED}; got one that another program packed again (its records are "
            f"compressed or overlap: {unpacked:,} bytes in a file of {size:,}). {_RESAVE}"
        )


def _foreign(head: bytes, size: int) -> str:
    for magic, what, remedy in _FOREIGN:
        if head.lstrip()[: len(magic)].lower() == magic.lower():
            return f"{what}. {remedy}"
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size:
        return (
            "a safetensors file, which this version does not read. Convert it with "
            "torch.save(safetensors.torch.load_file(path), 'weights.pt')."
        )
    if head[257:262] == b"ustar":
        return f"a tar archive. Unpack it and name one file, or load it in PyTorch. {_RESAVE}"
    if head[0] == 0x80 and len(head) > 1 and head[1] <= 5:
        return (
            "a plain pickle, which may run any code when it is loaded and is never opened here. "
            f"Where you trust it, load it yourself. {_RESAVE}"
        )
    try:
        text = head[: 4096 - 4].decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if text.isprintable() or all(c.isprintable() or c in "\n\r\t\f" for c in text):
        start = " ".join(text.split())[:40]
        return f"a text file, which begins {start!r}. Name the checkpoint (.pt, .pth, .ckpt)."
    return (
        f"{size:,} bytes that begin {head[:8].hex(' ')}, which is no format known here. Check "
        f"that the file is the checkpoint, and that it was copied whole."
    )
