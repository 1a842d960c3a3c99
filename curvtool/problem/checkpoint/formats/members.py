"""Files that an index names: inside its folder, and nowhere else."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from curvtool.errors import InputError
from curvtool.problem.wording import did_you_mean, first_line, kind_of

# The index of a model of a trillion parameters has 10 MB.
_MOST_JSON = 64 * 2**20


def member(folder: Path, name: object, *, named_by: Path) -> Path:
    """The file `name` of a checkpoint's folder.

    Args:
        folder: of the checkpoint.
        name: as the index has it; nothing of it is believed.
        named_by: the index, for messages.

    Returns:
        Its path.

    Raises:
        InputError: for a name that leads out of the folder, by its words or by a symbolic link
            (but for the links of a Hugging Face cache, which lead to its `blobs`), and for what
            is no file.
    """
    if not isinstance(name, str) or not name or name in {".", ".."} or set(name) & set("/\\\0"):
        raise InputError(
            f"{named_by}: expected the names of files beside it; got {name!r}, which leads out of "
            f"the folder. Do not use this file: an index that points elsewhere is damaged or "
            f"hostile."
        )
    path = folder / name
    try:
        is_file = stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):  # a name that no file system has
        is_file = False
    if not is_file:
        beside = [p.name for p in folder.iterdir() if p.is_file()]
        raise InputError(
            f"{named_by}: expected the file {name!r} beside it; there is none."
            f"{did_you_mean(name, beside)} Copy the whole folder."
        )
    require_inside(path, folder)
    return path


def require_inside(path: Path, folder: Path) -> None:
    """Refuse a symbolic link that leads out of a checkpoint's folder.

    Args:
        path: a file in `folder`.
        folder: of the checkpoint.

    Raises:
        InputError: where it does, and not to the `blobs` of a Hugging Face cache.
    """
    if not path.is_symlink():
        return
    home, target = folder.resolve(), path.resolve()
    cached = home.parent.name == "snapshots" and target.parent == home.parent.parent / "blobs"
    if not (cached or target.is_relative_to(home)):
        raise InputError(
            f"{path}: expected a file of the checkpoint's own folder; got a symbolic link to "
            f"{target}. Put the file itself there."
        )


def read_json(path: Path) -> dict[str, object]:
    """Read a small JSON object.

    Args:
        path: the file.

    Returns:
        Its content.

    Raises:
        InputError: for a file that cannot be read, is too large, or is no JSON object.
    """
    try:
        size = path.stat().st_size
        if size > _MOST_JSON:
            raise InputError(
                f"{path}: expected a JSON file of at most {_MOST_JSON:,} bytes; it has {size:,}. "
                f"Check that the right file is under that name."
            )
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: expected a JSON file; it cannot be read ({error.strerror}). Check its "
            f"permissions."
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: expected JSON; it is not: {first_line(error)}. Copy the file again."
        ) from error
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: expected a JSON object; got {kind_of(content)}. Copy the file again."
        )
    return content
