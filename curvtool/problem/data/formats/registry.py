"""The formats of data by name. A further one is a file with one function, and a line here."""

from __future__ import annotations

from collections.abc import Callable

from curvtool.errors import HookError, InputError
from curvtool.problem.data.allowance import Allowance
from curvtool.problem.data.examples import Source
from curvtool.problem.data.formats.arrow import open_arrow, open_parquet
from curvtool.problem.data.formats.csv import open_csv
from curvtool.problem.data.formats.hdf5 import open_hdf5
from curvtool.problem.data.formats.hf import open_hf
from curvtool.problem.data.formats.hook import open_hook
from curvtool.problem.data.formats.imagefolder import open_imagefolder
from curvtool.problem.data.formats.npy import open_npy
from curvtool.problem.data.formats.npz import open_npz
from curvtool.problem.data.formats.pt import open_pt
from curvtool.problem.data.formats.safetensors import open_safetensors
from curvtool.problem.data.formats.text import open_text
from curvtool.problem.data.formats.torchvision import open_torchvision
from curvtool.problem.data.formats.webdataset import open_webdataset
from curvtool.problem.hooks import is_hook
from curvtool.problem.spec import DataSpec
from curvtool.problem.wording import did_you_mean

# Each checks what is cheap to check and returns the function that reads.
Open = Callable[[], Source]
FORMATS: dict[str, Callable[[DataSpec, str, Allowance], Open]] = {
    "npz": open_npz,
    "npy": open_npy,
    "csv": open_csv,
    "parquet": open_parquet,
    "arrow": open_arrow,
    "hdf5": open_hdf5,
    "safetensors": open_safetensors,
    "pt": open_pt,
    "text": open_text,
    "hf": open_hf,
    "imagefolder": open_imagefolder,
    "webdataset": open_webdataset,
    "torchvision": open_torchvision,
}
# What names of files end in, for the hint to whoever gives one without its format.
_SUFFIXES = {
    **{f".{name}": name for name in ("npz", "npy", "csv", "parquet", "arrow", "safetensors", "pt")},
    **{".tsv": "csv", ".csv.gz": "csv", ".tsv.gz": "csv", ".feather": "arrow", ".pth": "pt"},
    **{".h5": "hdf5", ".hdf5": "hdf5", ".txt": "text", ".tar": "webdataset"},
    **{".parquet.brotli": "parquet"},
}


def resolve_data(spec: DataSpec, allowance: Allowance | None = None) -> Open:
    """Find what reads the data, and check what can be checked without reading it.

    Args:
        spec: the data of the problem.
        allowance: what reading may do and take; by default all memory, and no download.

    Returns:
        A function of no arguments that reads it.

    Raises:
        InputError: for a format that is not known, a file that is not there, code that may not
            run or is not there, or arguments that it does not have.
    """
    allowance = allowance or Allowance()
    scheme, colon, argument = spec.source.partition(":")
    if allowance.download and scheme != "torchvision":
        raise InputError(
            f"--download expected data of torchvision:, which alone is fetched; got "
            f"{spec.source!r}. Leave it out."
        )
    if argument.startswith("//"):
        raise InputError(
            f"{spec.origin.label}: expected data on disk; got the address {spec.source!r}. Fetch "
            f"the file first, and name it as FORMAT:PLACE, such as npz:FILE."
        )
    if scheme in FORMATS and colon and argument:
        return _hinted(scheme, argument, FORMATS[scheme](spec, argument, allowance))
    if is_hook(spec.source):
        return open_hook(spec)
    hint = did_you_mean(scheme, FORMATS)
    if _named_by(spec.source) is not None:
        hint = f' Did you mean "{_named_by(spec.source)}:{spec.source}"?'
    raise InputError(
        f"{spec.origin.label}: expected the data as FORMAT:PLACE, with the format one of "
        f"{', '.join(FORMATS)} (such as npz:FILE or torchvision:NAME), or as file.py:dataset or "
        f"package.module:dataset; got {spec.source!r}.{hint}"
    )


def _named_by(place: str) -> str | None:
    """The format whose files end as this name does."""
    suffix = next((s for s in sorted(_SUFFIXES, key=len)[::-1] if place.endswith(s)), None)
    return None if suffix is None else _SUFFIXES[suffix]


def _hinted(scheme: str, place: str, open_it: Open) -> Open:
    """Where a file cannot be read as one format and its name says another, that is said too."""
    other = _named_by(place)
    if other in {None, scheme}:
        return open_it

    def read() -> Source:
        try:
            return open_it()
        except HookError:
            raise
        except InputError as error:
            raise InputError(f'{error} By its name it may be "{other}:{place}".') from error

    return read
