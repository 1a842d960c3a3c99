"""The kind `spectrum`: eigenpairs with their error bounds, and optionally the eigenvectors.

Letters: k pairs, P parameters.
"""

from __future__ import annotations

from pathlib import Path

from curvtool.results import SpectrumRun
from curvtool.storage.atomic import replacing
from curvtool.storage.file import opened, read_header, require_kind
from curvtool.storage.pairs import read_pairs, require_pairs, write_pairs
from curvtool.storage.solve import read_solve, write_solve

KIND = "spectrum"


def write_spectrum(path: Path, run: SpectrumRun) -> None:
    """Write a spectrum run, whole or not at all.

    Eigenvectors are taken off their device row by row: memory is one row of P numbers.

    Args:
        path: file to create or replace. Its folder must exist.
        run: what to write.

    Raises:
        InputError: where the file cannot be written.
        TypeError: where `config` or `environment` hold what JSON cannot.
        ValueError: where arrays of the run have shapes that do not fit.
    """
    require_pairs(run.pairs, "write_spectrum")
    with replacing(path) as file:
        write_solve(file, run, kind=KIND, outcome=run.pairs.outcome, hvps=run.pairs.hvps)
        write_pairs(file, run.pairs)


def read_spectrum(path: Path, *, eigenvectors: bool = True) -> SpectrumRun:
    """Read a spectrum run.

    Args:
        path: of the run file.
        eigenvectors: whether to read them where the file has them: k * P numbers of memory.
            Otherwise they are None.

    Returns:
        The run, eigenvectors as a numpy array of the stored type.

    Raises:
        InputError: for no such file, a foreign or damaged one, a newer schema, or another kind.
    """
    with opened(path) as file:
        header = read_header(file)
        require_kind(path, header.kind, KIND)
        pairs = read_pairs(file, eigenvectors=eigenvectors)
        return SpectrumRun(pairs=pairs, **read_solve(file, header))
