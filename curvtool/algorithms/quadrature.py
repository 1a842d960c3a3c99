"""Stochastic Lanczos quadrature: the spectrum as nodes and weights.

For a probe z with |z|^2 = P, z'f(H)z / P is the integral of f over a measure that Lanczos turns
into m nodes and weights, exact for polynomials of degree 2m - 1; its mean over probes is the
spectrum's.

Letters: P size, n probes, m steps, g points of the grid.

References:
    Golub, Meurant (2010); Ubaru, Chen, Saad (2017); Chen, Trogdon, Ubaru (2021), arXiv:2105.06595.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import final

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from curvtool.algorithms.deflation import NOT_FINITE
from curvtool.algorithms.estimation import EstimateProgress, Report, silent
from curvtool.algorithms.krylov import KrylovDecomposition
from curvtool.algorithms.space import space_of
from curvtool.errors import CurvtoolError
from curvtool.operators.base import BudgetExhausted, Counted, SymmetricOperator
from curvtool.operators.recording import remembered
from curvtool.random_vectors.purposes import Purpose
from curvtool.random_vectors.streams import Kind
from curvtool.results import DensityEstimate, FloatArray, Outcome

# Eigenvalues below -tau count as negative: the bulk sits at zero, where the product's noise is
# delta |theta_1|.
TAU = 10.0
# Standard deviations of the Gaussians that the grid goes beyond the outermost nodes.
MARGIN = 5.0


@final
@dataclass(frozen=True, kw_only=True)
class DensitySettings:
    """A request for a spectral density.

    Attributes:
        steps: m, Lanczos steps of a probe.
        probes: n.
        kind: of the probes.
        reorthogonalize: keep the Krylov basis orthogonal, for m vectors of P numbers; else a
            recurrence of three vectors, whose nodes come in copies that share their weight.
        sigma: width of the Gaussians; None takes the spectrum's range over 2 m.
        points: g.
        max_hvps: products that may be spent.
        seed: of the probes.
        noise: delta, the relative error of one product.
    """

    steps: int = 80
    probes: int = 10
    kind: Kind = "rademacher"
    reorthogonalize: bool = True
    sigma: float | None = None
    points: int = 1024
    max_hvps: int = 10_000
    seed: int = 0
    noise: float

    def __post_init__(self) -> None:
        for name, value in (
            ("steps", self.steps),
            ("probes", self.probes),
            ("points", self.points),
            ("max_hvps", self.max_hvps),
        ):
            if value < 1:
                raise ValueError(f"DensitySettings needs {name} >= 1, got {value}.")
        if self.sigma is not None and not self.sigma > 0:
            raise ValueError(f"DensitySettings needs sigma > 0 or None, got {self.sigma}.")


def density(
    operator: SymmetricOperator,
    settings: DensitySettings,
    *,
    outliers: FloatArray | None = None,
    report: Report = silent,
) -> DensityEstimate:
    """Nodes and weights of every probe, and the density drawn from them.

    Args:
        operator: symmetric, of size P.
        settings: what is asked.
        outliers: eigenvalues known from elsewhere, carried to the record.
        report: told of every probe.

    Returns:
        The estimate; a probe that the products do not suffice for is dropped; where they do
        not suffice for the first, it has fewer steps. n m products; memory is m + 4 vectors of P
        numbers, or 5 without reorthogonalization.

    Raises:
        BudgetExhausted: when the operator refuses a product before the first probe is done.
        CurvtoolError: when a product is not finite.
    """
    began = time.perf_counter()
    s = settings
    m = min(s.steps, operator.size, s.max_hvps)
    counted = Counted(operator, budget=s.max_hvps)
    rows: list[tuple[FloatArray, FloatArray]] = []
    outcome = Outcome.CONVERGED
    for i in range(s.probes):
        if counted.left < m:
            outcome = Outcome.MAX_HVPS
            break
        try:
            rows.append(_probed(counted, s, m, i))
        except BudgetExhausted:
            outcome = Outcome.MAX_HVPS
            break
        report(
            EstimateProgress(
                stage="probe",
                hvps=counted.calls,
                max_hvps=min(s.max_hvps, m * s.probes),
                ratio=math.inf,
            )
        )
    if not rows:
        raise BudgetExhausted
    if m < min(s.steps, operator.size):
        outcome = Outcome.MAX_HVPS
    nodes, weights = _padded(rows)
    largest = float(np.nanmax(np.abs(nodes)))
    tau = TAU * s.noise * largest
    sigma = s.sigma or default_sigma(nodes, m)
    grid = default_grid(nodes, sigma, s.points)
    curves = smoothed(nodes, weights, grid, sigma)
    below = np.where(nodes < -tau, weights, 0.0).sum(axis=1)
    return DensityEstimate(
        nodes=nodes,
        weights=weights,
        grid=grid,
        density=curves.mean(axis=0),
        density_stderr=standard_error(curves),
        sigma=sigma,
        size=operator.size,
        probes=s.kind,
        reorthogonalized=s.reorthogonalize,
        tau=tau,
        negative_mass=float(below.mean()),
        negative_mass_stderr=float(standard_error(below)),
        functions=(),
        outliers=np.zeros(0) if outliers is None else outliers,
        outcome=outcome,
        hvps=counted.calls,
        seconds=time.perf_counter() - began,
        noise=s.noise,
    )


def standard_error(values: FloatArray) -> FloatArray:
    """Of the mean over the first axis; NaN for a single one."""
    n = len(values)
    if n < 2:
        return np.full(values.shape[1:], np.nan)
    return np.asarray(values.std(axis=0, ddof=1) / math.sqrt(n))


def default_sigma(nodes: FloatArray, steps: int) -> float:
    """Range of the nodes over 2 m, about their distance from each other; positive always."""
    low, high = float(np.nanmin(nodes)), float(np.nanmax(nodes))
    scale = max(abs(low), abs(high)) or 1.0
    return max((high - low) / (2 * steps), 1e-3 * scale)


def default_grid(nodes: FloatArray, sigma: float, points: int) -> FloatArray:
    """Evenly spaced, and beyond the outermost nodes by 5 sigma: shape (g,)."""
    margin = MARGIN * sigma
    return np.linspace(float(np.nanmin(nodes)) - margin, float(np.nanmax(nodes)) + margin, points)


def smoothed(nodes: FloatArray, weights: FloatArray, grid: FloatArray, sigma: float) -> FloatArray:
    """A Gaussian of width sigma around every node.

    Args:
        nodes: shape (n, m), NaN where there is none.
        weights: shape (n, m).
        grid: shape (g,).
        sigma: positive.

    Returns:
        Shape (n, g), a density for each probe; its integral is 1 but for what lies off the grid.
    """
    curves = np.empty((len(nodes), len(grid)))
    for i, (row, weight) in enumerate(zip(nodes, weights, strict=True)):
        there = np.isfinite(row)
        apart = (grid[:, None] - row[there]) / sigma
        bells = np.exp(-0.5 * apart**2) / (sigma * math.sqrt(2 * math.pi))
        curves[i] = bells @ weight[there]
    return curves


def _probed(
    operator: Counted, settings: DensitySettings, m: int, i: int
) -> tuple[FloatArray, FloatArray]:
    before = operator.calls

    def made() -> list[FloatArray]:
        theta, weight = _gauss(operator, settings, m, i)
        return [theta, weight, np.array([operator.calls - before])]

    # The vectors of a probe that is done are not needed any more.
    basis = "with" if settings.reorthogonalize else "without"
    key = f"probe {i} of {m} steps {basis} basis, size {operator.size}"
    theta, weight, spent = remembered(operator, key, made)
    operator.calls = before + int(spent[0])
    return theta, weight


def _gauss(
    operator: Counted, settings: DensitySettings, m: int, i: int
) -> tuple[FloatArray, FloatArray]:
    space = space_of(operator)
    z_P = space.probe(settings.kind, Purpose.QUADRATURE, i, seed=settings.seed)
    gauss = gauss_rule if settings.reorthogonalize else gauss_rule_without_basis
    return gauss(operator, z_P, m)


def gauss_rule(
    operator: SymmetricOperator, start_P: Tensor, steps: int
) -> tuple[FloatArray, FloatArray]:
    """Nodes and weights of the measure that z'f(H)z / z'z integrates over.

    Args:
        operator: symmetric, of size P.
        start_P: z, not zero.
        steps: m, at most P.

    Returns:
        Ritz values and squared first components, fewer than m where the Krylov space closes.
        One product a step; memory is m + 4 vectors of P numbers.

    Raises:
        CurvtoolError: when a product is not finite.
    """
    krylov = KrylovDecomposition(operator, limit=steps)
    krylov.inject(start_P)
    while not krylov.full and not krylov.closed:
        krylov.expand()
    theta, S, _ = krylov.ritz()
    return theta, S[0] ** 2


def gauss_rule_without_basis(
    operator: SymmetricOperator, start_P: Tensor, steps: int
) -> tuple[FloatArray, FloatArray]:
    """The same by the three-term recurrence, which forgets: copies of a node share its weight.

    Args:
        operator: symmetric, of size P.
        start_P: z, not zero.
        steps: m.

    Returns:
        Nodes and weights. One product and two waits for the device a step; memory is 4 vectors.

    Raises:
        CurvtoolError: when a product is not finite.

    References:
        Paige (1976); Greenbaum (1989): a perturbed recurrence is an exact one of a matrix whose
        eigenvalues are clustered around those of H.
    """
    space = space_of(operator)
    eps = torch.finfo(operator.dtype).eps
    v_P = start_P / space.norm(start_P).to(operator.dtype)
    before_P = torch.zeros_like(v_P)
    alphas: list[float] = []
    betas: list[float] = []
    scale = 0.0
    while True:
        w_P = operator.matvec(v_P)
        if betas:
            w_P.sub_(before_P, alpha=betas[-1])
        alpha = float(space.inner_products(v_P[None], w_P)[0])
        w_P.sub_(v_P, alpha=alpha)
        beta = float(space.norm(w_P))
        if not math.isfinite(alpha + beta):
            raise CurvtoolError(NOT_FINITE)
        alphas.append(alpha)
        scale = max(scale, abs(alpha) + beta)
        if len(alphas) == steps or beta <= 10 * eps * scale:
            break
        betas.append(beta)
        before_P, v_P = v_P, w_P / beta
    theta, S = scipy.linalg.eigh_tridiagonal(np.array(alphas), np.array(betas))
    return theta, S[0] ** 2


def _padded(rows: list[tuple[FloatArray, FloatArray]]) -> tuple[FloatArray, FloatArray]:
    """Rows of one length: nodes NaN and weights 0 past the end of a shorter one."""
    m = max(len(theta) for theta, _ in rows)
    nodes, weights = np.full((len(rows), m), np.nan), np.zeros((len(rows), m))
    for i, (theta, weight) in enumerate(rows):
        nodes[i, : len(theta)] = theta
        weights[i, : len(theta)] = weight / weight.sum()
    return nodes, weights
