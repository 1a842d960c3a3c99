"""What every format that is a file does first: find it, and check its arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from curvtool.errors import InputError
from curvtool.problem.spec import DataSpec
from curvtool.problem.wording import did_you_mean, first_line, listed


def file_of(spec: DataSpec, argument: str, what: str) -> Path:
    """The file that the source names.

    Args:
        spec: the data.
        argument: the path, relative to who named it.
        what: the kind of file with its article, for the message.

    Returns:
        Its path.

    Raises:
        InputError: where there is none, nothing in it, or where it may not be read.
    """  # noqa: DOC501  # _absent is not itself an exception
    path = spec.origin.base / argument
    if not _is(path, Path.is_file):
        raise _absent(spec, path, what, "file")
    try:
        with path.open("rb") as file:
            first = file.read(1)
    except OSError as error:
        raise unreadable(path, what, error, "Check its permissions.") from error
    if not first:
        raise InputError(
            f"{path}: expected {what}; the file is empty (0 bytes). Copy or write it again: the "
            f"disk may have been full, or the transfer never began."
        )
    return path


def folder_of(spec: DataSpec, argument: str, what: str) -> Path:
    """The folder that the source names; otherwise as `file_of`.

    Args:
        spec: the data.
        argument: the path, relative to who named it.
        what: the kind of folder with its article, for the message.

    Returns:
        Its path.

    Raises:
        InputError: where there is none.
    """  # noqa: DOC501  # _absent is not itself an exception
    path = spec.origin.base / argument
    if not _is(path, Path.is_dir):
        raise _absent(spec, path, what, "folder")
    return path


def read_kwargs(
    spec: DataSpec, known: Mapping[str, tuple[str, Callable[[Any], bool]]]
) -> dict[str, Any]:
    """The format's arguments, checked.

    Args:
        spec: the data.
        known: for each argument what it has to be, in words and as a test.

    Returns:
        The arguments as given.

    Raises:
        InputError: for one that the format does not have, or of a wrong kind.
    """
    scheme = spec.source.partition(":")[0]
    for name, value in spec.kwargs.items():
        if name not in known:
            takes = f"arguments among {listed(known)}" if known else "no arguments"
            raise InputError(
                f"{spec.origin.label}: expected {takes} for {scheme}:; got {name}."
                f"{did_you_mean(name, known)} Parts are named by inputs = and targets = under "
                f"[data] (on the command line --data-kwargs inputs=x targets=y)."
            )
        wanted, fits = known[name]
        if not fits(value):
            raise InputError(
                f"{spec.origin.label}: expected {name} of {scheme}: to be {wanted}; got "
                f"{value!r}. Correct --data-kwargs, or kwargs under [data]."
            )
    return dict(spec.kwargs)


def unreadable(place: object, what: str, error: BaseException, remedy: str) -> InputError:
    """The sentence for a file that its library refuses."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
    return InputError(f"{place}: expected {what}; it cannot be read: {said.rstrip('.')}. {remedy}")


def is_text(value: object) -> bool:
    """Whether an argument is a string with something in it."""
    return isinstance(value, str) and bool(value)


def is_flag(value: object) -> bool:
    """Whether an argument is true or false."""
    return isinstance(value, bool)


def is_count(value: object) -> bool:
    """Whether an argument is a whole number of at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is(path: Path, test: Callable[[Path], bool]) -> bool:
    try:
        return test(path)
    except (OSError, ValueError):  # a name too long, a zero byte, a folder that may not be searched
        return False


def _absent(spec: DataSpec, path: Path, what: str, kind: str) -> InputError:
    try:
        beside = [p.name for p in path.parent.iterdir()]
    except (OSError, ValueError):
        beside = []
    if _is(path, Path.exists):
        other = (
            "a folder" if _is(path, Path.is_dir) else "no folder" if kind == "folder" else "none"
        )
        return InputError(
            f"{spec.origin.label}: expected {what} at {path}; that is {other}. Correct the path, "
            f"or the format before it."
        )
    return InputError(
        f"{spec.origin.label}: expected {what} at {path}; there is no such {kind}."
        f"{did_you_mean(path.name, beside)} Correct the path: it is relative to "
        f"{spec.origin.base.resolve()}."
    )
