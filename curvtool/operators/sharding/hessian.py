"""The Hessian of a model whose parameters are shared out over ranks.

Neither the parameters nor v nor H v is ever on one rank as a whole.

Letters: P parameters, p numbers of this rank's part of a vector, W ranks, B batches.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import final

import torch
from torch import Tensor

from curvtool.distributed.group import Group
from curvtool.distributed.shares import examples_of
from curvtool.errors import InputError, PreflightError
from curvtool.operators.sharding.placing import ShardedModule
from curvtool.problem.batch import Loss
from curvtool.problem.parameters import ParameterLayout
from curvtool.problem.residency import Residency
from curvtool.problem.stored import AnyBatch
from curvtool.problem.twice import twice_differentiable
from curvtool.problem.wording import first_line

_NO_FORWARD_MODE = re.compile(
    r"forward AD|jvp|ZeroTensors are immutable|derivative for .* is not implemented"
)


@final
@dataclass(frozen=True, eq=False)
class ShardedEvaluation:
    """The objective and its gradient at the checkpoint.

    Attributes:
        loss: the dataset mean, weight decay included; the same on all ranks.
        gradient_p: this rank's part of its gradient.
    """

    loss: float
    gradient_p: Tensor


@final
class ShardedHessian:
    """H of a weighted dataset mean (+ weight decay I), for vectors shared out over ranks.

    Forward over reverse. Every parameter is gathered twice in a product, and so is v in its place;
    its part of H v is reduced once: 4 all-gathers and 1 reduce-scatter of P numbers for each batch.
    Memory of a rank is its parts, the activations of its examples twice, and some six times the
    parameters of one call of a function of torch.

    All methods are called by all ranks. Want of memory is not mended: the others would wait.

    Args:
        sharded: the model.
        loss: of one batch.
        batches: of the whole dataset; every rank computes its examples of each.
        weight_decay: of the identity beside the mean.
        keep_data_on_device: whether batches stay there.

    Attributes:
        group: over whose ranks vectors are shared out, which algorithms look for.
        sharded: the model.

    Raises:
        InputError: for a loss that couples examples, or where a rank has no example with weight.
    """

    def __init__(
        self,
        sharded: ShardedModule,
        loss: Loss,
        batches: Sequence[AnyBatch],
        *,
        weight_decay: float = 0.0,
        keep_data_on_device: bool = True,
    ) -> None:
        if loss.couples:
            raise InputError(
                f"--shard-params: expected a loss that is a mean over examples, since every rank "
                f"computes some of each batch; {loss.name} depends on which examples are in a "
                "batch together. Run without --shard-params."
            )
        self.sharded, self._loss = sharded, loss
        self.group: Group = sharded.store.group
        self.shift = weight_decay
        rank, ranks = self.group.rank, self.group.size
        mine: list[AnyBatch] = []
        empty: list[bool] = []
        for index, batch in enumerate(batches):
            begin, end = examples_of(batch.examples, index, rank, ranks)
            empty.append(begin == end)
            mine.append(batch.part(0, 1) if begin == end else batch.part(begin, end))
        self._data = Residency(mine, device=self.device, dtype=self.dtype, keep=keep_data_on_device)
        self._weigh(empty)

    @property
    def size(self) -> int:
        """P."""
        return self.sharded.layout.size

    @property
    def layout(self) -> ParameterLayout:
        """Of the flat vector."""
        return self.sharded.layout

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters and of the vectors."""
        return self.sharded.store.part_p.dtype

    @property
    def device(self) -> torch.device:
        """Of this rank's parts."""
        return self.sharded.store.part_p.device

    @property
    def num_terms(self) -> int:
        """B: batches with weight."""
        return len(self._active)

    @property
    def total_weight(self) -> float:
        """Denominator of the mean."""
        return self._total

    @property
    def term_shares(self) -> list[float]:
        """Shares of the batches' weights in the sum of them."""
        return [self._weights[index] / self._total for index in self._active]

    def matvec(self, v_p: Tensor, /) -> Tensor:
        """This rank's part of H v, shape (p,)."""
        v_p = v_p.detach().contiguous()
        Hv_p = v_p * self.shift
        for index in self._active:
            self._add(index, Hv_p, v_p)
        return Hv_p

    def term(self, i: int, v_p: Tensor, /) -> Tensor:
        """This rank's part of H_i v, without the shift."""
        v_p = v_p.detach().contiguous()
        Hv_p = torch.zeros_like(v_p)
        self._add(self._active[i], Hv_p, v_p)
        return Hv_p

    def evaluate(self) -> ShardedEvaluation:
        """Loss and gradient of the whole dataset.

        Returns:
            The evaluation. Gathers every parameter twice.
        """
        theta_p = self.sharded.store.part_p
        gradient_p = theta_p * self.shift
        square = theta_p.double().square().sum()
        total = 0.5 * self.shift * square.view(1)
        for index in self._active:
            total += self._add(index, gradient_p, None).double()
        return ShardedEvaluation(float(self.group.sum_(total)), gradient_p)

    def _add(self, index: int, into_p: Tensor, v_p: Tensor | None) -> Tensor:
        try:
            with twice_differentiable(dtype=self.dtype):
                return self.sharded.calls.derivatives_added(
                    partial(self._share_of_mean, index), into_p, v_p
                )
        except RuntimeError as error:
            if v_p is None or not _NO_FORWARD_MODE.search(str(error)):
                raise
            raise PreflightError(
                "--shard-params differentiates the gradient in forward mode, which does not reach "
                f"all code; torch refuses: {first_line(error)}. Write that operation in terms of "
                "others, or run without --shard-params."
            ) from error

    def _share_of_mean(self, index: int) -> Tensor:
        """This rank's part of a batch's term of the dataset mean."""
        batch, factor = self._computed[index]
        mean = self._loss(self.sharded.module, self._data.batch(batch)).mean
        return mean * (factor / self._total)

    def _weigh(self, empty: Sequence[bool]) -> None:
        """Weights of all batches, and what this rank computes where it has none of one."""
        own = torch.zeros(len(empty), dtype=torch.float64)
        for index, none in enumerate(empty):
            # Computed all the same, since all ranks take part.
            with twice_differentiable(dtype=self.dtype), torch.no_grad():
                value = self._loss(self.sharded.module, self._data.batch(index))
            own[index] = 0.0 if none else max(0.0, value.weight)
        weighted = [index for index, weight in enumerate(own.tolist()) if weight > 0]
        without = [r for r, some in enumerate(self.group.of_all(bool(weighted))) if not some]
        if without:
            raise InputError(
                f"--shard-params: expected every rank to have an example that counts in the loss; "
                f"rank {without[0]} of {self.group.size} has none. Use fewer ranks, or larger "
                "batches."
            )
        # A mean over nothing may be NaN: an example that counts is computed instead, and times 0.
        self._computed = [
            (index, weight) if weight > 0 else (weighted[0], 0.0)
            for index, weight in enumerate(own.tolist())
        ]
        self._weights: list[float] = self.group.sum_(own).tolist()
        self._total = sum(self._weights)
        self._active = [index for index, weight in enumerate(self._weights) if weight > 0]
