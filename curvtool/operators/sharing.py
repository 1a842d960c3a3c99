"""A Hessian over ranks that each have a share of the examples.

Each rank's own objective is the mean over its share; the whole is their sum with weights f_r, the
share's weight over all weights. Any operator of a rank will do: a Hessian, or a block of it.

Letters: P parameters, p numbers of a rank's part of a vector, W ranks, B terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

from curvtool.distributed.group import Group
from curvtool.distributed.shares import Shares
from curvtool.operators.base import SymmetricOperator, products
from curvtool.operators.hessian import HessianOperator
from curvtool.operators.recording import Recorder, fingerprint, loop

# Vectors with fewer numbers a rank are not worth sharing out.
LEAST_PART = 16


class _Ranks:
    """What both ways have in common.

    Attributes:
        local: operator of this rank's share of the examples.
        share: f_r.
        local_recorder: of what this rank does between two exchanges; None where nobody saves.
    """

    def __init__(self, local: SymmetricOperator, ranks: Group, *, share: float) -> None:
        self.local, self._ranks, self.share = local, ranks, share
        self.local_recorder: Recorder | None = None

    @property
    def size(self) -> int:
        """P."""
        return self.local.size

    @property
    def dtype(self) -> torch.dtype:
        """Of the vectors."""
        return self.local.dtype

    @property
    def device(self) -> torch.device:
        """Of this rank's part of the vectors."""
        return self.local.device

    def _product(self, v_P: Tensor, label: str = "", term: int | None = None) -> Tensor:
        """This rank's part of the sum, f_r H_r v; on record until everybody has theirs."""

        def made() -> Tensor:
            if not self.share or (term is not None and term < 0):
                return torch.zeros_like(v_P)
            found = self.local.matvec(v_P) if term is None else self._whole.term(term, v_P)
            return found.mul_(self.share)

        with loop(self.local_recorder, lambda: f"{label} {fingerprint(v_P)}") as place:
            if place.saved is not None:
                return place.saved.state["part"].to(v_P.device)
            part_P = made()
            place.step(1, lambda: {"part": part_P})
        return part_P

    @property
    def _whole(self) -> HessianOperator:
        assert isinstance(self.local, HessianOperator)
        return self.local


class Summed(_Ranks):
    """Every rank has whole vectors: one all-reduce a product."""

    def matvec(self, v_P: Tensor, /) -> Tensor:
        """H v, shape (P,), the same bits on every rank."""
        return self._ranks.sum_(self._product(v_P))

    def matmat(self, V_kP: Tensor, /) -> Tensor:
        """Products with rows, shape (k, P): as many at a time as the rank's operator sends."""
        together = getattr(self.local, "matmat", None)
        if together is None or not self.share:
            return torch.stack([self.matvec(v_P) for v_P in V_kP])
        made: Tensor = together(V_kP)
        return self._ranks.sum_(made.mul_(self.share))

    @property
    def block(self) -> int:
        """Vectors that `matmat` sends through one pass."""
        found: int = getattr(self.local, "block", 1)
        return found


class Sharded(_Ranks):
    """Every rank has its part of all vectors: an all-gather and a reduce-scatter a product.

    Together they move the bytes of one all-reduce.

    Attributes:
        group: over whose ranks vectors are shared out, which algorithms look for.
    """

    def __init__(self, local: SymmetricOperator, ranks: Group, *, share: float) -> None:
        super().__init__(local, ranks, share=share)
        self.group = ranks
        self.shares = Shares(local.size, ranks.size)

    def matvec(self, v_p: Tensor, /) -> Tensor:
        """This rank's part of H v, shape (p,). Memory is two vectors of P numbers."""
        v_P = self.group.all_gather(v_p, self.shares)
        return self.group.reduce_scatter(self._product(v_P), self.shares)


@final
class ShardedRows(Sharded):
    """The same of an operator that multiplies several rows in one pass."""

    @property
    def block(self) -> int:
        """Rows that `matmat` sends through one pass."""
        found: int = getattr(self.local, "block", 1)
        return found

    def matmat(self, V_kp: Tensor, /) -> Tensor:
        """This rank's parts of products with rows, shape (k, p)."""
        V_kP = torch.stack([self.group.all_gather(v_p, self.shares) for v_p in V_kp])
        part_kP = products(self.local, V_kP) * self.share if self.share else torch.zeros_like(V_kP)
        return torch.stack([self.group.reduce_scatter(row_P, self.shares) for row_P in part_kP])


@final
class ShardedSum(Sharded):
    """The same of a whole Hessian, whose terms can be multiplied one at a time.

    A term is a batch, and every rank has some of its examples: a term is made by all at once, and
    moves as many bytes as a product.

    Args:
        local: of this rank's share.
        ranks: all ranks.
        share: f_r.
        batches: for each of the local terms, the batch of the dataset that it is a part of.
    """

    def __init__(
        self, local: HessianOperator, ranks: Group, *, share: float, batches: Sequence[int]
    ) -> None:
        super().__init__(local, ranks, share=share)
        weights = dict(zip(batches, local.term_shares, strict=True))
        everybody = ranks.of_all((share, weights))
        self._batches = sorted({batch for _, each in everybody for batch in each})
        self._local_term = [
            batches.index(batch) if batch in weights else -1 for batch in self._batches
        ]
        self.term_shares = [
            sum(f * each.get(batch, 0.0) for f, each in everybody) for batch in self._batches
        ]

    @property
    def num_terms(self) -> int:
        """B: batches that any rank has a part of with weight."""
        return len(self._batches)

    @property
    def shift(self) -> float:
        """Of the identity beside the terms."""
        return self._whole.shift

    def term(self, i: int, v_p: Tensor, /) -> Tensor:
        """This rank's part of H_i v."""
        v_P = self.group.all_gather(v_p, self.shares)
        part_P = self._product(v_P, f"term {i}", self._local_term[i])
        return self.group.reduce_scatter(part_P, self.shares)


@final
class SummedSum(Summed):
    """`Summed` of a whole Hessian, as a sum of one term: for vectors too short to share out."""

    num_terms = 1

    @property
    def shift(self) -> float:
        """Of the identity beside the term."""
        return self._whole.shift

    @property
    def term_shares(self) -> list[float]:
        """The one term's."""
        return [1.0]

    def term(self, i: int, v_P: Tensor, /) -> Tensor:
        """H v without the shift."""
        assert i == 0
        return self.matvec(v_P).sub_(v_P, alpha=self.shift)


def shared_out(operator: Any, ranks: Group) -> bool:
    """Whether an operator's vectors are long enough to share them out."""
    return bool(operator.size >= LEAST_PART * ranks.size)
