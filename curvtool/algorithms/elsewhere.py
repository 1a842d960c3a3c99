"""How far an operator's products are from float64 where no listed vector looks.

A probe for completeness is made of the operator's own products. A float32 product is another matrix
where a ReLU's input is a rounding from zero, and that may show in none of the listed vectors: an
eigenvalue of H that no float32 product knows was called absent. Gaussian vectors of the complement
see every direction of it. Letters: P size, m vectors.

References:
    Gudmundsson, Kenney, Laub (1995), for norms from few samples.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from curvtool.algorithms.bounds import enlargement
from curvtool.algorithms.certificate import COMBINATIONS
from curvtool.algorithms.completeness import SMALLEST
from curvtool.algorithms.space import space_of
from curvtool.operators.base import SymmetricOperator, products
from curvtool.random_vectors.purposes import Purpose
from curvtool.results import FloatArray

# A statement whose values may be short by more of themselves says nothing.
MEANINGFUL = 0.1


def noise_elsewhere(
    operator: SymmetricOperator,
    reference: SymmetricOperator,
    rows: Tensor,
    *,
    seed: int,
    first: int,
) -> float:
    """Bound on the norm of the difference of two operators in a complement.

    Args:
        operator: whose products are judged.
        reference: the same in float64.
        rows: orthonormal; what they span is known otherwise.
        seed: of the run.
        first: number of the first vector, for draws that have not been used.

    Returns:
        4.45 max |C (H64 - H32) C z| over four Gaussian vectors z, C the projection off the rows:
        too small with probability 0.1 % at most. Costs four products of each.
    """
    space = space_of(operator)
    drawn = [space.normal(Purpose.ELSEWHERE, first + j, seed=seed) for j in range(COMBINATIONS)]
    Z = torch.stack([space.orthogonalized(rows, z_P)[0] for z_P in drawn])
    exact = products(reference, Z.double())
    apart = [exact_P - operator.matvec(z_P).double() for z_P, exact_P in zip(Z, exact, strict=True)]
    lengths = [float(space.norm(space.orthogonalized(rows, d_P)[0])) for d_P in apart]
    return enlargement(COMBINATIONS) * max(lengths)


def too_noisy(noise: float, theta_k: FloatArray, tol: float, largest: float) -> str:
    """Why nothing can be stated of a list; empty where something can.

    Args:
        noise: from `noise_elsewhere`.
        theta_k: the list.
        tol: relative tolerance.
        largest: |H|.

    Returns:
        A sentence without its full stop.
    """
    least = float(np.abs(theta_k).min(initial=np.inf))
    if noise <= max(MEANINGFUL * least, 10 * tol * SMALLEST * largest):
        return ""
    return (
        f"products in float32 part from those in float64 by up to {noise:.2g} in some direction, "
        "which may hide or make eigenvalues of that size; --dtype float64 tells"
    )
