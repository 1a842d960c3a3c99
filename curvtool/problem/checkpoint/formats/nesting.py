"""Pickles that would overrun the stack, found before torch reads them."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import IO

from curvtool.errors import InputError
from curvtool.problem.checkpoint.formats.restricted import Inert, RestrictedUnpickler, TooDeep
from curvtool.problem.checkpoint.kind import Kind
from curvtool.problem.checkpoint.pickled import pickle_of_zip

_PICKLES = {Kind.ZIP: 1, Kind.LEGACY: 4}  # the last of a legacy file's four is the object


def require_shallow(path: Path, kind: Kind) -> None:
    """Refuse a pickle of tuples so deep in one another that hashing them ends the process.

    Costs what torch's own reading of names and shapes does; nothing is imported.

    Args:
        path: a file of torch.save.
        kind: ZIP or LEGACY.

    Raises:
        InputError: for such a one. What else is wrong with it is left to torch to find.
    """
    try:
        with _opened(path, kind) as file:
            for _ in range(_PICKLES[kind]):
                measure(file)
    except TooDeep as error:
        raise InputError(
            f"{path}: expected tensors and plain values; got {error} in one another, which no "
            f"training writes and which would end the process. Do not use this file."
        ) from error
    except Exception:  # noqa: BLE001  # torch reads the file next, and says what is wrong
        return


def measure(file: IO[bytes]) -> None:
    """Go through one pickle with marks for all that it would import.

    Args:
        file: stands after it at the end.

    Raises:
        TooDeep: for such a one; whatever unpickling raises where it is damaged.
    """  # raised below
    RestrictedUnpickler(file, known={}, allowed=lambda _: True, persistent=lambda _: Inert()).load()


def _opened(path: Path, kind: Kind) -> IO[bytes]:
    if kind is Kind.ZIP:
        return io.BytesIO(pickle_of_zip(path, most=sys.maxsize))
    return path.open("rb")
