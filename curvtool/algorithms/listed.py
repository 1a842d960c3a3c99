"""Certify pairs that a method lists without a Krylov decomposition to vouch for them.

Power iteration and SciPy's solvers hand over vectors. Each pair is recomputed by a product of its
own, and a probe looks for what the list lacks.
Letters: P parameters, k pairs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curvtool.algorithms.completeness import PROBE_STEPS, ProbeResult, Seen, probe
from curvtool.algorithms.linalg import rotate_rows
from curvtool.algorithms.ritz import beyond, gaps, shortfall, value_bounds, wanted
from curvtool.algorithms.settings import EigenSettings
from curvtool.algorithms.space import space_of
from curvtool.operators.base import Counted, SymmetricOperator, Wrapper
from curvtool.results import Certification, Completeness, EigenPairs, FloatArray, Outcome


@final
class Watched(Wrapper):
    """An operator that remembers the largest |A v| / |v| it has seen, a lower bound of |A|."""

    def __init__(self, inner: SymmetricOperator) -> None:
        self.inner = inner
        self.space = space_of(inner)
        self._largest = torch.zeros((), dtype=torch.float64, device=inner.device)

    @property
    def scale(self) -> float:
        """The largest ratio so far; waits for the device."""
        return float(self._largest)

    def matvec(self, v_P: Tensor, /) -> Tensor:
        """One product of the inner operator."""
        Av_P = self.inner.matvec(v_P)
        ratio = self.space.norm(Av_P) / self.space.norm(v_P).clamp_min(
            torch.finfo(torch.float64).tiny
        )
        self._largest = torch.maximum(self._largest, ratio)
        return Av_P


def products_set_aside(k: int, size: int) -> int:
    """Products that `certified` needs: one a pair, and the probe's."""
    return k + min(PROBE_STEPS, max(size - k, 0))


def certified(
    operator: Counted,
    watched: Watched,
    Y_kP: Tensor,
    settings: EigenSettings,
    *,
    method: str,
    began: float,
    spent: bool,
    history: Mapping[str, FloatArray] | None = None,
) -> EigenPairs:
    """Turn vectors into pairs with bounds; costs k products and a probe of about ten.

    Args:
        operator: H with its count and budget; `watched` counts through it.
        watched: the same operator, with the scale seen so far.
        Y_kP: orthonormal rows, at most `settings.k` of them; fewer when the method gave up.
        settings: what was asked.
        method: its name.
        began: `time.perf_counter()` at the start.
        history: series of the solve.
        spent: whether the method stopped because its products were spent.

    Returns:
        The pairs in the order of `settings.which`. A pair outside the list may be as near as the
        edge of the list, which limits the quadratic bound.
    """
    solve = operator.calls
    theta, rho, Y_kP = _rayleigh_ritz(watched, Y_kP, settings)
    certify = operator.calls - solve
    largest = max(watched.scale, float(np.abs(theta).max(initial=0)))
    complete = len(theta) == operator.size
    gap = gaps(theta, rho)
    if len(theta) and not complete:
        # What is not listed lies between these edges, as far as the list is complete.
        low, high = beyond(theta, settings.which, margin=rho)
        gap = np.minimum(gap, np.maximum(np.maximum(low - theta, theta - high), 0.0))
    if len(theta) < settings.k:
        gap = np.zeros_like(gap)  # a list with holes says nothing of what is not listed

    def judged() -> tuple[FloatArray, NDArray[np.bool_]]:
        bound = value_bounds(rho, gap, noise=settings.noise, largest=largest)
        ratio = shortfall(theta, bound, rho, settings, noise=settings.noise, largest=largest)
        return bound, ratio <= 1

    bound, met = judged()
    all_met = len(theta) == settings.k and bool(met.all())
    completeness = Completeness.EXHAUSTIVE if complete else Completeness.NOT_PROBED
    if all_met and not complete and operator.left >= min(PROBE_STEPS, operator.size - len(theta)):
        seen = _probed(watched, Seen(Y_kP, theta, rho, gap), bound, settings)
        completeness = Completeness.PROBED if seen.missing is None else Completeness.MISSING
        gap = np.where(seen.crowded, 0.0, gap)
        bound, met = judged()
        all_met = bool(met.all())
    outcome = Outcome.MAX_HVPS if spent or all_met else Outcome.STAGNATED
    if completeness is Completeness.MISSING:
        outcome = Outcome.INCOMPLETE
    elif all_met and completeness is not Completeness.NOT_PROBED:
        outcome = Outcome.CONVERGED
    return EigenPairs(
        eigenvalues=theta,
        residual_norms=rho + settings.noise * largest,
        eigenvalue_errors=bound,
        converged=met,
        outcome=outcome,
        completeness=completeness,
        certification=Certification.FULL,
        which=settings.which,
        method=method,
        tol=settings.tol,
        accuracy=settings.accuracy,
        hvps=operator.calls,
        hvps_by_stage={
            "solve": solve,
            "certify": certify,
            "probe": operator.calls - solve - certify,
        },
        seconds=time.perf_counter() - began,
        noise=settings.noise,
        history=dict(history or {}),
        eigenvectors=Y_kP if settings.vectors else None,
    )


def _rayleigh_ritz(
    operator: Watched, Y_kP: Tensor, settings: EigenSettings
) -> tuple[FloatArray, FloatArray, Tensor]:
    """The best pairs that the rows span, by a product for every row; 2 k vectors of memory."""
    if not len(Y_kP):
        return np.empty(0), np.empty(0), Y_kP
    HY_kP = torch.stack([operator.matvec(row) for row in Y_kP])
    G = torch.stack([operator.space.inner_products(Y_kP, row) for row in HY_kP]).cpu().numpy()
    theta, S = operator.space.agreed(np.linalg.eigh((G + G.T) / 2))
    order = wanted(theta, settings.which, len(theta))
    theta, S = theta[order], np.ascontiguousarray(S[:, order])
    rotation = torch.from_numpy(S)
    rotate_rows(Y_kP, rotation)
    rotate_rows(HY_kP, rotation)
    # In double, for theta y and H y cancel to many digits.
    rho = [
        float(operator.space.norm(Hy.double() - value * y.double()))
        for value, y, Hy in zip(theta, Y_kP, HY_kP, strict=True)
    ]
    return theta, np.array(rho), Y_kP


def _probed(
    operator: Watched, seen: Seen, bound: FloatArray, settings: EigenSettings
) -> ProbeResult:
    low, high = beyond(seen.theta, settings.which, margin=bound)
    steps = min(PROBE_STEPS, operator.size - len(seen.theta))
    scratch = operator.space.empty(steps)
    return probe(
        operator, seen, scratch, low=low, high=high, steps=steps, seed=settings.seed, stream=0
    )
