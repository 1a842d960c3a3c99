"""An operator without terms seen as a sum with one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeGuard, final

import torch
from torch import Tensor

from curvtool.operators.base import SumOperator, SymmetricOperator


@final
@dataclass(frozen=True, eq=False)
class _OneTerm:
    """H = H_0 + 0 I."""

    inner: SymmetricOperator
    num_terms: int = 1
    shift: float = 0.0

    @property
    def size(self) -> int:
        return self.inner.size

    @property
    def dtype(self) -> torch.dtype:
        return self.inner.dtype

    @property
    def device(self) -> torch.device:
        return self.inner.device

    def matvec(self, v_P: Tensor, /) -> Tensor:
        return self.inner.matvec(v_P)

    def term(self, i: int, v_P: Tensor, /) -> Tensor:
        assert i == 0
        return self.inner.matvec(v_P)


def as_sum(operator: SymmetricOperator) -> SumOperator:
    """The operator itself where it has terms, else a sum with itself for its only term."""
    return operator if _has_terms(operator) else _OneTerm(operator)


def _has_terms(operator: SymmetricOperator) -> TypeGuard[SumOperator]:
    return all(hasattr(operator, name) for name in ("num_terms", "shift", "term"))
