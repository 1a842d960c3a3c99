"""A density from its request to its record: by extremes and probes, or by the whole matrix.

Letters: P size, d deflated, n probes, k steps.

References:
    Golub, Meurant (2010); Ubaru, Chen, Saad (2017); Chen, Trogdon, Ubaru (2021), arXiv:2105.06595.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import final

import numpy as np
import torch

from curvtool.algorithms import dense as whole_matrix
from curvtool.algorithms.density.drawing import default_grid, default_sigma, padded, smoothed
from curvtool.algorithms.density.extremes import taken_out
from curvtool.algorithms.density.figures import counted, functions_of, narrowest, relative_width
from curvtool.algorithms.density.known import KnownSpectrum
from curvtool.algorithms.density.pooled import PooledSpectrum, Probed
from curvtool.algorithms.density.probing import probed, rounded_noise
from curvtool.algorithms.density.settings import ALPHA, DensitySettings
from curvtool.algorithms.density.view import View
from curvtool.algorithms.estimation import EstimateProgress, Report, silent
from curvtool.algorithms.settings import EigenSettings, Progress
from curvtool.algorithms.space import space_of
from curvtool.operators.base import BudgetExhausted, Counted, SymmetricOperator
from curvtool.random_vectors.purposes import Purpose
from curvtool.results import DensityEstimate, FloatArray, Outcome, SpectralFunction

NONE = np.zeros(0)


def density(
    operator: SymmetricOperator,
    settings: DensitySettings,
    *,
    outliers: FloatArray | None = None,
    report: Report = silent,
) -> DensityEstimate:
    """Take extremes out, send Gaussian probes through the rest, and say what follows.

    Args:
        operator: symmetric, of size P.
        settings: what is asked.
        outliers: eigenvalues known from elsewhere, carried to the record.
        report: told of every probe.

    Returns:
        The estimate; a probe that the products do not suffice for is dropped; where they do not
        suffice for the first, it has fewer steps. n k products beside those of d pairs (at most as
        many, or 8 d); memory is d + k + 4 vectors of P numbers, or d + 4 without
        reorthogonalization, and during the deflation that of `lanczos`.

    Raises:
        BudgetExhausted: when the operator refuses a product before the first probe is done.
        CurvtoolError: when a product is not finite.
    """
    return _Probing(operator, settings, report).run(outliers)


# Random vectors whose products are held against float64, and how much noisier others may be.
HEARD = 2


@final
class _Probing:
    """One run: its counter, what was taken out, and the probes so far."""

    def __init__(
        self, operator: SymmetricOperator, settings: DensitySettings, report: Report
    ) -> None:
        self.began = time.perf_counter()
        self.operator = Counted(operator, budget=settings.max_hvps)
        self.settings, self.report = settings, report
        self.probes: list[Probed] = []

    def run(self, outliers: FloatArray | None) -> DensityEstimate:
        s, operator = self.settings, self.operator
        P = operator.size
        self.taken = taken_out(operator, s, min(s.steps, P), report=self.report)
        self._hear()
        deflating = operator.calls
        steps = min(s.steps, P - len(self.taken.rows))
        outcome = self._sent(s.probes, steps)
        # Looks share the level, so that stopping at a lucky one is allowed for.
        looks = 1
        view = self._view(ALPHA if s.rel_err is None else ALPHA / 2)
        functions = tuple(functions_of(view, s))
        while s.rel_err is not None and _widest(functions) > s.rel_err:
            if outcome is not Outcome.CONVERGED:
                break
            if narrowest(view, s) > s.rel_err:
                outcome = Outcome.STAGNATED
                break
            looks += 1
            outcome = self._sent(2 * len(self.probes), steps)
            view = self._view(ALPHA / (looks * (looks + 1)))
            functions = tuple(functions_of(view, s))
        rules = [found.recurrence.gauss for found in self.probes]
        found = _described(
            view,
            replace(s, probes=len(self.probes)),
            padded([nodes for nodes, _ in rules], np.nan),
            padded([weights for _, weights in rules], 0.0),
            np.array([found.square for found in self.probes]),
            np.array([found.recurrence.beta_k[-1] for found in self.probes]),
            self.taken.extremes.values,
            self.taken.extremes.errors,
            functions,
        )
        return replace(
            found,
            method="probes",
            outliers=NONE if outliers is None else outliers,
            outcome=outcome,
            hvps=operator.calls,
            hvps_by_stage={"deflate": deflating, "probe": operator.calls - deflating},
            seconds=time.perf_counter() - self.began,
            noise=self.taken.noise,
        )

    def _hear(self) -> None:
        """Measure the noise of products of random vectors, which no extreme pair may tell."""
        operator, reference = self.operator, self.settings.reference
        if reference is None or operator.dtype == torch.float64 or operator.left < 2 * HEARD:
            return
        space = space_of(operator)
        for j in range(HEARD):
            z_P = space.normal(Purpose.ELSEWHERE, j, seed=self.settings.seed)
            exact_P = reference.matvec(z_P.double())
            apart = float(space.norm(operator.matvec(z_P).double() - exact_P))
            operator.calls += 1  # the reference's
            size = float(space.norm(exact_P))
            if size:
                noise = max(self.taken.noise, HEARD * apart / size)
                self.taken = replace(self.taken, noise=noise)

    def _sent(self, number: int, steps: int) -> Outcome:
        """Send probes until there are so many, or the products are spent."""
        operator = self.operator
        k = steps if self.probes else int(min(steps, operator.left))
        expected = operator.calls + k * (number - len(self.probes))
        while len(self.probes) < number:
            if operator.left < max(k, 1):
                break
            try:
                self.probes.append(self._one(k))
            except BudgetExhausted:
                break
            self.report(
                EstimateProgress(
                    stage="probe", hvps=operator.calls, max_hvps=expected, ratio=math.inf
                )
            )
        if not self.probes:
            raise BudgetExhausted
        done = len(self.probes) >= number and k == steps
        return Outcome.CONVERGED if done else Outcome.MAX_HVPS

    def _one(self, steps: int) -> Probed:
        known = np.abs(self.taken.extremes.values).max(initial=0.0)
        return probed(
            self.operator,
            self.taken.rows,
            len(self.probes),
            steps=steps,
            seed=self.settings.seed,
            basis=self.settings.reorthogonalize,
            noise=rounded_noise(self.taken.noise, self.operator.dtype) * float(known),
        )

    def _view(self, alpha: float) -> PooledSpectrum:
        dtype = self.operator.dtype
        return PooledSpectrum(
            self.operator.size,
            self.taken.extremes,
            self.probes,
            noise=rounded_noise(self.taken.noise, dtype),
            alpha=alpha,
            orthogonal=self.settings.reorthogonalize,
            rounding=rounded_noise(0.0, dtype),
        )


def exact_density(
    operator: SymmetricOperator,
    settings: DensitySettings,
    *,
    outliers: FloatArray | None = None,
    report: Report = silent,
) -> DensityEstimate:
    """Write the matrix out: every eigenvalue, for P products and a few.

    Args:
        operator: symmetric, of size P, whose vectors are whole ones.
        settings: what is asked; steps, probes and deflation are not consulted.
        outliers: eigenvalues known from elsewhere, carried to the record.
        report: told of every product.

    Returns:
        The estimate, whose errors are those of the arithmetic. Memory about 5 P^2 numbers.
    """

    def told(progress: Progress) -> None:
        report(
            EstimateProgress(
                stage="dense", hvps=progress.hvps, max_hvps=progress.max_hvps, ratio=math.inf
            )
        )

    asked = EigenSettings(
        k=operator.size,
        noise=settings.certifying,
        reference=settings.reference,
        seed=settings.seed,
    )
    pairs = whole_matrix.dense(operator, asked, report=told)
    order = np.argsort(pairs.eigenvalues)
    values, errors = pairs.eigenvalues[order], pairs.eigenvalue_errors[order]
    view = KnownSpectrum(values, errors)
    found = _described(
        view,
        settings,
        values[None],
        np.full((1, len(values)), 1 / len(values)),
        np.array([float(len(values))]),
        np.zeros(1),
        NONE,
        NONE,
        tuple(functions_of(view, settings)),
    )
    return replace(
        found,
        method="dense",
        reorthogonalized=True,
        outliers=NONE if outliers is None else outliers,
        hvps=pairs.hvps,
        hvps_by_stage={"dense": pairs.hvps},
        seconds=pairs.seconds,
        noise=pairs.noise,
    )


def _widest(functions: tuple[SpectralFunction, ...]) -> float:
    """The largest half-width over its middle."""
    return max(
        (relative_width(*found.interval) for found in functions if found.interval), default=0.0
    )


def _described(
    view: View,
    settings: DensitySettings,
    nodes: FloatArray,
    weights: FloatArray,
    squares: FloatArray,
    couplings: FloatArray,
    deflated: FloatArray,
    deflated_errors: FloatArray,
    functions: tuple[SpectralFunction, ...],
) -> DensityEstimate:
    """All that a record says of the spectrum itself."""
    counts = counted(view, settings)
    drawn = np.concatenate([deflated, nodes[np.isfinite(nodes)]])
    sigma = settings.sigma or default_sigma(drawn, min(settings.steps, nodes.shape[1]))
    grid = default_grid(drawn, sigma, settings.points)
    share_n = squares / squares.sum()
    return DensityEstimate(
        nodes=nodes,
        weights=weights,
        squared_lengths=squares,
        couplings=couplings,
        deflated=deflated,
        deflated_errors=deflated_errors,
        grid=grid,
        density=smoothed(nodes, weights, share_n, deflated, view.size, grid, sigma),
        cumulative_interval=view.below(grid),
        sigma=sigma,
        size=view.size,
        ends=view.ends,
        reorthogonalized=settings.reorthogonalize,
        zero_band=counts.band,
        least_level=view.least_level,
        count_interval=counts.interval,
        levels=counts.beyond.levels,
        beyond_interval=np.stack([counts.beyond.negative, counts.beyond.positive]),
        functions=functions,
        confidence=1 - ALPHA,
        method="",
        outliers=NONE,
        outcome=Outcome.CONVERGED,
        hvps=0,
        hvps_by_stage={},
        seconds=0.0,
        noise=0.0,
    )
