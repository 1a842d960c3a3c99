"""Every eigenvalue by the matrix itself: exact, and cheaper than iterating when P is small.

Letters: P parameters, k pairs.
"""

from __future__ import annotations

import time

import numpy as np
import scipy.linalg
import torch

from curvtool.algorithms.certify import COMBINATIONS, enlargement
from curvtool.algorithms.ritz import gaps, shortfall, value_bounds, wanted
from curvtool.algorithms.settings import EigenSettings, Progress, Report, silent
from curvtool.operators.base import SymmetricOperator, products
from curvtool.random_vectors import streams
from curvtool.random_vectors.purposes import Purpose
from curvtool.results import Certification, Completeness, EigenPairs, FloatArray, Outcome

DENSE_LIMIT = 5000
# Rows handed to the operator at once, which divides them as its memory allows.
ROWS = 64


def dense(
    operator: SymmetricOperator, settings: EigenSettings, *, report: Report = silent
) -> EigenPairs:
    """Eigenpairs of the operator written out as a matrix, in float64 on the host.

    Args:
        operator: symmetric operator of size P.
        settings: what is asked; `max_hvps` is not consulted, since the cost is known: P.
        report: told of every product.

    Returns:
        The k pairs. P + 2 products, memory about 5 P^2 float64 numbers. A pair's residual counts
        the matrix's asymmetry on its vector, and a defect measured by two fresh products with
        random unit vectors: roundings of P columns do not conspire, so that these stand for all.

    Raises:
        ValueError: for k outside 1..P.
    """
    P = operator.size
    if not 1 <= settings.k <= P:
        raise ValueError(f"dense needs 1 <= k <= P = {P}, got k = {settings.k}.")
    began = time.perf_counter()
    H = np.empty((P, P))  # its rows are its columns
    for begin in range(0, P, ROWS):
        end = min(P, begin + ROWS)
        rows = torch.zeros((end - begin, P), dtype=operator.dtype, device=operator.device)
        rows[:, begin:end].fill_diagonal_(1.0)
        H[begin:end] = products(operator, rows).detach().cpu().double().numpy()
        report(
            Progress(
                stage="dense",
                hvps=end,
                max_hvps=P + COMBINATIONS,
                converged=0,
                wanted=settings.k,
                worst=float("inf"),
            )
        )
    asymmetry = (H - H.T) / 2
    defect = _defect(operator, H, settings.seed)
    theta, Y = scipy.linalg.eigh((H + H.T) / 2)
    largest = float(np.abs(theta).max())
    # The small eigenproblem's own rounding (LAPACK's guide: a modest multiple of eps |A|).
    noise = settings.noise + 8 * float(np.finfo(np.float64).eps)
    rho = np.linalg.norm(asymmetry @ Y, axis=0) + defect
    order = wanted(theta, settings.which, settings.k)
    bound = value_bounds(rho, gaps(theta, rho), noise=noise, largest=largest)
    ratio = shortfall(theta, bound, rho, settings, noise=noise, largest=largest)
    met = (ratio <= 1)[order]
    return EigenPairs(
        eigenvalues=theta[order],
        residual_norms=(rho + noise * largest)[order],
        eigenvalue_errors=bound[order],
        converged=met,
        outcome=Outcome.CONVERGED if met.all() else Outcome.STAGNATED,
        completeness=Completeness.EXHAUSTIVE,
        certification=Certification.COMBINATIONS,
        which=settings.which,
        method="dense",
        tol=settings.tol,
        accuracy=settings.accuracy,
        hvps=P + COMBINATIONS,
        hvps_by_stage={"solve": P, "certify": COMBINATIONS, "probe": 0},
        seconds=time.perf_counter() - began,
        noise=noise,
        eigenvectors=torch.from_numpy(Y.T[order].copy()).to(operator.dtype)
        if settings.vectors
        else None,
    )


def _defect(operator: SymmetricOperator, H: FloatArray, seed: int) -> float:
    """Enlarged distance between the matrix and fresh products with random unit vectors."""
    worst = 0.0
    for i in range(COMBINATIONS):
        z = streams.normal(Purpose.DENSE_CHECK, i, seed=seed, size=operator.size)
        z = (z / z.norm()).to(dtype=operator.dtype, device=operator.device)
        product = operator.matvec(z).detach().cpu().double().numpy()
        worst = max(worst, float(np.linalg.norm(product - H @ z.cpu().double().numpy())))
    return enlargement(COMBINATIONS) * worst
