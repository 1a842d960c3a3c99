"""Reading a run file of any kind."""

from __future__ import annotations

from pathlib import Path

from curvtool.errors import InputError
from curvtool.results import BenchRun, SpectrumRun
from curvtool.storage import bench, spectrum
from curvtool.storage.file import opened, read_header


def read_run(path: Path, *, eigenvectors: bool = True) -> SpectrumRun | BenchRun:
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
    if kind == bench.KIND:
        return bench.read_bench(path)
    raise InputError(
        f"Cannot read {path}: this version knows runs of kind {spectrum.KIND!r} and "
        f"{bench.KIND!r}, the file holds kind {kind!r}. Upgrade curvtool to read it."
    )
