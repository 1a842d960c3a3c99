"""The formats of data by name. A further one is a file with one function, and a line here."""

from __future__ import annotations

from collections.abc import Callable

from curvtool.errors import InputError
from curvtool.problem.data.examples import Source
from curvtool.problem.data.hook import open_hook
from curvtool.problem.data.npz import open_npz
from curvtool.problem.data.torchvision import open_torchvision
from curvtool.problem.hooks import RESERVED, is_hook
from curvtool.problem.spec import DataSpec
from curvtool.problem.wording import did_you_mean

# Each checks what is cheap to check and returns the function that reads.
Open = Callable[[], Source]
FORMATS: dict[str, Callable[[DataSpec, str], Open]] = {
    "npz": open_npz,
    "torchvision": open_torchvision,
}


def resolve_data(spec: DataSpec) -> Open:
    """Find what reads the data, and check what can be checked without reading it.

    Args:
        spec: the data of the problem.

    Returns:
        A function of no arguments that reads it.

    Raises:
        InputError: for a format that is not known, a file that is not there, code that may not
            run or is not there, or arguments that it does not have.
    """
    scheme, colon, argument = spec.source.partition(":")
    if scheme in FORMATS and colon and argument:
        return FORMATS[scheme](spec, argument)
    if is_hook(spec.source):
        return open_hook(spec)
    later = " This version does not read that format." if colon and scheme in RESERVED else ""
    hint = did_you_mean(scheme, FORMATS)
    if spec.source.endswith(".npz"):
        hint = f' Did you mean "npz:{spec.source}"?'
    raise InputError(
        f"{spec.origin.label}: expected the data as npz:FILE, torchvision:NAME, file.py:dataset "
        f"or package.module:dataset; got {spec.source!r}.{later if scheme not in FORMATS else ''}"
        f"{hint}"
    )
