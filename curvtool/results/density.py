"""A spectral density, and what functions of the spectrum follow from its nodes.

Letters: n probes, m steps, g points of the grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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

    def below(self, x: float) -> tuple[float, float]:
        """Least and most share of the spectrum below x that the nodes allow, mean over probes.

        The standard error over probes says nothing of where between its nodes a quadrature's mass
        lies: of 1,568 eigenvalues of a trained layer 17.6 % were negative, 4.4 +- 0.4 % by the
        weights of negative nodes. With k nodes below x the measure has below it at least the
        weights of the first k - 1 and at most those of the first k + 1.

        Args:
            x: not NaN.

        Returns:
            Both, between 0 and 1; without the error of the probes.

        References:
            Chebyshev, Markov, Stieltjes: Szegoe, Orthogonal Polynomials, theorem 3.41.1.
        """
        order = np.argsort(self.nodes, axis=1)  # NaN last, with weights of 0
        nodes = np.take_along_axis(self.nodes, order, axis=1)
        sums = np.cumsum(np.take_along_axis(self.weights, order, axis=1), axis=1)
        sums = np.pad(sums, ((0, 0), (2, 1)), mode="edge")
        sums[:, :2] = 0.0  # column k + 1 is the sum of the first k
        before = (nodes < x).sum(axis=1)
        row = np.arange(len(nodes))
        return float(sums[row, before].mean()), float(min(1.0, sums[row, before + 2].mean()))

    @property
    def allowed(self) -> tuple[tuple[float, float], tuple[float, float], tuple[float, float]]:
        """As `below`: the shares below -tau, within tau of zero, and above tau."""
        (least, most), (less, more) = self.below(-self.tau), self.below(self.tau)
        return (least, most), (max(0.0, less - most), more - least), (1 - more, 1 - less)


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
