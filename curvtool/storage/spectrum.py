"""The kind `spectrum`: eigenpairs with their error bounds, and optionally the eigenvectors.

Letters: k pairs, P parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curvtool.results import (
    Certification,
    Completeness,
    EigenPairs,
    Outcome,
    SpectrumRun,
)
from curvtool.storage import axes, strictjson
from curvtool.storage.atomic import replacing
from curvtool.storage.file import (
    RunHeader,
    opened,
    read_header,
    read_json,
    read_parameters,
    require_kind,
    write_header,
    write_parameters,
)
from curvtool.storage.records import read_plan, read_preflight, read_problem, write_record

KIND = "spectrum"
_CHUNK_BYTES = 4 * 2**20  # within the 1 to 16 MiB where neither seeks nor waste dominate


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
    _require_shapes(run)
    with replacing(path) as file:
        write_header(file, _header(run))
        _write_facts(file, run)
        write_parameters(file, run.parameters)
        _write_pairs(file, run.pairs)
        _write_history(file.create_group("history"), run.pairs.history)


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
        return SpectrumRun(
            pairs=_read_pairs(file, header, eigenvectors),
            problem=read_problem(file),
            plan=read_plan(file),
            preflight=read_preflight(file),
            parameters=read_parameters(file),
            config=header.config,
            environment=header.environment,
            seconds=header.seconds,
            version=header.version,
            created=header.created,
        )


def _header(run: SpectrumRun) -> RunHeader:
    return RunHeader(
        kind=KIND,
        outcome=run.pairs.outcome.value,
        hvps=run.pairs.hvps,
        seconds=run.seconds,
        version=run.version,
        created=run.created,
        config=run.config,
        environment=run.environment,
    )


def _write_facts(file: Any, run: SpectrumRun) -> None:
    pairs = run.pairs
    for name, record in (
        ("problem", run.problem),
        ("plan", run.plan),
        ("preflight", run.preflight),
    ):
        write_record(file, name, record)
    file.attrs["completeness"] = pairs.completeness.value
    file.attrs["certification"] = pairs.certification.value
    file.attrs["which"] = pairs.which
    file.attrs["method"] = pairs.method
    file.attrs["tol"] = pairs.tol
    file.attrs["accuracy"] = pairs.accuracy
    file.attrs["noise"] = pairs.noise
    file.attrs["hvps_by_stage"] = strictjson.dumps(pairs.hvps_by_stage)
    file.attrs["solve_seconds"] = pairs.seconds


def _write_pairs(file: Any, pairs: EigenPairs) -> None:
    pair = axes.add_axis(file, "pair", len(pairs.eigenvalues))
    unit = "loss / parameter^2"
    for name, values, long_name in (
        ("eigenvalues", pairs.eigenvalues, "eigenvalue of the operator"),
        ("residual_norms", pairs.residual_norms, "2-norm of H y - theta y for unit y"),
        ("eigenvalue_errors", pairs.eigenvalue_errors, "an eigenvalue lies within this distance"),
    ):
        series = np.asarray(values, dtype=np.float64)
        axes.add_series(file, name, series, [pair], long_name=long_name, units=unit)
    met = np.asarray(pairs.converged, dtype=np.bool_)
    axes.add_series(file, "converged", met, [pair], long_name="whether the pair met the tolerance")
    if pairs.eigenvectors is not None and len(pairs.eigenvalues):
        _write_vectors(file, pair, pairs.eigenvectors)


def _write_vectors(file: Any, pair: Any, vectors: Any) -> None:
    k, P = (int(length) for length in vectors.shape)
    kind = _row(vectors, 0).dtype
    chunks = -(-P * kind.itemsize // _CHUNK_BYTES)  # of even size: the last one is stored whole
    dataset = file.create_dataset(
        "eigenvectors",
        shape=(k, P),
        dtype=kind,
        # Not compressed: the bits of an eigenvector are noise, gzip saves an eighth at great cost.
        chunks=(1, -(-P // chunks)),
        fletcher32=True,
    )
    dataset.attrs["long_name"] = "eigenvectors of unit length, in the order of `parameters`"
    axes.attach(dataset, [pair, axes.add_axis(file, "parameter", P)])
    for i in range(k):
        dataset[i] = _row(vectors, i)


def _row(vectors: Any, i: int) -> NDArray[Any]:
    """Return row `i` for numpy, from a torch tensor on any device or from any array."""
    row = vectors[i]
    if hasattr(row, "detach"):
        row = row.detach().cpu()
        if "bfloat16" in str(row.dtype):  # numpy has no such type
            row = row.float()
        row = row.numpy()
    return np.asarray(row)


def _write_history(group: Any, history: Mapping[str, Any]) -> None:
    steps: dict[int, Any] = {}  # one axis per length: `step`, `step_2`, ...
    for name, values in history.items():
        series = np.asarray(values, dtype=np.float64)
        if len(series) not in steps:
            axis = "step" if not steps else f"step_{len(steps) + 1}"
            while axis in history:
                axis += "_"
            steps[len(series)] = axes.add_axis(group, axis, len(series))
        axes.add_series(group, name, series, [steps[len(series)]])


def _require_shapes(run: SpectrumRun) -> None:
    pairs = run.pairs
    k = len(pairs.eigenvalues)
    for name in ("eigenvalues", "residual_norms", "eigenvalue_errors", "converged"):
        shape = np.shape(getattr(pairs, name))
        if shape != (k,):
            raise ValueError(f"write_spectrum needs {name} of shape ({k},), not {shape}")
    if pairs.eigenvectors is not None and (
        len(pairs.eigenvectors.shape) != 2 or pairs.eigenvectors.shape[0] != k
    ):
        raise ValueError(
            f"write_spectrum needs eigenvectors of shape ({k}, P), not "
            f"{tuple(pairs.eigenvectors.shape)}"
        )
    for name, values in pairs.history.items():
        if np.ndim(values) != 1 or not name or "/" in name or name == ".":
            raise ValueError(
                f"write_spectrum needs history series of one dimension under plain names, not "
                f"{name!r} of shape {np.shape(values)}"
            )


def _read_pairs(file: Any, header: RunHeader, eigenvectors: bool) -> EigenPairs:
    stored = file["eigenvectors"] if eigenvectors and "eigenvectors" in file else None
    return EigenPairs(
        eigenvalues=file["eigenvalues"][...],
        residual_norms=file["residual_norms"][...],
        eigenvalue_errors=file["eigenvalue_errors"][...],
        converged=file["converged"][...].astype(np.bool_),
        outcome=Outcome(header.outcome),
        completeness=Completeness(file.attrs["completeness"]),
        certification=Certification(file.attrs["certification"]),
        which=str(file.attrs["which"]),
        method=str(file.attrs["method"]),
        tol=float(file.attrs["tol"]),
        accuracy=str(file.attrs["accuracy"]),
        hvps=header.hvps,
        hvps_by_stage=read_json(file, "hvps_by_stage"),
        seconds=float(file.attrs["solve_seconds"]),
        noise=float(file.attrs["noise"]),
        history={
            name: series[...] for name, series in file["history"].items() if not series.is_scale
        },
        eigenvectors=None if stored is None else stored[...],
    )
