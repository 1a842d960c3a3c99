"""Eigenpairs in a group of a run file: the root, or one for each layer.

Letters: k pairs, P parameters.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from curvtool.results import Certification, EigenPairs, Outcome
from curvtool.storage import axes, strictjson
from curvtool.storage.completeness import read_completeness, write_completeness
from curvtool.storage.digests import fill_rows, read_long
from curvtool.storage.file import is_earlier, read_json
from curvtool.storage.history import read_history, require_history, write_history
from curvtool.storage.vectors import add_vectors, on_host


def require_pairs(pairs: EigenPairs, who: str) -> None:
    """Refuse arrays that do not fit together, before a file is begun.

    Args:
        pairs: to be written.
        who: asks, for the message.

    Raises:
        ValueError: for shapes that do not fit.
    """
    k = len(pairs.eigenvalues)
    for name in ("eigenvalues", "residual_norms", "eigenvalue_errors", "converged", "at_floor"):
        shape = np.shape(getattr(pairs, name))
        if shape != (k,):
            raise ValueError(f"{who} needs {name} of shape ({k},), not {shape}")
    if pairs.eigenvectors is not None and (
        len(pairs.eigenvectors.shape) != 2 or pairs.eigenvectors.shape[0] != k
    ):
        raise ValueError(
            f"{who} needs eigenvectors of shape ({k}, P), not {tuple(pairs.eigenvectors.shape)}"
        )
    require_history(pairs.history, who)


def write_pairs(group: Any, pairs: EigenPairs) -> None:
    """Write eigenpairs with what is known about them.

    Args:
        group: open `h5py.File` or group.
        pairs: to write. Eigenvectors are taken off their device row by row.
    """
    group.attrs["outcome"] = pairs.outcome.value
    group.attrs["hvps"] = pairs.hvps
    write_completeness(group, pairs.completeness)
    group.attrs["certification"] = pairs.certification.value
    group.attrs["which"] = pairs.which
    group.attrs["method"] = pairs.method
    group.attrs["tol"] = pairs.tol
    group.attrs["accuracy"] = pairs.accuracy
    group.attrs["noise"] = pairs.noise
    group.attrs["hvps_by_stage"] = strictjson.dumps(pairs.hvps_by_stage)
    group.attrs["solve_seconds"] = pairs.seconds
    _write_values(group, pairs)
    write_history(group, pairs.history)


def read_pairs(group: Any, *, eigenvectors: bool) -> EigenPairs:
    """Read what `write_pairs` wrote.

    Args:
        group: open `h5py.File` or group.
        eigenvectors: whether to read them where there are any.

    Returns:
        The pairs, eigenvectors as a numpy array of the stored type.
    """
    stored = eigenvectors and "eigenvectors" in group
    earlier = is_earlier(group)
    found = EigenPairs(
        eigenvalues=group["eigenvalues"][...],
        residual_norms=group["residual_norms"][...],
        eigenvalue_errors=group["eigenvalue_errors"][...],
        converged=group["converged"][...].astype(np.bool_),
        at_floor=(
            np.zeros(group["converged"].shape, dtype=np.bool_)
            if earlier
            else group["at_floor"][...].astype(np.bool_)
        ),
        outcome=Outcome(group.attrs["outcome"]),
        completeness=read_completeness(group),
        certification=Certification(group.attrs["certification"]),
        which=str(group.attrs["which"]),
        method=str(group.attrs["method"]),
        tol=float(group.attrs["tol"]),
        accuracy=str(group.attrs["accuracy"]),
        hvps=int(group.attrs["hvps"]),
        hvps_by_stage=read_json(group, "hvps_by_stage"),
        seconds=float(group.attrs["solve_seconds"]),
        noise=float(group.attrs["noise"]),
        history=read_history(group),
        eigenvectors=read_long(group["eigenvectors"]) if stored else None,
    )
    return _floor_told_apart(found) if earlier else found


def _floor_told_apart(found: EigenPairs) -> EigenPairs:
    """Of the first schema, in which the floor of the arithmetic counted as the tolerance."""
    size = np.abs(found.eigenvalues)
    reached = found.eigenvalue_errors
    if found.accuracy == "vectors":  # what was held against it lacked the noise
        reached = found.residual_norms - found.noise * np.max(size, initial=0.0)
    at_floor = found.converged & (reached > found.tol * size)
    outcome = found.outcome
    if outcome is Outcome.CONVERGED and at_floor.any():
        outcome = Outcome.FLOOR
    return dataclasses.replace(
        found, converged=found.converged & ~at_floor, at_floor=at_floor, outcome=outcome
    )


def _write_values(group: Any, pairs: EigenPairs) -> None:
    pair = axes.add_axis(group, "pair", len(pairs.eigenvalues))
    unit = "loss / parameter^2"
    for name, values, long_name in (
        ("eigenvalues", pairs.eigenvalues, "eigenvalue of the operator"),
        ("residual_norms", pairs.residual_norms, "2-norm of H y - theta y for unit y"),
        ("eigenvalue_errors", pairs.eigenvalue_errors, "an eigenvalue lies within this distance"),
    ):
        series = np.asarray(values, dtype=np.float64)
        axes.add_series(group, name, series, [pair], long_name=long_name, units=unit)
    for name, flags, long_name in (
        ("converged", pairs.converged, "whether the pair met the tolerance"),
        ("at_floor", pairs.at_floor, "whether the floor of the arithmetic stopped it before"),
    ):
        axes.add_series(group, name, np.asarray(flags, dtype=np.bool_), [pair], long_name=long_name)
    if pairs.eigenvectors is not None and len(pairs.eigenvalues):
        _write_vectors(group, pair, pairs.eigenvectors)


def _write_vectors(group: Any, pair: Any, vectors: Any) -> None:
    k, P = (int(length) for length in vectors.shape)
    dataset = add_vectors(
        group,
        "eigenvectors",
        (k, P),
        on_host(vectors[0]).dtype,
        [pair, axes.add_axis(group, "parameter", P)],
        "eigenvectors of unit length, in the order of `parameters`",
    )
    fill_rows(dataset, (on_host(vectors[i]) for i in range(k)))
