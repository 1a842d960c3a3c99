"""Reading a run file of any kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from curvtool.errors import InputError
from curvtool.results import StoredRun
from curvtool.storage import bench, density, diag, spectrum, spectrum_layers, trace, track
from curvtool.storage.file import opened, read_header

# Kind -> its reader; of the path, and whether to read what is as long as the flat vector.
_READERS: Mapping[str, Callable[[Path, bool], StoredRun]] = {
    spectrum.KIND: lambda path, vectors: spectrum.read_spectrum(path, eigenvectors=vectors),
    spectrum_layers.KIND: lambda path, vectors: spectrum_layers.read_spectrum_layers(
        path, eigenvectors=vectors
    ),
    trace.KIND: lambda path, _: trace.read_trace(path),
    density.KIND: lambda path, _: density.read_density(path),
    diag.KIND: lambda path, vectors: diag.read_diag(path, vectors=vectors),
    bench.KIND: lambda path, _: bench.read_bench(path),
    track.KIND: lambda path, _: track.read_track(path),
}


def read_run(path: Path, *, vectors: bool = True) -> StoredRun:
    """Read a run file, whatever kind it is.

    Args:
        path: of the run file.
        vectors: whether to read eigenvectors, or a diagonal, where the file has them; each takes P
            numbers of memory.

    Returns:
        The run.

    Raises:
        InputError: for no such file, a foreign or damaged one, a newer schema, or a kind that
            this version does not know.
    """
    with opened(path, whole=False) as file:  # the reader will
        kind = read_header(file).kind
    if kind in _READERS:
        return _READERS[kind](path, vectors)
    *others, last = map(repr, _READERS)
    raise InputError(
        f"Cannot read {path}: this version knows runs of kind {', '.join(others)} and {last}, "
        f"the file holds kind {kind!r}. Upgrade curvtool to read it."
    )
