"""An operator whose products are saved, and given back where they were made before.

Letters: P parameters, k vectors of a block.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from curvtool.operators.base import MeanOperator, SymmetricOperator, Wrapper
from curvtool.operators.recording import Recorder


class Recorded(Wrapper):
    """The inner operator with its products on record.

    Args:
        inner: makes what nobody has made before.
        recorder: that keeps the record.
        label: of the operator, where a run has several.
    """

    def __init__(self, inner: SymmetricOperator, recorder: Recorder, label: str = "") -> None:
        self.inner = inner
        self.recorder = recorder
        self.label = label

    def matvec(self, v_P: Tensor, /) -> Tensor:
        """One product of the inner operator, or none."""
        make = partial(self.inner.matvec, v_P)
        return self.recorder.product(f"{self.label}matvec", v_P, make)

    def matmat(self, V_kP: Tensor, /) -> Tensor:
        """Products with rows, shape (k, P): as many at a time as the inner operator sends."""
        together = getattr(self.inner, "matmat", None)
        done: list[Tensor] = []
        begin = 0
        while begin < len(V_kP):
            block = 1 if together is None else getattr(self.inner, "block", 1)
            rows = V_kP[begin : begin + block]
            if together is None or block == 1:
                done.append(self.matvec(rows[0])[None])
            else:
                make = partial(together, rows)
                done.append(self.recorder.product(f"{self.label}matmat", rows, make))
            begin += len(rows)
        return torch.cat(done)


class RecordedSum(Recorded):
    """The same of a sum of terms."""

    inner: MeanOperator

    def __init__(self, inner: MeanOperator, recorder: Recorder, label: str = "") -> None:
        super().__init__(inner, recorder, label)

    @property
    def num_terms(self) -> int:
        """B of the inner operator."""
        return self.inner.num_terms

    @property
    def shift(self) -> float:
        """Of the inner operator."""
        return self.inner.shift

    @property
    def term_shares(self) -> list[float]:
        """Of the inner operator."""
        return self.inner.term_shares

    def term(self, i: int, v_P: Tensor, /) -> Tensor:
        """One product of the i-th term, or none."""
        make = partial(self.inner.term, i, v_P)
        return self.recorder.product(f"{self.label}term {i}", v_P, make)
