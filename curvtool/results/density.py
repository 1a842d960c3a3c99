"""A spectral density, and what is known of counts and functions of the spectrum.

Letters: P size, d deflated, n probes, k steps, g points of the grid, t levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curvtool.results.outcome import FloatArray, Outcome, gravest
from curvtool.results.problem import ParameterEntry, ProblemSummary
from curvtool.results.product import Plan, Preflight

# Rows of `count_interval`.
SIDES = ("negative", "undetermined", "positive", "rank")
NEGATIVE, UNDETERMINED, POSITIVE, RANK = range(4)


@dataclass(frozen=True, kw_only=True)
class SpectralFunction:
    """sum_i f(lambda_i), or what follows from it, with an interval.

    Attributes:
        name: e.g. `trace`, `effective dimension`, `log-determinant`, `Schatten norm`.
        parameter: of the function (a or p); None where it has none.
        value: the estimate, within the interval; None where it has no meaning (log-determinant of
            an indefinite H).
        interval: that holds the truth with the confidence of the estimate; None where there is no
            value, or where nothing was proved (a file of an earlier version).
        detail: the formula, or a sentence that says why there is no value.
    """

    name: str
    parameter: float | None
    value: float | None
    interval: tuple[float, float] | None
    detail: str


@dataclass(frozen=True, kw_only=True, eq=False)
class DensityEstimate:
    """Extreme eigenvalues, and a quadrature of the rest of the spectrum.

    Attributes:
        nodes: shape (n, k), Ritz values of the rest; NaN past the end of a Krylov space that
            closed early. All P eigenvalues in one row where the matrix was written out.
        weights: shape (n, k), non-negative, each row sums to 1.
        squared_lengths: shape (n,), |v|^2 of each probe: its share in means.
        couplings: shape (n,), the last beta of each recurrence.
        deflated: shape (d,), eigenvalues that were taken out, by magnitude.
        deflated_errors: shape (d,).
        grid: shape (g,), where the density is drawn.
        density: shape (g,), Gaussians of width sigma around nodes and deflated: for display.
        cumulative_interval: shape (g, 2), of how many eigenvalues are at most the grid's; None in
            a file of an earlier version.
        sigma: width of the Gaussians: a choice of display.
        size: P: the density times P counts eigenvalues.
        ends: between which all eigenvalues lie (of probes: but for 0.1 % at each end).
        reorthogonalized: whether the Krylov bases were kept orthogonal.
        zero_band: t: the sign of what lies within -t..t is not known.
        least_level: what lies nearer to zero cannot be told from it: the least band.
        count_interval: shape (4, 2), rows as in `SIDES`; None in a file of an earlier version.
        levels: shape (t,), rising.
        beyond_interval: shape (2, t, 2): of how many eigenvalues lie below minus each level, and
            above it.
        functions: of the spectrum.
        confidence: of every interval by itself.
        method: `probes`, or `dense` where the matrix was written out.
        outliers: eigenvalues from a spectrum run, drawn with the density; empty where none.
        layer: name of the block; empty for the whole.
    """

    nodes: FloatArray
    weights: FloatArray
    squared_lengths: FloatArray
    couplings: FloatArray
    deflated: FloatArray
    deflated_errors: FloatArray
    grid: FloatArray
    density: FloatArray
    cumulative_interval: FloatArray | None
    sigma: float
    size: int
    ends: tuple[float, float]
    reorthogonalized: bool
    zero_band: float
    least_level: float
    count_interval: FloatArray | None
    levels: FloatArray
    beyond_interval: FloatArray
    functions: Sequence[SpectralFunction]
    confidence: float
    method: str
    outliers: FloatArray
    outcome: Outcome
    hvps: int
    hvps_by_stage: Mapping[str, int]
    seconds: float
    noise: float
    layer: str = ""

    @property
    def proved(self) -> bool:
        """Whether its intervals are ones: those of earlier versions were errors of probes alone."""
        return self.count_interval is not None


@dataclass(frozen=True, kw_only=True, eq=False)
class DensityRun:
    """A whole `density` run; with `--per-layer` an estimate for each layer, else one."""

    estimates: Sequence[DensityEstimate]
    problem: ProblemSummary
    plan: Plan
    preflight: Preflight
    parameters: Sequence[ParameterEntry]
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    seconds: float
    version: str
    created: str

    @property
    def outcome(self) -> Outcome:
        """How the whole ended: converged only where every estimate did."""
        return gravest(found.outcome for found in self.estimates)

    @property
    def hvps(self) -> int:
        """Products of all estimates."""
        return sum(found.hvps for found in self.estimates)

    @property
    def hvps_by_stage(self) -> dict[str, int]:
        """The same, by what they were spent on."""
        stages: dict[str, int] = {}
        for found in self.estimates:
            for stage, number in found.hvps_by_stage.items():
                stages[stage] = stages.get(stage, 0) + number
        return stages

    @property
    def solve_seconds(self) -> float:
        """Time of all estimates."""
        return sum(found.seconds for found in self.estimates)
