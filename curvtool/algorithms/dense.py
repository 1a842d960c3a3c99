"""Every eigenvalue by the matrix itself: exact, and cheaper than iterating when P is small.

Letters: P parameters, k pairs.
"""

from __future__ import annotations

import time

import numpy as np
import scipy.linalg
import torch

from curvtool.algorithms.bounds import enlargement
from curvtool.algorithms.certificate import COMBINATIONS, NOT_FINITE, float64_units
from curvtool.algorithms.judging import allowed_errors
from curvtool.algorithms.ritz import wanted
from curvtool.algorithms.settings import EigenSettings, Progress, Report, silent
from curvtool.errors import CurvtoolError
from curvtool.operators.base import SymmetricOperator, products
from curvtool.random_vectors import streams
from curvtool.random_vectors.purposes import Purpose
from curvtool.results import WHOLE_MATRIX, Certification, EigenPairs, FloatArray, Outcome

DENSE_LIMIT = 5000
# Rows handed to the operator at once, which divides them as its memory allows.
ROWS = 64
# The symmetric part of a rounding over its antisymmetric one, generously.
ASYMMETRY = 2.0


def dense(
    operator: SymmetricOperator, settings: EigenSettings, *, report: Report = silent
) -> EigenPairs:
    """Eigenpairs of the operator written out as a matrix, in float64 on the host.

    Args:
        operator: symmetric operator of size P.
        settings: what is asked; `max_hvps` is not consulted, since the cost is known: P.
        report: told of every product.

    Returns:
        The k pairs, all to within the same distance. P products, in float64 where that can be had,
        and one of the operator beside them, by which their rounding is judged; elsewhere four more
        with random vectors bound how far the matrix is from the operator.
        Memory is about 5 P^2 float64 numbers.

    Raises:
        ValueError: for k outside 1..P.
        CurvtoolError: when a product is not finite.
    """
    P = operator.size
    if not 1 <= settings.k <= P:
        raise ValueError(f"dense needs 1 <= k <= P = {P}, got k = {settings.k}.")
    began = time.perf_counter()
    maker = settings.reference or operator
    H = np.empty((P, P))  # its rows are its columns
    for begin in range(0, P, ROWS):
        end = min(P, begin + ROWS)
        rows = torch.zeros((end - begin, P), dtype=maker.dtype, device=maker.device)
        rows[:, begin:end].fill_diagonal_(1.0)
        H[begin:end] = products(maker, rows).detach().cpu().double().numpy()
        report(
            Progress(
                stage="dense",
                hvps=end,
                max_hvps=P,
                converged=0,
                wanted=settings.k,
                worst=float("inf"),
            )
        )
    if not np.isfinite(H).all():
        raise CurvtoolError(NOT_FINITE)
    # Roundings of columns have no reason to be symmetric: their symmetric part, which moves
    # eigenvalues by its norm at most (Weyl), is as large as the antisymmetric one that shows.
    asymmetry = float(np.linalg.norm(H - H.T)) / 2
    theta, Y = scipy.linalg.eigh((H + H.T) / 2)
    largest = float(np.abs(theta).max())
    # The small eigenproblem's own rounding (LAPACK's guide: a modest multiple of eps |A|).
    eps = 8 * float(np.finfo(np.float64).eps)
    error = ASYMMETRY * asymmetry + (settings.noise + eps) * largest + settings.doubt
    # Both say how far one product is from another: of the same operator as a bound, of its float64
    # reference in other units of the last place.
    certify = COMBINATIONS if settings.reference is None else 1
    apart = _defect(operator, H, settings.seed, certify)
    if settings.reference is not None:
        apart *= float64_units(operator.dtype)
    error += apart
    order = wanted(theta, settings.which, settings.k)
    theta = theta[order]
    met = error <= allowed_errors(theta, settings, largest)
    errors = np.full(settings.k, error)
    exact = settings.reference is not None or operator.dtype == torch.float64
    return EigenPairs(
        eigenvalues=theta,
        residual_norms=errors.copy(),
        eigenvalue_errors=errors,
        converged=met,
        at_floor=~met,
        outcome=Outcome.CONVERGED if met.all() else Outcome.FLOOR,
        completeness=WHOLE_MATRIX,
        certification=Certification.MATRIX if exact else Certification.OWN_PRODUCTS,
        which=settings.which,
        method="dense",
        tol=settings.tol,
        accuracy=settings.accuracy,
        hvps=P + certify,
        hvps_by_stage={"solve": P, "certify": certify, "probe": 0},
        seconds=time.perf_counter() - began,
        noise=settings.noise + eps,
        eigenvectors=torch.from_numpy(Y.T[order].copy()).to(operator.dtype)
        if settings.vectors
        else None,
    )


def _defect(operator: SymmetricOperator, H: FloatArray, seed: int, count: int) -> float:
    """Bound on the norm of the distance between the matrix and fresh products."""
    worst = 0.0
    for i in range(count):
        z = streams.normal(Purpose.DENSE_CHECK, i, seed=seed, size=operator.size)
        z = z.to(dtype=operator.dtype, device=operator.device)
        product = operator.matvec(z).detach().cpu().double().numpy()
        worst = max(worst, float(np.linalg.norm(product - H @ z.cpu().double().numpy())))
    # One vector of P normal numbers tells the Frobenius norm well where it is no bound.
    return (enlargement(count) if count > 1 else 1.0) * worst
