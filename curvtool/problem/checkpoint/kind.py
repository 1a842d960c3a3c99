"""What kind of file this is, judged by its content and never by its name."""

from __future__ import annotations

import enum
import zipfile
from pathlib import Path
from typing import IO

from curvtool.errors import InputError
from curvtool.problem.wording import listed

LEGACY_MAGIC = bytes.fromhex("8a0a6cfc9c46")  # after the pickle protocol's own bytes
INDEX_SUFFIX = ".index.json"
_EXPECTED = "expected a checkpoint written by torch.save or safetensors"
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
    """The formats that are read."""

    ZIP = "zip"
    LEGACY = "legacy"
    SAFETENSORS = "safetensors"
    INDEX = "index of shards"
    DISTRIBUTED = "torch.distributed.checkpoint"
    TORCHSCRIPT = "TorchScript"
    EXPORTED = "torch.export"


def kind_of_file(path: Path) -> Kind:
    """Tell a checkpoint file from everything else that people hand over.

    Args:
        path: a file.

    Returns:
        Its format.

    Raises:
        InputError: for anything else; the message says what the file is and what to do.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4096)
        size = path.stat().st_size
    except OSError as error:
        raise InputError(
            f"{path}: {_EXPECTED}; the file cannot be read ({error.strerror}). Check its "
            f"permissions."
        ) from error
    if not head:
        raise InputError(
            f"{path}: {_EXPECTED}; the file is empty (0 bytes). Copy or save it again: the disk "
            f"may have been full, or the transfer never began."
        )
    if head[0] == 0x80 and LEGACY_MAGIC in head[:24]:
        return Kind.LEGACY
    if head.startswith(b"PK"):
        return _kind_of_zip(path, size)
    if looks_like_safetensors(head, size):
        return Kind.SAFETENSORS
    if head.lstrip().startswith(b"{") and b'"weight_map"' in head:
        return Kind.INDEX
    if head.lstrip().startswith(b"{") and path.name.endswith(INDEX_SUFFIX):
        return Kind.INDEX
    raise InputError(f"{path}: {_EXPECTED}; got {_foreign(head, size)}")


def looks_like_safetensors(head: bytes, size: int) -> bool:
    """Whether a file begins as safetensors files do: the length of a JSON object, and its brace."""
    if len(head) <= 8 or head[8:9] != b"{":
        return False
    return int.from_bytes(head[:8], "little") <= size - 8


def is_stored_zip(file: Path | IO[bytes], size: int) -> bool:
    """Whether this is a zip archive that cannot unfold: nothing compressed, no records shared.

    Args:
        file: a path or an open file.
        size: its bytes.

    Returns:
        False for what is no archive, too.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
    return _is_stored(records, size)


def _is_stored(records: list[zipfile.ZipInfo], size: int) -> bool:
    stored = all(record.compress_type == zipfile.ZIP_STORED for record in records)
    return stored and sum(record.file_size for record in records) <= size


def truncated(path: Path) -> InputError:
    """The error for a file that ends too early."""
    return InputError(
        f"{path}: {_EXPECTED}; the file is truncated or damaged: it ends after "
        f"{path.stat().st_size:,} bytes, before its contents do. Copy it again and compare the "
        f"sizes, or take an earlier checkpoint."
    )


def _kind_of_zip(path: Path, size: int) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise truncated(path) from error
    names = [record.filename for record in records]
    inner = {name.partition("/")[2] for name in names}
    if any(n == "constants.pkl" or n.startswith("code/") for n in inner):
        return Kind.TORCHSCRIPT
    if any(n == "archive_format" or "data/weights/" in n for n in [*inner, *names]):
        return Kind.EXPORTED
    if names and all(name.endswith(".npy") for name in names):
        raise InputError(
            f"{path}: {_EXPECTED}; got a NumPy archive with {listed(names)}. As data, give it by "
            f"--data npz:{path.name}; weights are read from .pt and .safetensors files."
        )
    if "data.pkl" not in inner:
        raise InputError(
            f"{path}: {_EXPECTED}; got a zip archive of another program, with "
            f"{listed(names, most=4) or 'nothing in it'}. Give the checkpoint itself, unpacked."
        )
    # torch.save never compresses. Compressed records would be read wrongly where the file is
    # mapped, and a small file could unfold into any size; so could records that overlap.
    if not _is_stored(records, size):
        unpacked = sum(record.file_size for record in records)
        raise InputError(
            f"{path}: {_EXPECTED}; got one that another program packed again (its records are "
            f"compressed or overlap: {unpacked:,} bytes in a file of {size:,}). {_RESAVE}"
        )
    return Kind.ZIP


def _foreign(head: bytes, size: int) -> str:
    for magic, what, remedy in _FOREIGN:
        if head.lstrip()[: len(magic)].lower() == magic.lower():
            return f"{what}. {remedy}"
    if len(head) > 8 and head[8:9] == b"{" and head[7] == 0:
        return (
            f"a safetensors file that is truncated or damaged: it ends after {size:,} bytes, "
            f"before its header does. Copy it again and compare the sizes."
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
