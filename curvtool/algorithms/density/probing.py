"""A Gaussian probe in the complement of what was taken out, and its Lanczos recurrence.

The matrix is C = (I - U'U) H (I - U'U): every product is projected, not the start alone. With the
start alone rounding lets the space find the deflated pairs again even at residuals of 1e-6, and
what was taken out is counted twice.

What storing U and the basis in float32 does: the span of the rows is what is taken out, and two
projections leave the square of the rows' defect of it, 1e-14. A stored vector stands apart from the
one computed by half an eps, whose product is off by as much of |H|: that is the product of another
unit vector, and is added to the noise of one.

Letters: P size, d deflated, k steps.

References:
    Paige (1976), Greenbaum (1989) for the recurrence that forgets; Giraud et al. (2005).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from curvtool.algorithms.deflation import NOT_FINITE
from curvtool.algorithms.density.pooled import Probed
from curvtool.algorithms.density.rules import Recurrence
from curvtool.algorithms.space import Space, space_of
from curvtool.errors import CurvtoolError
from curvtool.operators.base import Counted, SymmetricOperator
from curvtool.operators.recording import remembered
from curvtool.random_vectors.purposes import Purpose
from curvtool.results import FloatArray

# A remainder so much shorter than the product has lost digits to cancellation: a third pass.
CANCELLED = 1e-2


def rounded_noise(noise: float, dtype: torch.dtype) -> float:
    """Error of a product of a unit vector as it is stored, over |theta_1|."""
    return noise + float(torch.finfo(dtype).eps) / 2


def probed(
    operator: Counted, U_dP: Tensor, i: int, *, steps: int, seed: int, basis: bool, noise: float
) -> Probed:
    """Draw a probe and make its steps, or take them from an earlier run.

    Args:
        operator: of size P.
        U_dP: orthonormal rows that are taken out.
        i: number of the probe.
        steps: k, at most P - d.
        seed: of the run.
        basis: whether the basis is kept, and orthogonal.
        noise: absolute error of a product: steps end where nothing else is left.

    Returns:
        Its coefficients; at most k products.
    """
    before = operator.calls

    def made() -> list[FloatArray]:
        space = space_of(operator)
        z_P = _drawn(space, seed, i)
        if len(U_dP):
            z_P, _ = space.orthogonalized(U_dP, z_P)
        follow = recurrence if basis else recurrence_without_basis
        found = follow(operator, U_dP, z_P, steps, noise=noise)
        square = float(space.norm(z_P)) ** 2
        return [found.alpha_k, found.beta_k, np.array([square, operator.calls - before])]

    # The vectors of a probe that is done are not needed any more.
    kept = "with" if basis else "without"
    key = (
        f"probe {i} of {steps} steps {kept} basis, off {len(U_dP)} directions, size {operator.size}"
    )
    alpha_k, beta_k, (square, spent) = remembered(operator, key, made)
    operator.calls = before + int(spent)
    return Probed(Recurrence(alpha_k, beta_k), float(square))


def _drawn(space: Space, seed: int, i: int) -> Tensor:
    """This rank's part of the i-th Gaussian probe."""
    return space.normal(Purpose.QUADRATURE, i, seed=seed)


def recurrence(
    operator: SymmetricOperator, U_dP: Tensor, start_P: Tensor, steps: int, *, noise: float
) -> Recurrence:
    """Lanczos in the complement of U, the basis kept orthogonal.

    Args:
        operator: symmetric, of size P.
        U_dP: orthonormal rows, perhaps none.
        start_P: in the complement, not zero.
        steps: k, at most P - d.
        noise: absolute error of a product.

    Returns:
        The coefficients: fewer than k where what remains of a product is noise; its norm is kept
        as the last beta, so that nothing is dropped. One product a step; memory is d + k + 4
        vectors of P numbers.

    Raises:
        CurvtoolError: when a product is not finite.
    """
    space = space_of(operator)
    d = len(U_dP)
    rows = torch.empty((d + steps, space.local), dtype=space.dtype, device=space.device)
    rows[:d] = U_dP
    alphas: list[float] = []
    betas: list[float] = []
    v_P = start_P / space.norm(start_P).to(space.dtype)
    for j in range(d, d + steps):
        rows[j] = v_P
        w_P, components = space.orthogonalized(rows[: j + 1], operator.matvec(v_P))
        numbers = torch.cat([components, space.norm(w_P).view(1)]).tolist()
        alpha, beta = numbers[j], numbers[-1]
        length = math.hypot(*numbers)
        if not math.isfinite(length):
            raise CurvtoolError(NOT_FINITE)
        alphas.append(alpha)
        betas.append(beta)
        if j + 1 == d + steps or beta <= noise:
            break
        v_P = w_P / beta
        if beta < CANCELLED * length:
            v_P, _ = space.orthogonalized(rows[: j + 1], v_P)
            v_P = v_P / space.norm(v_P).to(space.dtype)
    return Recurrence(np.array(alphas), np.array(betas))


def recurrence_without_basis(
    operator: SymmetricOperator, U_dP: Tensor, start_P: Tensor, steps: int, *, noise: float
) -> Recurrence:
    """The same by the three-term recurrence, which forgets: copies of a node share its weight.

    Args:
        operator: symmetric, of size P.
        U_dP: orthonormal rows, perhaps none.
        start_P: in the complement, not zero.
        steps: k, at most P - d.
        noise: absolute error of a product.

    Returns:
        As `recurrence`. One product and three waits for the device a step; memory is d + 4
        vectors. Bounds of steps and brackets survive the copies (none of 16,800 failed beyond a
        mass of 1e-7); interlacing does not.

    Raises:
        CurvtoolError: when a product is not finite.
    """
    space = space_of(operator)
    v_P = start_P / space.norm(start_P).to(space.dtype)
    before_P = torch.zeros_like(v_P)
    alphas: list[float] = []
    betas: list[float] = []
    while True:
        w_P = operator.matvec(v_P)
        if len(U_dP):
            w_P, _ = space.orthogonalized(U_dP, w_P)
        if betas:
            w_P.sub_(before_P, alpha=betas[-1])
        alpha = float(space.inner_products(v_P[None], w_P)[0])
        w_P.sub_(v_P, alpha=alpha)
        beta = float(space.norm(w_P))
        if not math.isfinite(alpha + beta):
            raise CurvtoolError(NOT_FINITE)
        alphas.append(alpha)
        betas.append(beta)
        if len(alphas) == steps or beta <= noise:
            break
        before_P, v_P = v_P, w_P / beta
    return Recurrence(np.array(alphas), np.array(betas))
