"""What every built-in loss does before its formula: take a batch apart, run the model."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from curvtool.errors import HookError, InputError
from curvtool.problem.batch import Batch, LossValue
from curvtool.problem.losses.head import Head
from curvtool.problem.wording import did_you_mean, first_line, kind_of, listed, shape_of


@dataclass(frozen=True)
class Setting:
    """What the rest of the problem tells a loss.

    Attributes:
        model: the model as the spec names it, for messages.
        user_model: whether the model is the user's code.
        inputs: names of the inputs, for batches whose parts have names.
        targets: name of the target, likewise.
    """

    model: str = "the model"
    user_model: bool = False
    inputs: tuple[str, ...] | None = None
    targets: str | None = None


@dataclass(frozen=True)
class Formula:
    """A built-in loss given outputs and targets.

    Attributes:
        prepare: brings targets to the outputs' form; raises InputError where they cannot fit.
        total: the summed loss and nothing else, differentiable.
        weight: the denominator that turns the sum into the mean.
        score: validates values and returns (right predictions, predictions), or None.
    """

    prepare: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    total: Callable[[Tensor, Tensor], Tensor]
    weight: Callable[[Tensor, Tensor], float]
    score: Callable[[Tensor, Tensor], tuple[int, int] | None]


@dataclass(frozen=True)
class HeadFormula:
    """A loss that makes the outputs itself, of what the model's last layer is given.

    Attributes:
        head: that layer.
        given: its weight and bias -> the formula, whose outputs are the layer's inputs.
    """

    head: Head
    given: Callable[[Tensor, Tensor | None], Formula]


@dataclass(frozen=True, eq=False)
class BuiltinLoss:
    """A `Loss` made of a formula.

    `weight` is remembered for as long as the batch lives, so that the device is asked once.
    """

    name: str
    formula: Formula | HeadFormula
    setting: Setting
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
            Mean, weight and, with `score` and classes, the counts.

        Raises:
            InputError: for data that does not fit model or loss.
        """
        inputs, targets = self._taken_apart(batch)
        outputs, formula = self._evaluated(model, inputs, score=score)
        outputs, targets = formula.prepare(outputs, targets)
        # Before the sum is taken: a label out of range stops a GPU for good.
        counts = formula.score(outputs.detach(), targets) if score else None
        if batch not in self._weights:
            self._weights[batch] = formula.weight(outputs, targets)
        weight = self._weights[batch]
        mean = formula.total(outputs, targets) / (weight or 1.0)
        if score:
            require_finite(self.name, mean, outputs, weight)
        correct, counted = counts or (None, None)
        return LossValue(mean, weight, correct, counted)

    def _taken_apart(self, batch: Batch) -> tuple[tuple[Tensor, ...], Tensor]:
        values, setting = batch.values, self.setting
        if not isinstance(values, Mapping):
            if len(values) < 2:
                raise InputError(
                    f"{self.name} expected batches of inputs and a target; got {len(values)} "
                    f"tensor. Give (inputs, targets), or use a loss of your own: --loss "
                    f"file.py:loss."
                )
            return values[:-1], values[-1]
        if setting.inputs is None or setting.targets is None:
            raise InputError(
                f"{self.name} expected to be told which entries of a batch are inputs and target; "
                f'got a dict with {listed(values)}. Add inputs = "..." and targets = "..." under '
                f"[data] (--data-kwargs inputs=NAME targets=NAME)."
            )
        for name in (*setting.inputs, setting.targets):
            if name not in values:
                raise InputError(
                    f"{self.name} expected an entry {name!r} in each batch; got {listed(values)}."
                    f"{did_you_mean(name, values)} Correct inputs or targets under [data]."
                )
        return tuple(values[name] for name in setting.inputs), values[setting.targets]

    def _evaluated(
        self, model: nn.Module, inputs: tuple[Tensor, ...], *, score: bool
    ) -> tuple[Tensor, Formula]:
        """What the model returns, and the formula that takes it."""

        def run() -> Tensor:
            outputs = self._run(model, inputs) if score else model(*inputs)
            if isinstance(outputs, Tensor):
                return outputs
            raise InputError(
                f"{self.name} expected {self.setting.model} to return one tensor; it returned "
                f"{kind_of(outputs)}. Choose the output in a loss of your own: --loss file.py:loss."
            )

        if isinstance(self.formula, Formula):
            return run(), self.formula
        hidden, weight, bias = self.formula.head.leave_out(model, run, check_hooks=score)
        return hidden, self.formula.given(weight, bias)

    def _run(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> object:
        try:
            return model(*inputs)
        except (InputError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            kind = HookError if self.setting.user_model else InputError
            shown = ", ".join(shape_of(tensor) for tensor in inputs)
            without = ""
            if isinstance(self.formula, HeadFormula):
                without = f", and that head={self.formula.head.name} names the last layer"
            raise kind(
                f"{self.setting.model} was expected to run on the data's inputs; given {shown} it "
                f"raised {type(error).__name__}: {first_line(error)}. Check that data, model and "
                f"its arguments belong together{without}."
            ) from error


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
