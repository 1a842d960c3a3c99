"""`file.py:loss`: the user's `loss(model, batch)`, a mean or (mean, weight)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from curvtool.errors import InputError
from curvtool.problem.batch import Batch, LossValue
from curvtool.problem.hooks import Hook
from curvtool.problem.losses.parts import require_finite
from curvtool.problem.wording import kind_of


@dataclass(frozen=True, eq=False)
class HookLoss:
    """A `Loss` made of the user's function; its weight is the batch's examples unless it says."""

    name: str
    hook: Hook
    kwargs: dict[str, object]
    couples: bool = False

    def __call__(self, model: nn.Module, batch: Batch, *, score: bool = False) -> LossValue:
        """The batch's mean loss.

        Args:
            model: handed to the function.
            batch: its values are handed to the function, as the dataset yields them.
            score: turn what the function raises into a `HookError`. Without it exceptions come
                through, since the caller may know a way round them.

        Returns:
            Mean and weight; nothing is counted.

        Raises:
            InputError: for a result that is not a mean, or a mean and its weight.
        """
        values = batch.values
        if score:
            result = self.hook.call(model, values, **self.kwargs)
        else:
            result = self.hook.function(model, values, **self.kwargs)
        mean, weight = self._read(result, batch)
        if score:
            require_finite(self.name, mean, None, weight)
        return LossValue(mean, weight)

    def _read(self, result: object, batch: Batch) -> tuple[Tensor, float]:
        mean, weight = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
        if not isinstance(mean, Tensor) or mean.numel() != 1:
            raise InputError(
                f"{self.name} was expected to return the mean loss (a scalar tensor), or (mean "
                f"loss, weight); it returned {kind_of(result)}. Return for example "
                f"F.cross_entropy(model(x), y)."
            )
        number = float(batch.examples) if weight is None else _number(weight)
        if not (math.isfinite(number) and number >= 0):
            raise InputError(
                f"{self.name} was expected to return a weight that is a finite number of at least "
                f"0; it returned {weight!r}. The weight is what the mean divides by, e.g. the "
                f"number of unmasked tokens."
            )
        return mean.reshape(()), number


def _number(weight: object) -> float:
    if isinstance(weight, Tensor) and weight.numel() == 1:
        return float(weight.detach())
    return float(weight) if isinstance(weight, int | float) else math.nan
