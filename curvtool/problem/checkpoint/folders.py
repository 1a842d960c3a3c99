"""What a path leads to: a file, or which file of a checkpoint's folder."""

from __future__ import annotations

from pathlib import Path

from curvtool.errors import InputError
from curvtool.problem.checkpoint.formats.distributed import METADATA
from curvtool.problem.checkpoint.formats.members import require_inside
from curvtool.problem.checkpoint.kind import INDEX_SUFFIX, Kind, kind_of_file
from curvtool.problem.wording import did_you_mean, listed

_EXPECTED = "expected a checkpoint, a file or a folder"
CONFIG = "config.json"
# By the habits of Hugging Face libraries; safetensors first, as they do.
_WEIGHTS = (
    *("model.safetensors", "model.safetensors.index.json"),
    *("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors.index.json"),
    *("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
_SUFFIXES = {".safetensors", ".pt", ".pth", ".ckpt", ".bin"}


def find(path: Path) -> tuple[Path, Kind]:
    """Find what is to be read.

    Args:
        path: a file, or a folder of a checkpoint.

    Returns:
        The file to begin with and its format; for torch.distributed.checkpoint the folder itself.

    Raises:
        InputError: where there is nothing to read, or several things.
    """
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except OSError as error:  # a name too long, a folder that may not be searched
        raise InputError(
            f"{path}: {_EXPECTED}; the path cannot be followed ({error.strerror}). Check the path "
            f"and the permissions of its folders."
        ) from error
    if is_file:
        return path, kind_of_file(path)
    if is_folder:
        return _inside(path)
    if path.exists():
        raise InputError(
            f"{path}: {_EXPECTED}; got a pipe or device. Write the checkpoint to a file first."
        )
    if path.parts[0] in {"http:", "https:", "s3:", "gs:", "hf:"}:
        raise InputError(
            f"{path}: {_EXPECTED}, on disk; got an address. Fetch the file first: nothing is "
            f"downloaded."
        )
    try:
        beside = [p.name for p in path.parent.iterdir()]
    except OSError:
        beside = []
    raise InputError(
        f"{path}: {_EXPECTED}; there is no such file.{did_you_mean(path.name, beside)} Check the "
        f"path; relative ones start in the working directory."
    )


def _inside(folder: Path) -> tuple[Path, Kind]:
    if (folder / METADATA).is_file():
        return folder, Kind.DISTRIBUTED
    try:
        names = sorted(p.name for p in folder.iterdir() if p.is_file())
    except OSError as error:
        raise InputError(
            f"{folder}: {_EXPECTED}; the folder cannot be read ({error.strerror}). Check its "
            f"permissions."
        ) from error
    found = [name for name in _WEIGHTS if name in names][:1]
    found = found or [name for name in names if name.endswith(INDEX_SUFFIX)]
    found = found or [name for name in names if name.endswith(".safetensors")]
    if len(found) == 1:
        chosen = folder / found[0]
        require_inside(chosen, folder)
        return chosen, kind_of_file(chosen)
    inside = [name for name in names if Path(name).suffix in _SUFFIXES] or found
    hint = f" It holds {listed(inside)}." if inside else ""
    if CONFIG in names and not inside:
        hint = (
            f" It has a {CONFIG} and no weights beside it, under none of {listed(_WEIGHTS)}. Get "
            f"the weights too."
        )
    raise InputError(f"{folder}: {_EXPECTED}; got a folder.{hint} Name one file.")
