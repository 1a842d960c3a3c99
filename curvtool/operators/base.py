"""The one door between problems and algorithms: a symmetric matrix known by its products.

Letters: P size of the operator.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor


class SymmetricOperator(Protocol):
    """A real symmetric P x P matrix that can be multiplied by a vector."""

    @property
    def size(self) -> int:
        """P."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of the vectors it takes and gives."""
        ...

    @property
    def device(self) -> torch.device:
        """Of the vectors it takes and gives."""
        ...

    def matvec(self, v_P: Tensor, /) -> Tensor:
        """The product with a vector of shape (P,): a new vector that shares nothing with it."""
        ...


class SumOperator(SymmetricOperator, Protocol):
    """H = sum_i H_i + shift I, whose terms can be multiplied one at a time, each for its part.

    A product with all terms costs as much as the operator's own.
    """

    @property
    def num_terms(self) -> int:
        """B."""
        ...

    @property
    def shift(self) -> float:
        """Of the identity beside the terms."""
        ...

    def term(self, i: int, v_P: Tensor, /) -> Tensor:
        """H_i v, shape (P,), without the shift."""
        ...


class MeanOperator(SumOperator, Protocol):
    """The Hessian of a mean, whose terms are those of the batches times their shares."""

    @property
    def term_shares(self) -> list[float]:
        """What each term counts in the mean, shape (B,)."""
        ...


def products(operator: SymmetricOperator, V_kP: Tensor) -> Tensor:
    """Products with the rows of a block, at once where the operator can (`matmat`).

    Args:
        operator: of size P.
        V_kP: shape (k, P).

    Returns:
        Shape (k, P). It counts as k products.
    """
    matmat = getattr(operator, "matmat", None)
    if matmat is not None:
        together: Tensor = matmat(V_kP)
        return together
    return torch.stack([operator.matvec(v_P) for v_P in V_kP])


CPU = torch.device("cpu")


@final
@dataclass(frozen=True, eq=False)
class FunctionOperator:
    """An operator made of a function; the caller vouches for its symmetry.

    A result that shares memory with the vector, as that of the identity, is copied.
    """

    function: Callable[[Tensor], Tensor]
    size: int
    dtype: torch.dtype = torch.float64
    device: torch.device = CPU

    def matvec(self, v_P: Tensor, /) -> Tensor:
        """Call the function."""
        Av_P = self.function(v_P)
        shared = Av_P.untyped_storage().data_ptr() == v_P.untyped_storage().data_ptr()
        return Av_P.clone() if shared else Av_P


class Wrapper(ABC):
    """An operator around another one, on the same space."""

    inner: SymmetricOperator

    @property
    def size(self) -> int:
        """P of the inner operator."""
        return self.inner.size

    @property
    def dtype(self) -> torch.dtype:
        """Of the inner operator."""
        return self.inner.dtype

    @property
    def device(self) -> torch.device:
        """Of the inner operator."""
        return self.inner.device

    @abstractmethod
    def matvec(self, v_P: Tensor, /) -> Tensor:
        """The product, made of products of the inner operator."""


@final
@dataclass(frozen=True, eq=False)
class Shifted(Wrapper):
    """scale * A + by * I: moves the spectrum, keeps the eigenvectors."""

    inner: SymmetricOperator
    by: float
    scale: float = 1.0

    def matvec(self, v_P: Tensor, /) -> Tensor:
        """One product of the inner operator."""
        return torch.add(v_P * self.by, self.inner.matvec(v_P), alpha=self.scale)


class NoReference(Exception):
    """Products in float64 cannot be had; the text says why: for whoever can do without."""


class BudgetExhausted(Exception):
    """The operator may not be applied again: a signal between solver and caller, no error."""


@final
class Counted(Wrapper):
    """Counts the products of an operator and refuses those beyond a budget."""

    def __init__(self, inner: SymmetricOperator, *, budget: int | None = None) -> None:
        self.inner = inner
        self.budget = budget
        self.calls = 0

    @property
    def left(self) -> float:
        """Products that may still be made; infinite without a budget."""
        return float("inf") if self.budget is None else self.budget - self.calls

    def matvec(self, v_P: Tensor, /) -> Tensor:
        """One product of the inner operator.

        Returns:
            The product.

        Raises:
            BudgetExhausted: when the budget is spent.
        """
        if self.left < 1:
            raise BudgetExhausted
        self.calls += 1
        return self.inner.matvec(v_P)
