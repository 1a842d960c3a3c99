"""What a solve has to know of the function whose Hessian it is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, final

import torch

from curvtool.problem.objective import Evaluation
from curvtool.problem.parameters import ParameterLayout
from curvtool.problem.scores import Score


class Subject(Protocol):
    """A mean loss over flat parameters."""

    @property
    def size(self) -> int:
        """P."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of parameters and vectors."""
        ...

    @property
    def device(self) -> torch.device:
        """Where they lie."""
        ...

    @property
    def layout(self) -> ParameterLayout:
        """Of the flat vector."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What a reader of the result has to know."""
        ...

    @property
    def num_examples(self) -> int:
        """Of the dataset."""
        ...

    @property
    def num_batches(self) -> int:
        """Of the dataset."""
        ...

    @property
    def total_weight(self) -> float:
        """Denominator of the mean."""
        ...


NOTHING_COUNTED = Score()


@final
@dataclass(frozen=True, kw_only=True)
class Measured:
    """Its value at the checkpoint.

    Attributes:
        loss: the mean.
        gradient_norm: of its gradient.
        score: what was counted.
        uses_attention: whether fused attention was called.
    """

    loss: float
    gradient_norm: float
    score: Score = NOTHING_COUNTED
    uses_attention: bool = False


def measured(there: Evaluation) -> Measured:
    """What an evaluation of a whole model on this process says."""
    return Measured(
        loss=there.loss,
        gradient_norm=float(there.gradient_P.double().norm()),
        score=there.score,
        uses_attention=there.uses_attention,
    )
