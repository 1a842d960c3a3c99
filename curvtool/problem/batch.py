"""A batch of data as the model sees it, and what a loss says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

BatchValues = tuple[Tensor, ...] | Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Batch:
    """Tensors whose first dimensions agree; `examples` is the first dimension of the first."""

    values: BatchValues
    examples: int

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        values = self.values.values() if isinstance(self.values, Mapping) else self.values
        return sum(t.nbytes for t in values if isinstance(t, Tensor))


@dataclass(frozen=True, eq=False)
class LossValue:
    """The loss of one batch.

    Attributes:
        mean: scalar tensor, differentiable: the batch's mean loss.
        weight: the denominator of that mean (examples; unmasked tokens; summed class weights).
            A batch of weight zero is skipped, and its `mean` is then not read.
        correct: right predictions among `counted`, for losses that have classes; else None.
        counted: predictions that `correct` was counted over.
    """

    mean: Tensor
    weight: float
    correct: int | None = None
    counted: int | None = None


class Loss(Protocol):
    """Maps a model and a batch to the batch's mean loss.

    `weight` is known without a second pass and must not depend on the parameters.
    """

    @property
    def name(self) -> str:
        """Name as the problem spec gives it."""
        ...

    def __call__(self, model: nn.Module, batch: Batch, *, score: bool = False) -> LossValue:
        """Evaluate; with `score`, labels are validated and right predictions counted."""
        ...
