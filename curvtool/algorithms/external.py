"""SciPy's eigensolvers over the adapter, their answers certified like our own.

Letters: P parameters, k pairs.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigsh, lobpcg
from torch import Tensor

from curvtool.algorithms.listed import Watched, certified, products_set_aside
from curvtool.algorithms.settings import EigenSettings, Progress, Report, silent
from curvtool.operators.adapters import as_linear_operator
from curvtool.operators.base import BudgetExhausted, Counted, SymmetricOperator, Wrapper
from curvtool.random_vectors import streams
from curvtool.random_vectors.purposes import Purpose
from curvtool.results import EigenPairs, FloatArray

# Gives vectors in columns, and whether it stopped because its products were spent.
_Solver = Callable[[LinearOperator, EigenSettings, int], tuple[NDArray[Any], bool]]


def scipy_eigsh(
    operator: SymmetricOperator, settings: EigenSettings, *, report: Report = silent
) -> EigenPairs:
    """Eigenpairs by ARPACK's implicitly restarted Lanczos, in float64 on the host.

    Args:
        operator: symmetric operator of size P.
        settings: what is asked; k < P.
        report: told of every product.

    Returns:
        The pairs that ARPACK converged, certified; memory is about 5 k, at least 40, float64
        vectors of P numbers on the host.

    Raises:
        ValueError: for k >= P.
    """
    if settings.k >= operator.size:
        raise ValueError(f"eigsh finds at most P - 1 = {operator.size - 1} pairs of this operator.")
    return _run(operator, settings, _eigsh, method="eigsh", report=report)


def scipy_lobpcg(
    operator: SymmetricOperator, settings: EigenSettings, *, report: Report = silent
) -> EigenPairs:
    """Eigenpairs by SciPy's LOBPCG, in float64 on the host, without a preconditioner.

    Args:
        operator: symmetric operator of size P.
        settings: what is asked; `which` is LA or SA and 5 k < P.
        report: told of every product.

    Returns:
        The pairs, certified; memory is about 14 k float64 vectors of P numbers on the host.

    Raises:
        ValueError: for `which` LM or BE, or 5 k >= P.

    References:
        Knyazev (2001), Toward the optimal preconditioned eigensolver.
    """
    if settings.which not in {"LA", "SA"}:
        raise ValueError(f"lobpcg serves LA and SA; got which = {settings.which!r}.")
    if 5 * settings.k >= operator.size:
        raise ValueError(f"lobpcg needs 5 k < P = {operator.size}, got k = {settings.k}.")
    return _run(operator, settings, _lobpcg, method="lobpcg", report=report)


def _run(
    operator: SymmetricOperator,
    settings: EigenSettings,
    solve: _Solver,
    *,
    method: str,
    report: Report,
) -> EigenPairs:
    began = time.perf_counter()
    budget = max(1, settings.max_hvps - products_set_aside(settings.k, operator.size))
    counted = Counted(operator, budget=budget)
    told = _Told(counted, settings, report)
    watched = Watched(told)
    try:
        found, spent = solve(as_linear_operator(watched, dtype=np.float64), settings, budget)
    except BudgetExhausted:
        found, spent = np.empty((operator.size, 0)), True
    counted.budget = settings.max_hvps
    # One more orthogonalisation: LOBPCG's vectors are orthogonal to its tolerance only.
    found = np.linalg.qr(found)[0]
    rows = torch.from_numpy(np.ascontiguousarray(found.T))
    return certified(
        counted,
        watched,
        rows.to(dtype=operator.dtype, device=operator.device),
        settings,
        method=method,
        began=began,
        spent=spent,
        proves_nothing="LOBPCG proves nothing of what it does not list"
        if method == "lobpcg"
        else "",
    )


@final
class _Told(Wrapper):
    """An operator that reports each product."""

    def __init__(self, inner: Counted, settings: EigenSettings, report: Report) -> None:
        self.inner: Counted = inner
        self.settings, self.report = settings, report

    def matvec(self, v_P: Tensor, /) -> Tensor:
        Av_P = self.inner.matvec(v_P)
        self.report(
            Progress(
                stage="solve",
                hvps=self.inner.calls,
                max_hvps=self.settings.max_hvps,
                converged=0,
                wanted=self.settings.k,
                worst=float("inf"),
            )
        )
        return Av_P


def _start(purpose: Purpose, size: int, columns: int, seed: int) -> FloatArray:
    draws = [streams.normal(purpose, i, seed=seed, size=size) for i in range(columns)]
    return np.asarray(torch.stack(draws, dim=1).numpy(), dtype=np.float64)


def _eigsh(
    operator: LinearOperator, settings: EigenSettings, budget: int
) -> tuple[NDArray[Any], bool]:
    size, k = operator.shape[0], settings.k
    basis = min(size, max(2 * k + 1, 20))
    start = _start(Purpose.EXTERNAL_START, size, 1, settings.seed)
    spent = False
    try:
        _, vectors = eigsh(
            operator,
            k=k,
            # Of one pair BE takes the top one, which ARPACK calls LA.
            which="LA" if settings.which == "BE" and k == 1 else settings.which,
            # ARPACK stops on the residual; at its floor of eps it would never stop.
            tol=max(settings.tol / 2, 2 * settings.noise),
            ncv=basis,
            v0=start[:, 0],
            maxiter=max(1, (budget - basis) // max(1, basis - k)),
        )
    except ArpackNoConvergence as stopped:
        vectors, spent = stopped.eigenvectors, True
    except ArpackError:
        if (operator @ start).any():
            raise
        # ARPACK refuses a start that H takes to zero; where H is zero any vectors will do.
        vectors = _start(Purpose.EXTERNAL_START, size, k, settings.seed)
    return np.asarray(vectors), spent


def _lobpcg(
    operator: LinearOperator, settings: EigenSettings, budget: int
) -> tuple[NDArray[Any], bool]:
    k = settings.k
    vectors = _start(Purpose.LOBPCG_BLOCK, operator.shape[0], k, settings.seed)
    # LOBPCG stops on an absolute residual: at first by the scale that one product shows, then by
    # the smallest value found.
    scale = float(np.linalg.norm(operator @ vectors[:, 0]) / np.linalg.norm(vectors[:, 0]))
    goal = settings.tol * scale / 10
    left = int((budget - 4 * k) / (1.25 * k))  # a quarter more than k products an iteration
    if left < 1:
        raise BudgetExhausted
    while left > 0:
        try:
            with warnings.catch_warnings():
                # It warns where it stops early; `certified` measures that and says so itself.
                warnings.simplefilter("ignore", UserWarning)
                values, vectors, history = lobpcg(
                    operator,
                    vectors,
                    tol=max(goal, float(np.finfo(np.float64).tiny)),
                    maxiter=left,
                    largest=settings.which == "LA",
                    retResidualNormsHistory=True,
                )
        except BudgetExhausted:
            return vectors, True  # of the round before
        left -= max(1, len(history))
        floor = 2 * settings.noise * float(np.abs(values).max())
        tighter = max(settings.tol * float(np.abs(values).min()), floor) / 2
        if goal <= tighter:
            return vectors, left <= 0
        goal = tighter
    return vectors, True
