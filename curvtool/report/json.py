"""A run as one JSON object, for `--json`."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from curvtool.report.completeness import completeness_sentences, proved_of_layers
from curvtool.report.met import met_by
from curvtool.report.verdicts import (
    blocks_sentence,
    density_sentence,
    diag_met,
    diag_sentence,
    half_width,
    trace_met,
    trace_sentence,
    track_sentence,
)
from curvtool.report.words import sentence
from curvtool.results import (
    BenchRun,
    CheckRun,
    DensityEstimate,
    DensityRun,
    DiagRun,
    EigenPairs,
    RunStatus,
    SolveRun,
    SpectrumBlocksRun,
    SpectrumRun,
    Standing,
    TraceRun,
    TrackRun,
)
from curvtool.results.density import SIDES

# Half of a function's interval over this is given as `stderr`, to readers of earlier versions.
_QUANTILE = 1.96


def spectrum_json(run: SpectrumRun) -> dict[str, Any]:
    """Turn a run into plain JSON types. Eigenvectors and the history stay in the file.

    Args:
        run: what to show.

    Returns:
        Dicts, lists, strings, numbers, booleans and None; `json.dumps(..., allow_nan=False)`
        takes it, since numbers that are not finite become None.
    """
    return {"kind": "spectrum", **_pairs(run.pairs), **_solve(run)}


def spectrum_layers_json(run: SpectrumBlocksRun) -> dict[str, Any]:
    """Turn the spectra of all layers into plain JSON types; eigenvectors stay in the file.

    Args:
        run: what to show.

    Returns:
        As `spectrum_json`, with an object for each layer.
    """
    blocks = run.blocks
    layers = [
        {"layer": name, "size": size, **_pairs(pairs)}
        for name, size, pairs in zip(blocks.names, blocks.sizes, blocks.pairs, strict=True)
    ]
    return {
        "kind": "spectrum-layers",
        "outcome": blocks.outcome.value,
        "outcome_sentence": blocks_sentence(blocks),
        "all_converged": bool(blocks.converged),
        **_met(blocks.pairs),
        "completeness_sentence": sentence(proved_of_layers(blocks.pairs)) if layers else "",
        "layers": layers,
        "hvps": blocks.hvps,
        "hvps_by_stage": _plain(blocks.hvps_by_stage),
        "solve_seconds": _plain(blocks.seconds),
        **_solve(run),
    }


def trace_json(run: TraceRun) -> dict[str, Any]:
    """Turn a trace into plain JSON types; the samples stay in the file.

    Args:
        run: what to show.

    Returns:
        As `spectrum_json`. `met` says whether what was asked for was reached.
    """
    found = run.estimate
    return {
        "kind": "trace",
        "outcome_sentence": trace_sentence(found),
        "met": trace_met(found),
        "half_width": _plain(half_width(found)),
        **_estimate(found, without={"samples", "batch_weight"}),
        **_solve(run),
    }


def density_json(run: DensityRun) -> dict[str, Any]:
    """Turn densities into plain JSON types, nodes and weights included.

    Args:
        run: what to show.

    Returns:
        As `spectrum_json`, with an object for each estimate: one, or one a layer.
    """
    return {
        "kind": "density",
        "outcome": run.outcome.value,
        "outcome_sentence": density_sentence(run),
        "estimates": [_density(found) for found in run.estimates],
        "hvps": run.hvps,
        "hvps_by_stage": _plain(run.hvps_by_stage),
        "solve_seconds": _plain(run.solve_seconds),
        **_solve(run),
    }


def diag_json(run: DiagRun) -> dict[str, Any]:
    """Turn a diagonal's summary into plain JSON types; the diagonal stays in the file.

    Args:
        run: what to show.

    Returns:
        As `spectrum_json`. `met` says whether what was asked for was reached.
    """
    found = run.estimate
    return {
        "kind": "diag",
        "outcome_sentence": diag_sentence(found),
        "met": diag_met(found),
        **_estimate(found, without={"diagonal", "diagonal_stderr", "diagonal_error", "history"}),
        **_solve(run),
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


def track_json(run: TrackRun) -> dict[str, Any]:
    """Turn a sweep into plain JSON types, an object for each checkpoint.

    Args:
        run: what to show.

    Returns:
        As `spectrum_json`. `overlap` is the mean squared cosine of the principal angles between
        the subspace of a checkpoint and that of `compared_with`.
    """
    rows = [{**_plain(dataclasses.asdict(row)), "overlap": _plain(row.overlap)} for row in run.rows]
    return {
        "kind": "track",
        "outcome": run.outcome.value,
        "outcome_sentence": track_sentence(run),
        "checkpoints": rows,
        "hvps": run.hvps,
        "seconds": _plain(run.seconds),
        "which": run.which,
        "tol": _plain(run.tol),
        "accuracy": run.accuracy,
        "problem": None if run.problem is None else _plain(dataclasses.asdict(run.problem)),
        "config": _plain(run.config),
        "environment": _plain(run.environment),
        "curvtool_version": run.version,
        "created": run.created,
    }


def status_json(found: Sequence[RunStatus]) -> dict[str, Any]:
    """Turn the standing of runs into plain JSON types.

    Args:
        found: one for each run.

    Returns:
        As `spectrum_json`: `counts` by state, and an object for each run.
    """
    counts = {each.value: sum(status.standing is each for status in found) for each in Standing}
    runs = []
    for status in found:
        fields = _plain(dataclasses.asdict(status))
        runs.append({"run": fields.pop("output"), "state": fields.pop("standing"), **fields})
    return {"kind": "status", "counts": counts, "runs": runs}


def _met(each: Sequence[EigenPairs]) -> dict[str, Any]:
    found = met_by(each)
    return {
        "met_tolerance": found.met,
        "stopped_at_floor": found.at_floor,
        "largest_floor_error": _plain(found.largest),
    }


def _pairs(pairs: EigenPairs) -> dict[str, Any]:
    return {
        "outcome": pairs.outcome.value,
        "outcome_sentence": pairs.outcome.sentence,
        "all_converged": bool(pairs.converged.all()),
        **_met([pairs]),
        "eigenvalues": _plain(pairs.eigenvalues),
        "eigenvalue_errors": _plain(pairs.eigenvalue_errors),
        "residual_norms": _plain(pairs.residual_norms),
        "converged": _plain(pairs.converged),
        "at_floor": _plain(pairs.at_floor),
        "which": pairs.which,
        "method": pairs.method,
        "tol": _plain(pairs.tol),
        "accuracy": pairs.accuracy,
        "noise": _plain(pairs.noise),
        "completeness": _plain(pairs.completeness.as_dict()),
        "completeness_sentence": _sentences(completeness_sentences(pairs)),
        "certification": pairs.certification.value,
        "hvps": pairs.hvps,
        "hvps_by_stage": _plain(pairs.hvps_by_stage),
        "solve_seconds": _plain(pairs.seconds),
    }


def _sentences(said: Sequence[str]) -> str:
    return " ".join(sentence(each) for each in said)


def _density(found: DensityEstimate) -> dict[str, Any]:
    """One density; counts by their names, and whether what it calls intervals are ones."""
    counts = None
    if found.count_interval is not None:
        counts = {
            side: _plain(ends) for side, ends in zip(SIDES, found.count_interval, strict=True)
        }
    shown = _estimate(found, without={"count_interval"})
    for function in shown["functions"]:
        ends = function["interval"]
        known = ends is not None and None not in ends
        function["stderr"] = (ends[1] - ends[0]) / 2 / _QUANTILE if known else None
    return {**shown, "counts": counts, "proved": found.proved}


def _estimate(found: Any, *, without: Collection[str] = ()) -> dict[str, Any]:
    """The fields under their own names; field by field, since `asdict` would copy long vectors."""
    names = [field.name for field in dataclasses.fields(found) if field.name not in without]
    fields = {name: getattr(found, name) for name in names}
    fields["solve_seconds"] = fields.pop("seconds")
    shown: dict[str, Any] = _plain(fields)
    return shown


def _solve(run: SolveRun) -> dict[str, Any]:
    """What every solve has besides its answer; the map of parameters stays in the file."""
    return {
        "seconds": _plain(run.seconds),
        "problem": _plain(dataclasses.asdict(run.problem)),
        "plan": _plain(dataclasses.asdict(run.plan)),
        "preflight": _plain(dataclasses.asdict(run.preflight)),
        "config": _plain(run.config),
        "environment": _plain(run.environment),
        "curvtool_version": run.version,
        "created": run.created,
    }


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
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [_plain(item) for item in value]
    return str(value)  # paths, dates
