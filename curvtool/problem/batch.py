"""A batch of data as the model sees it, and what a loss says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from curvtool.problem.scores import Score

NOTHING = Score()
BatchValues = tuple[Tensor, ...] | Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Batch:
    """Tensors whose first dimensions agree.

    Attributes:
        values: the parts: inputs and target, or whatever the loss takes.
        examples: the first dimension of the first part.
        weights: what each example, or each of its predictions, counts in the mean; None for 1.
    """

    values: BatchValues
    examples: int
    weights: Tensor | None = None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The values that are tensors, and the weights; a dict may hold others."""
        values = self.values.values() if isinstance(self.values, Mapping) else self.values
        weights = () if self.weights is None else (self.weights,)
        return (*(t for t in values if isinstance(t, Tensor)), *weights)

    @property
    def shapes(self) -> tuple[torch.Size, ...]:
        """Shapes of the tensors."""
        return tuple(t.shape for t in self.tensors)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(t.nbytes for t in self.tensors)

    def moved(
        self, device: torch.device, dtype: torch.dtype, *, non_blocking: bool = False
    ) -> Batch:
        """The batch on a device, floating-point tensors in `dtype`; what fits is not copied."""

        def move(t: Tensor) -> Tensor:
            to = dtype if t.is_floating_point() else t.dtype
            return t.to(device=device, dtype=to, non_blocking=non_blocking)

        return self._mapped(move, self.examples)

    def fetched(self) -> Batch:
        """Itself, which is in memory, as a stored batch is once it was read."""
        return self

    def pinned(self) -> Batch:
        """The batch in pages that a GPU reads without waiting."""
        return self._mapped(Tensor.pin_memory, self.examples)

    def part(self, start: int, stop: int) -> Batch:
        """Examples from `start` to before `stop`; tensors without an example axis stay whole."""

        def cut(t: Tensor) -> Tensor:
            return t[start:stop] if t.dim() and t.shape[0] == self.examples else t

        return self._mapped(cut, min(stop, self.examples) - start)

    def halves(self) -> tuple[Batch, ...]:
        """The batch in two parts, or itself where it has one example."""
        if self.examples < 2:
            return (self,)
        middle = -(-self.examples // 2)
        return self.part(0, middle), self.part(middle, self.examples)

    def _mapped(self, change: Callable[[Tensor], Tensor], examples: int) -> Batch:
        weights = None if self.weights is None else change(self.weights)
        return Batch(_mapped(self.values, change), examples, weights)


def _mapped(values: BatchValues, change: Callable[[Tensor], Tensor]) -> BatchValues:
    if isinstance(values, Mapping):
        return {name: change(t) if isinstance(t, Tensor) else t for name, t in values.items()}
    return tuple(change(t) if isinstance(t, Tensor) else t for t in values)


@dataclass(frozen=True, eq=False)
class LossValue:
    """The loss of one batch.

    Attributes:
        mean: scalar tensor, differentiable: the batch's mean loss.
        weight: the denominator of that mean (examples; unmasked tokens; summed class weights).
            A batch of weight zero is skipped, and its `mean` is then not read.
        score: what was counted, where that was asked for.
    """

    mean: Tensor
    weight: float
    score: Score = NOTHING


class Loss(Protocol):
    """Maps a model and a batch to the batch's mean loss.

    `weight` is known without a second pass and must not depend on the parameters.
    """

    @property
    def name(self) -> str:
        """Name as the problem spec gives it."""
        ...

    @property
    def couples(self) -> bool:
        """Whether a batch's loss is no mean over its examples, so that its size is part of H."""
        ...

    def __call__(self, model: nn.Module, batch: Batch, *, score: bool = False) -> LossValue:
        """Evaluate; with `score`, labels are validated and right predictions counted."""
        ...
