"""Eigenpairs one after the other by deflated power iteration, with momentum if asked for.

The simplest method there is, kept for comparison and for its three vectors of memory a pair;
Lanczos needs fewer products for the same answer.
Letters: P parameters, k pairs.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor

from curvtool.algorithms.krylov import KrylovDecomposition
from curvtool.algorithms.listed import Watched, certified, products_set_aside
from curvtool.algorithms.settings import EigenSettings, Progress, Report, silent
from curvtool.algorithms.space import space_of
from curvtool.operators.base import Counted, Shifted, SymmetricOperator
from curvtool.random_vectors.purposes import Purpose
from curvtool.results import EigenPairs

# Steps of the Lanczos that locates the far end of the spectrum, for LA and SA.
RANGE_STEPS = 10


def power_iteration(
    operator: SymmetricOperator, settings: EigenSettings, *, report: Report = silent
) -> EigenPairs:
    """Eigenpairs by power iteration on the operator deflated by those found before.

    x <- A x - beta x_before, beta = momentum theta^2 / 4 with theta the Rayleigh quotient x' A x,
    taken before anything is subtracted. For LA and SA the operator is shifted by its far end, so
    that the wanted end has the largest magnitude. A pair is left when its residual norm meets
    the tolerance.

    Args:
        operator: symmetric operator of size P.
        settings: what is asked; `which` is LM, LA or SA and 0 <= momentum < 1.
        report: told of every step.

    Returns:
        The pairs, each certified by a product of its own. One product an iteration. Memory is
        k + 6 vectors of P numbers.

    Raises:
        ValueError: for `which` BE, a momentum outside 0..1, or k outside 1..P.

    References:
        Xu et al. (2018), Accelerated stochastic power iteration.
    """
    if settings.which == "BE":
        raise ValueError("power_iteration serves LM, LA and SA; got which = 'BE'.")
    if not 0 <= settings.momentum < 1:
        raise ValueError(f"power_iteration needs 0 <= momentum < 1, got {settings.momentum}.")
    if not 1 <= settings.k <= operator.size:
        raise ValueError(f"power_iteration needs 1 <= k <= {operator.size}, got {settings.k}.")
    began = time.perf_counter()
    counted = Counted(operator, budget=settings.max_hvps)
    watched = Watched(counted)
    shift = _far_end(watched, settings)
    moved: SymmetricOperator = Shifted(watched, by=-shift) if shift else watched
    space = space_of(operator)
    Y_kP = space.empty(settings.k)
    history: dict[str, list[float]] = {"hvps": [], "pair": [], "residual_norm": []}
    found = 0
    while found < settings.k:
        start = space.orthonormal_start(
            Y_kP[:found], Purpose.POWER_START, found, seed=settings.seed
        )
        assert start is not None
        reached = _iterate(
            moved,
            counted,
            watched,
            Y_kP[:found],
            start,
            settings,
            shift=shift,
            history=history,
            report=report,
        )
        if reached is None:
            break
        Y_kP[found] = reached
        found += 1
    return certified(
        counted,
        watched,
        Y_kP[:found],
        settings,
        method="power",
        began=began,
        spent=counted.left <= products_set_aside(settings.k, operator.size),
        proves_nothing="power iteration proves nothing of what it does not list",
        history={name: np.array(series) for name, series in history.items()},
    )


def _far_end(operator: Watched, settings: EigenSettings) -> float:
    """A shift that gives the wanted end of the spectrum the largest magnitude."""
    if settings.which == "LM":
        return 0.0
    left = settings.max_hvps - products_set_aside(settings.k, operator.size)
    krylov = KrylovDecomposition(operator, limit=max(1, min(RANGE_STEPS, left)))
    start = krylov.space.orthonormal_start(krylov.rows, Purpose.POWER_EDGES, seed=settings.seed)
    assert start is not None
    krylov.inject(start)
    while not krylov.full and not krylov.closed:
        krylov.expand()
    theta, _, rho = krylov.ritz()
    return float((theta - rho).min()) if settings.which == "LA" else float((theta + rho).max())


def _iterate(
    operator: SymmetricOperator,
    counted: Counted,
    watched: Watched,
    found: Tensor,
    x_P: Tensor,
    settings: EigenSettings,
    *,
    shift: float,
    history: dict[str, list[float]],
    report: Report,
) -> Tensor | None:
    """Iterate to one pair; None when the products that are not set aside are spent."""
    space = space_of(operator)
    before_P = torch.zeros_like(x_P)
    reserve = products_set_aside(settings.k, operator.size)
    best: Tensor | None = None
    while counted.left > reserve:
        w_P = operator.matvec(x_P)
        w_P, _ = space.orthogonalized(found, w_P)
        quotient = space.inner_products(x_P.unsqueeze(0), w_P)[0]
        residual = float(space.norm(w_P - quotient.to(w_P.dtype) * x_P))
        theta = float(quotient)
        # Half, since what deflation leaves out is added when the pairs are certified.
        allowed = 0.5 * max(
            settings.tol * abs(theta + shift), 2 * settings.noise * max(watched.scale, abs(theta))
        )
        history["hvps"].append(counted.calls)
        history["pair"].append(len(found))
        history["residual_norm"].append(residual)
        report(
            Progress(
                stage="solve",
                hvps=counted.calls,
                max_hvps=settings.max_hvps,
                converged=len(found),
                wanted=settings.k,
                worst=residual / allowed if allowed else 0.0,
            )
        )
        best = x_P
        if residual <= allowed:
            return best
        w_P = w_P - (settings.momentum * theta**2 / 4) * before_P
        length = space.norm(w_P).to(w_P.dtype)
        before_P, x_P = x_P / length, w_P / length
        # The deflated directions grow back from rounding, by up to theta_1 / theta an iteration.
        x_P, _ = space.orthogonalized(found, x_P)
        x_P = x_P / space.norm(x_P).to(x_P.dtype)
    return best
