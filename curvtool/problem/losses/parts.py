"""What every built-in loss does before its formula: take a batch apart, run the model."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

from curvtool.errors import InputError
from curvtool.problem.batch import NOTHING, Batch, LossValue
from curvtool.problem.losses.calling import called
from curvtool.problem.losses.formula import Formula as Formula
from curvtool.problem.losses.formula import HeadFormula as HeadFormula
from curvtool.problem.losses.outputs import chosen_output
from curvtool.problem.losses.taking import Setting, Taken, taken_apart
from curvtool.problem.losses.weighted import weighted


@dataclass(frozen=True, eq=False)
class BuiltinLoss:
    """A `Loss` made of a formula.

    `weight` is remembered for as long as the batch lives, so that the device is asked once.

    Attributes:
        name: as the spec gives it.
        formula: of outputs and targets.
        setting: what the rest of the problem says.
        target: whether a batch has to have a target; None where it may.
        labels: the target of a batch taken apart, with True checked; None for the batch's own.
        couples: whether the formula is no mean over examples.
    """

    name: str
    formula: Formula | HeadFormula
    setting: Setting
    target: bool | None = True
    labels: Callable[[Taken, bool], Tensor] | None = None
    couples: bool = False
    _weights: weakref.WeakKeyDictionary[Batch, float] = field(
        default_factory=weakref.WeakKeyDictionary, repr=False
    )

    def __call__(self, model: nn.Module, batch: Batch, *, score: bool = False) -> LossValue:
        """The batch's mean loss.

        Args:
            model: run once.
            batch: inputs and targets.
            score: validate outputs and labels with a sentence for what does not fit, and count
                right predictions. Without it the model's own exceptions come through, since the
                caller may know a way round them.

        Returns:
            Mean, weight and, with `score`, the counts.

        Raises:
            InputError: for data that does not fit model or loss.
        """
        taken = taken_apart(batch, model, loss=self.name, setting=self.setting, target=self.target)
        targets = taken.target if self.labels is None else self.labels(taken, score)
        assert targets is not None
        outputs, formula = self._evaluated(model, taken, score=score)
        outputs, targets = formula.prepare(outputs, targets)
        if batch.weights is not None:
            formula = weighted(formula, batch.weights, self.name)
        # Before the sum is taken: a label out of range stops a GPU for good.
        counts = formula.score(outputs.detach(), targets) if score else NOTHING
        if batch not in self._weights:
            self._weights[batch] = formula.weight(outputs, targets)
        weight = self._weights[batch]
        mean = formula.total(outputs, targets) / (weight or 1.0)
        if score:
            require_finite(self.name, mean, outputs, weight)
        return LossValue(mean, weight, counts)

    def _evaluated(self, model: nn.Module, taken: Taken, *, score: bool) -> tuple[Tensor, Formula]:
        """What the model returns, and the formula that takes it."""
        hint = ""
        if isinstance(self.formula, HeadFormula):
            hint = f", and that head={self.formula.head.name} names the last layer"

        def run() -> Tensor:
            returned = called(model, taken, self.setting, explain=score, hint=hint)
            return chosen_output(
                returned, self.setting.output, loss=self.name, model=self.setting.model
            )

        if isinstance(self.formula, Formula):
            return run(), self.formula
        hidden, weight, bias = self.formula.head.leave_out(model, run, check_hooks=score)
        return hidden, self.formula.given(weight, bias)


def require_finite(name: str, mean: Tensor, outputs: Tensor | None, weight: float) -> None:
    """Refuse a loss that is NaN or infinite.

    Args:
        name: of the loss.
        mean: a scalar.
        outputs: what the model returned, where it is known.
        weight: of the batch; one of weight zero is not read.

    Raises:
        InputError: where there is no finite loss whose curvature could be taken.
    """
    if weight == 0 or bool(mean.isfinite()):
        return
    loud = outputs is not None and not bool(outputs.isfinite().all())
    cause = ", since the model's output holds NaN or infinity" if loud else ""
    raise InputError(
        f"{name} expected a finite loss; it is {float(mean.detach())}{cause}. Check inputs, "
        f"targets and their preprocessing; half precision may overflow where --dtype float32 does "
        f"not."
    )
