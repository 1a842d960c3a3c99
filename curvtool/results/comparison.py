"""Runs that solve nothing: a check of the product, a comparison of the ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curvtool.results.outcome import Outcome
from curvtool.results.problem import ParameterEntry, ProblemSummary
from curvtool.results.product import Plan, Preflight, WayTrial


@dataclass(frozen=True, kw_only=True, eq=False)
class CheckRun:
    """What `check` shows: the problem, whether its product is right, and the plan of a solve."""

    problem: ProblemSummary
    plan: Plan
    preflight: Preflight
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    seconds: float
    version: str
    created: str


@dataclass(frozen=True, kw_only=True, eq=False)
class BenchRun:
    """A whole `bench` run: every way to make a product, on this model and machine.

    Attributes:
        trials: one for each way, in the order of `--help`.
        gradient_seconds: median of one gradient of the batches that were timed.
        batches_timed: of `problem.num_batches`; seconds are those of so many.
        rounds: interleaved repetitions that the medians are of.
        threads: that torch computed with.
        device: e.g. `cpu` or `cuda:0`.
        dtype: of parameters and vectors.
        outcome: how the comparison ended.
    """

    problem: ProblemSummary
    trials: Sequence[WayTrial]
    gradient_seconds: float
    batches_timed: int
    rounds: int
    threads: int
    device: str
    dtype: str
    outcome: Outcome
    preflight: Preflight
    parameters: Sequence[ParameterEntry]
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    seconds: float
    version: str
    created: str
