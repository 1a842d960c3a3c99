"""Hold found pairs against fresh products of the operator.

A solver's residual norms follow from its recurrence, which rounding and a faulty operator can
bring away from the operator itself. Two fresh products with random combinations of all pairs
measure how far.
Letters: P parameters, k pairs, n basis rows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.special import erfinv
from torch import Tensor

from curvtool.algorithms.space import space_of
from curvtool.operators.base import SymmetricOperator
from curvtool.random_vectors import streams
from curvtool.random_vectors.purposes import Purpose
from curvtool.results import FloatArray

# Two combinations by default; four others bound 3.2 times tighter before every pair is recomputed.
COMBINATIONS = 2
MISSED = 0.01


def enlargement(combinations: int) -> float:
    """Factor that turns the largest of some random combinations into a bound on each term.

    Args:
        combinations: q, how many.

    Returns:
        1 / x where all of q Gaussian |c_i| are below x with probability erf(x / sqrt 2)^q = 1 %:
        7.96 for two, 2.46 for four.
    """
    return float(1 / (np.sqrt(2) * erfinv(MISSED ** (1 / combinations))))


def recurrence_defect(
    operator: SymmetricOperator,
    V_nP: Tensor,
    S_nk: FloatArray,
    theta_k: FloatArray,
    residual: Callable[[FloatArray], Tensor],
    *,
    combinations: int = COMBINATIONS,
    seed: int,
) -> float:
    """Bound on |H y_i - theta_i y_i - r_i| over all pairs; one product a combination.

    Args:
        operator: H.
        V_nP: orthonormal rows.
        S_nk: primitive vectors in columns: y_i = V' s_i.
        theta_k: the values.
        residual: maps s, shape (n,), to the recurrence's residual of V' s.
        combinations: how many.
        seed: of the combinations.

    Returns:
        D = f max_j |sum_i c_i (H y_i - theta_i y_i - r_i)| over Gaussian c, f = 8 for two: too
        small with probability 1 % at most.
    """
    space = space_of(operator)
    worst = 0.0
    for j in range(combinations):
        c_k = streams.coefficients(Purpose.CERTIFICATE, j, seed=seed, count=len(theta_k))
        s_n = S_nk @ c_k
        z_P = space.combination(V_nP, torch.from_numpy(s_n))
        defect_P = operator.matvec(z_P)
        defect_P = defect_P - space.combination(V_nP, torch.from_numpy(S_nk @ (theta_k * c_k)))
        defect_P = defect_P - residual(s_n)
        worst = max(worst, float(space.norm(defect_P)))
    return enlargement(combinations) * worst


def true_residuals(
    operator: SymmetricOperator, count: int, vectors: Callable[[int], Tensor]
) -> tuple[FloatArray, FloatArray]:
    """Rayleigh quotients and residual norms by a product for every pair; costs k products.

    Args:
        operator: H.
        count: k.
        vectors: gives y_i, shape (P,), of unit length to rounding.

    Returns:
        Rayleigh quotients and |H y - theta y|, each of shape (k,).
    """
    space = space_of(operator)
    quotients, norms = [], []
    for i in range(count):
        y_P = vectors(i)
        y_P = y_P / space.norm(y_P).to(y_P.dtype)
        Hy_P = operator.matvec(y_P)
        quotient = float(space.sum(torch.dot(y_P.double(), Hy_P.double()).view(1)))
        # In double, for theta y and H y cancel to many digits.
        remainder_P = Hy_P.double() - quotient * y_P.double()
        quotients.append(quotient)
        norms.append(float(space.norm(remainder_P)))
    return np.array(quotients), np.array(norms)
