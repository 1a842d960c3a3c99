"""A spectral density, and what functions of the spectrum follow from its nodes.

Letters: n probes, m steps, g points of the grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curvtool.results.outcome import FloatArray, Outcome, gravest
from curvtool.results.problem import ParameterEntry, ProblemSummary
from curvtool.results.product import Plan, Preflight


@dataclass(frozen=True, kw_only=True)
class SpectralFunction:
    """sum_i f(lambda_i) from the quadrature, with its standard error over probes.

    Attributes:
        name: e.g. `effective dimension`, `log-determinant`, `Schatten norm`, `rank`.
        parameter: of the function (a, p or the threshold); None where it has none.
        value: the estimate; None where it has no meaning (log-determinant of an indefinite H).
        stderr: over probes; None for a single probe.
        detail: a sentence: the formula, or why there is no value.
    """

    name: str
    parameter: float | None
    value: float | None
    stderr: float | None
    detail: str


@dataclass(frozen=True, kw_only=True, eq=False)
class DensityEstimate:
    """Stochastic Lanczos quadrature of the spectrum.

    Attributes:
        nodes: shape (n, m), Ritz values; NaN past the end of a Krylov space that closed early.
        weights: shape (n, m), non-negative, each row sums to 1.
        grid: shape (g,), where the density is drawn.
        density: shape (g,), Gaussians of width sigma around the nodes, mean over probes.
        density_stderr: shape (g,), over probes; NaN for a single one.
        sigma: width of the Gaussians: a choice of display.
        size: P: the density times P counts eigenvalues.
        reorthogonalized: whether the Krylov bases were kept orthogonal; where not, W1 is 2 to 10
            times larger.
        tau: width of what counts as zero: 10 delta |theta_1|.
        negative_mass: share of the spectrum below -tau.
        negative_mass_stderr: over probes; NaN for a single one.
        functions: of the spectrum.
        outliers: eigenvalues from a spectrum run, drawn over the density; empty where none.
        layer: name of the block; empty for the whole.
    """

    nodes: FloatArray
    weights: FloatArray
    grid: FloatArray
    density: FloatArray
    density_stderr: FloatArray
    sigma: float
    size: int
    probes: str
    reorthogonalized: bool
    tau: float
    negative_mass: float
    negative_mass_stderr: float
    functions: Sequence[SpectralFunction]
    outliers: FloatArray
    outcome: Outcome
    hvps: int
    seconds: float
    noise: float
    layer: str = ""


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
    def solve_seconds(self) -> float:
        """Time of all estimates."""
        return sum(found.seconds for found in self.estimates)
