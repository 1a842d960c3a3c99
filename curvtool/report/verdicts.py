"""Whether a run reached what was asked of it, and the sentence that says so.

For reports and JSON alike. An outcome alone does not make a figure converged: what was reached is
held against what was asked.
"""

from __future__ import annotations

import math

from curvtool.results import (
    BlockSpectra,
    DensityRun,
    DiagonalEstimate,
    Outcome,
    TraceEstimate,
    TrackRun,
)

# What rounding may add to a width that met its tolerance exactly.
_SLACK = 1 + 1e-9


def half_width(found: TraceEstimate) -> float:
    """Half the width of a trace's interval."""
    return (found.interval[1] - found.interval[0]) / 2


def trace_met(found: TraceEstimate) -> bool:
    """Whether a trace is as exact as was asked: either tolerance will do."""
    asked = [] if found.rel_err is None else [found.rel_err * abs(found.trace)]
    if found.abs_err is not None:
        asked.append(found.abs_err)
    known = math.isfinite(found.trace) and math.isfinite(half_width(found))
    narrow = not asked or half_width(found) <= max(asked) * _SLACK
    return found.outcome is Outcome.CONVERGED and known and narrow


def trace_sentence(found: TraceEstimate) -> str:
    """Say how a trace ended."""
    width = "interval" if found.is_interval else "estimated error"
    narrow = "as narrow as asked" if found.is_interval else "as small as asked"
    if not trace_met(found):
        return _stopped(found.outcome, f"the {width} was {narrow}")
    if found.method == "dense":
        return "the trace is that of the whole diagonal, up to the arithmetic"
    if found.rel_err is None and found.abs_err is None:
        return "all products that were asked for were spent"
    return f"the {width} is {narrow}"


def density_sentence(run: DensityRun) -> str:
    """Say how a density ended."""
    if run.config.get("rel_err") is not None:
        if run.outcome is Outcome.CONVERGED:
            return "all intervals are as narrow as asked"
        return _stopped(run.outcome, "all intervals were as narrow as asked")
    if run.outcome is Outcome.CONVERGED:
        if all(found.method == "dense" for found in run.estimates):
            return "every eigenvalue was computed"
        return "all probes that were asked for took all their steps"
    return _stopped(run.outcome, "all probes that were asked for had taken their steps")


def diag_met(found: DiagonalEstimate) -> bool:
    """Whether a diagonal is as exact as was asked."""
    near = found.asked is None or found.rel_err <= found.asked * _SLACK
    return found.outcome is Outcome.CONVERGED and near


def diag_sentence(found: DiagonalEstimate) -> str:
    """Say how a diagonal ended."""
    if not diag_met(found):
        return _stopped(found.outcome, "the error was as small as asked")
    if found.method == "dense":
        return "the diagonal is written out, exact up to the arithmetic"
    if found.asked is None:
        return "all products that were asked for were spent"
    return "the error is as small as asked"


def blocks_sentence(found: BlockSpectra) -> str:
    """Say how the spectra of all layers ended."""
    if found.outcome in {Outcome.CONVERGED, Outcome.FLOOR}:
        return f"{found.outcome.sentence}, in every layer"
    return f"{found.outcome.sentence}, in at least one layer"


def _stopped(outcome: Outcome, goal: str) -> str:
    return {
        Outcome.CONVERGED: "said to have converged, yet it ended before",
        Outcome.FLOOR: "stopped at the floor of the arithmetic before",
        Outcome.MAX_HVPS: "stopped at the limit of products before",
        Outcome.STAGNATED: "stopped, since more products no longer helped, before",
        Outcome.INCOMPLETE: "ended before",
        Outcome.INTERRUPTED: "interrupted before",
        Outcome.FAILED: "failed before",
    }[outcome] + f" {goal}"


def track_sentence(run: TrackRun) -> str:
    """Say how a sweep stands."""
    outcomes = [row.outcome for row in run.rows]
    parts = [
        (outcomes.count(Outcome.FAILED), "failed"),
        (outcomes.count(Outcome.INTERRUPTED), "not analysed yet"),
    ]
    closed = {Outcome.CONVERGED, Outcome.FLOOR, Outcome.FAILED, Outcome.INTERRUPTED}
    early = [outcome for outcome in outcomes if outcome not in closed]
    parts.append((len(early), "ended before every pair met the tolerance"))
    parts.append((outcomes.count(Outcome.FLOOR), "stopped at the floor of the arithmetic"))
    total = len(outcomes)
    said = "; ".join(f"{number} of {total} checkpoints {what}" for number, what in parts if number)
    return said or "every pair of every checkpoint met the tolerance"
