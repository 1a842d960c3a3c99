"""What every operator owes its callers. A law takes an operator and the matrix that it should be.

Letters: P size of the operator.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from curvtool.operators.base import SymmetricOperator

Law = Callable[[SymmetricOperator, Tensor], None]

# A product is a chain of some ten sums of some hundred terms; each term rounds by eps of its size.
ROUNDINGS = 1000


def _vectors(operator: SymmetricOperator, count: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(count, operator.size, generator=generator, dtype=torch.float64)
    return [v.to(dtype=operator.dtype, device=operator.device) for v in drawn]


def _rounding(operator: SymmetricOperator, A_PP: Tensor, *vectors: Tensor) -> float:
    """What products with these vectors may be off by.

    Losses and parameters are of size 1, so that 1 + |A| is the size of what adds up and cancels.
    """
    sizes = max(float(v.double().norm()) for v in vectors)
    return ROUNDINGS * torch.finfo(operator.dtype).eps * (1 + float(A_PP.norm())) * sizes


def matches_the_matrix(A: SymmetricOperator, A_PP: Tensor) -> None:
    assert A_PP.shape == (A.size, A.size)
    units = torch.eye(A.size, dtype=A.dtype, device=A.device)
    for v_P in [*_vectors(A, 3), units[0], units[-1]]:
        error = (A.matvec(v_P).double() - A_PP @ v_P.double()).norm()
        assert float(error) <= _rounding(A, A_PP, v_P)


def is_symmetric(A: SymmetricOperator, A_PP: Tensor) -> None:
    u_P, v_P = _vectors(A, 2, seed=1)
    uAv, vAu = u_P.double() @ A.matvec(v_P).double(), v_P.double() @ A.matvec(u_P).double()
    # |u'(error of Av)| <= |u| times what Av may be off by.
    assert float((uAv - vAu).abs()) <= 2 * _rounding(A, A_PP, v_P) * float(u_P.norm())


def is_linear(A: SymmetricOperator, A_PP: Tensor) -> None:
    u_P, v_P = _vectors(A, 2, seed=2)
    whole = A.matvec(3 * u_P - v_P / 7)
    parts = 3 * A.matvec(u_P) - A.matvec(v_P) / 7
    assert float((whole - parts).double().norm()) <= 5 * _rounding(A, A_PP, u_P, v_P)
    assert not A.matvec(torch.zeros_like(u_P)).any()


def keeps_size_type_and_device(A: SymmetricOperator, A_PP: Tensor) -> None:
    (v_P,) = _vectors(A, 1)
    Av_P = A.matvec(v_P)
    assert Av_P.shape == (A.size,)
    assert Av_P.dtype == A.dtype
    assert Av_P.device == A.device
    assert not Av_P.requires_grad


def gives_the_same_bits_again(A: SymmetricOperator, A_PP: Tensor) -> None:
    v_P, w_P = _vectors(A, 2, seed=3)
    first = A.matvec(v_P)
    A.matvec(w_P)
    assert torch.equal(A.matvec(v_P), first)


def gives_a_vector_of_its_own(A: SymmetricOperator, A_PP: Tensor) -> None:
    (v_P,) = _vectors(A, 1, seed=4)
    given = v_P.clone()
    Av_P = A.matvec(v_P)
    kept = Av_P.clone()
    assert torch.equal(v_P, given)
    v_P.fill_(torch.nan)
    assert torch.equal(Av_P, kept)
    Av_P.fill_(torch.nan)
    assert torch.equal(A.matvec(given), kept)


def takes_any_layout_of_the_vector(A: SymmetricOperator, A_PP: Tensor) -> None:
    (v_P,) = _vectors(A, 1, seed=5)
    expected = A.matvec(v_P)
    column = torch.stack([v_P, -v_P, v_P], dim=1)[:, 0]
    assert column.stride() == (3,)
    assert torch.equal(A.matvec(column), expected)


def does_not_mind_grad_mode(A: SymmetricOperator, A_PP: Tensor) -> None:
    (v_P,) = _vectors(A, 1, seed=6)
    expected = A.matvec(v_P)
    with torch.no_grad():
        assert torch.equal(A.matvec(v_P), expected)
    assert torch.equal(A.matvec(v_P.clone().requires_grad_()).detach(), expected)


LAWS: tuple[Law, ...] = (
    matches_the_matrix,
    is_symmetric,
    is_linear,
    keeps_size_type_and_device,
    gives_the_same_bits_again,
    gives_a_vector_of_its_own,
    takes_any_layout_of_the_vector,
    does_not_mind_grad_mode,
)
