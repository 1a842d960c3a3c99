"""Reading a run file of any kind."""

from __future__ import annotations

from pathlib import Path

from curvtool.errors import InputError
from curvtool.results import SpectrumRun
from curvtool.storage import spectrum
from curvtool.storage.file import opened, read_header


def read_run(path: Path, *, eigenvectors: bool = True) -> SpectrumRun:
    """Read a run file, whatever kind it is.

    Args:
        path: of the run file.
        eigenvectors: whether to read eigenvectors where the file has them; they take
            k * P numbers of memory.

    Returns:
        The run.

    Raises:
        InputError: for no such file, a foreign or damaged one, a newer schema, or a kind that
            this version does not know.
    """
    with opened(path) as file:
        kind = read_header(file).kind
    if kind == spectrum.KIND:
        return spectrum.read_spectrum(path, eigenvectors=eigenvectors)
    raise InputError(
        f"Cannot read {path}: this version knows runs of kind {spectrum.KIND!r}, the file holds "
        f"kind {kind!r}. Upgrade curvtool to read it."
    )
