"""A run as one JSON object, for `--json`."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from curvtool.results import BenchRun, CheckRun, SpectrumRun


def spectrum_json(run: SpectrumRun) -> dict[str, Any]:
    """Turn a run into plain JSON types. Eigenvectors and the history stay in the file.

    Args:
        run: what to show.

    Returns:
        Dicts, lists, strings, numbers, booleans and None; `json.dumps(..., allow_nan=False)`
        takes it, since numbers that are not finite become None.
    """
    pairs = run.pairs
    return {
        "kind": "spectrum",
        "outcome": pairs.outcome.value,
        "outcome_sentence": pairs.outcome.sentence,
        "all_converged": bool(pairs.converged.all()),
        "eigenvalues": _plain(pairs.eigenvalues),
        "eigenvalue_errors": _plain(pairs.eigenvalue_errors),
        "residual_norms": _plain(pairs.residual_norms),
        "converged": _plain(pairs.converged),
        "which": pairs.which,
        "method": pairs.method,
        "tol": _plain(pairs.tol),
        "accuracy": pairs.accuracy,
        "noise": _plain(pairs.noise),
        "completeness": pairs.completeness.value,
        "certification": pairs.certification.value,
        "hvps": pairs.hvps,
        "hvps_by_stage": _plain(pairs.hvps_by_stage),
        "seconds": _plain(run.seconds),
        "solve_seconds": _plain(pairs.seconds),
        "problem": _plain(dataclasses.asdict(run.problem)),
        "plan": _plain(dataclasses.asdict(run.plan)),
        "preflight": _plain(dataclasses.asdict(run.preflight)),
        "config": _plain(run.config),
        "environment": _plain(run.environment),
        "curvtool_version": run.version,
        "created": run.created,
    }


def check_json(run: CheckRun) -> dict[str, Any]:
    """Turn a check into plain JSON types.

    Args:
        run: what to show.

    Returns:
        As `spectrum_json`.
    """
    passed = all(check.passed is not False for check in run.preflight.checks)
    return {"kind": "check", "passed": passed, **_record(run)}


def bench_json(run: BenchRun) -> dict[str, Any]:
    """Turn a comparison of ways into plain JSON types.

    Args:
        run: what to show.

    Returns:
        As `spectrum_json`.
    """
    return {"kind": "bench", **_record(run)}


def _record(run: CheckRun | BenchRun) -> dict[str, Any]:
    """The fields under their own names; the map of parameters stays in the file."""
    fields: dict[str, Any] = _plain(dataclasses.asdict(run))
    fields.pop("parameters", None)
    return {**fields, "curvtool_version": fields.pop("version")}


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, (np.generic, np.ndarray)):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [_plain(item) for item in value]
    return str(value)  # paths, dates
