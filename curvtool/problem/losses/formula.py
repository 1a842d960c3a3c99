"""A built-in loss as a formula of outputs and targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from curvtool.problem.losses.head import Head
from curvtool.problem.scores import Score


@dataclass(frozen=True)
class Formula:
    """A built-in loss given outputs and targets.

    Attributes:
        prepare: brings targets to the outputs' form; raises InputError where they cannot fit.
        total: the summed loss and nothing else, differentiable.
        weight: the denominator that turns the sum into the mean.
        score: validates values and counts right predictions, or the errors of real ones.
        each: the terms of the sum, and what each adds to the denominator; None where there are no
            terms to be had.
    """

    prepare: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    total: Callable[[Tensor, Tensor], Tensor]
    weight: Callable[[Tensor, Tensor], float]
    score: Callable[[Tensor, Tensor], Score]
    each: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None


@dataclass(frozen=True)
class HeadFormula:
    """A loss that makes the outputs itself, of what the model's last layer is given.

    Attributes:
        head: that layer.
        given: its weight and bias -> the formula, whose outputs are the layer's inputs.
    """

    head: Head
    given: Callable[[Tensor, Tensor | None], Formula]
