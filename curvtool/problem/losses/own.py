"""`hf`: the loss that a model computes itself when it is given labels, as transformers' models do.

The mean that it returns does not say what it divides by. For labels that are classes that is the
number of those counted, which are the labels after the first where the model shifts them; for
others every number. Scoring holds this against the model: the losses of a batch's two parts,
weighted, have to add up to the batch's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from curvtool.errors import InputError
from curvtool.problem.batch import NOTHING, Batch, LossValue
from curvtool.problem.losses.calling import called
from curvtool.problem.losses.labels import require_label
from curvtool.problem.losses.outputs import tensors_of
from curvtool.problem.losses.parts import require_finite
from curvtool.problem.losses.taking import USUAL_TARGET, Setting, Taken
from curvtool.problem.scores import Score, fit_of
from curvtool.problem.wording import kind_of, listed

WEIGHTS = ("auto", "labels", "next", "examples")


@dataclass(frozen=True)
class Own:
    """How a model's own loss is weighted.

    Attributes:
        weight: one of `WEIGHTS`.
        ignore_index: the label that is not counted.
        couples: whether the loss is known to be no mean over examples.
    """

    weight: str
    ignore_index: int
    couples: bool


def hf(*, weight: str = "auto", ignore_index: int = -100, couples: bool = False) -> Own:
    """The loss that `model(**batch)` returns.

    Args:
        weight: what a batch's mean divides by: "labels" (those counted), "next" (those counted
            after the first of each row), "examples", or "auto" to tell by the model.
        ignore_index: the label that is not counted.
        couples: true for a loss that is no mean over examples; the batch size is then part of H.

    Returns:
        The settings.

    Raises:
        InputError: for values that cannot be.
    """
    if weight not in WEIGHTS:
        raise InputError(
            f"hf expected weight as one of {', '.join(WEIGHTS)}; got {weight!r}. Leave it out, or "
            f"say what the model's loss divides by."
        )
    require_label("hf", ignore_index)
    if not isinstance(couples, bool):
        raise InputError(f"hf expected couples as true or false; got {couples!r}. Correct it.")
    return Own(weight, ignore_index, couples)


@dataclass(frozen=True, eq=False)
class OwnLoss:
    """A `Loss` that the model computes."""

    name: str
    own: Own
    setting: Setting

    @property
    def couples(self) -> bool:
        """Whether the loss is no mean over examples, as the user says."""
        return self.own.couples

    def __call__(self, model: nn.Module, batch: Batch, *, score: bool = False) -> LossValue:
        """The batch's mean loss.

        Args:
            model: run once; three times with `score`.
            batch: a dict, whose entries are the model's arguments.
            score: explain what does not fit, hold the weight against the batch's two parts, and
                count right predictions where the model returns logits.

        Returns:
            Mean, weight and the counts.

        Raises:
            InputError: for batches without labels, a model without a loss, or a loss that is not
                the mean of its parts.
        """
        values = self._entries(batch)
        returned = called(model, Taken((), values, None), self.setting, explain=score)
        mean = self._mean(returned, values)
        labels = values.get(USUAL_TARGET)
        shifts = _shifts(model)
        weight = self._weight(labels, batch.examples, shifts=shifts)
        if not score:
            return LossValue(mean, weight)
        require_finite(self.name, mean, None, weight)
        self._require_mean_of_parts(model, batch, mean, weight)
        return LossValue(mean, weight, self._score(returned, labels, shifts=shifts))

    def _entries(self, batch: Batch) -> dict[str, Tensor]:
        values, setting = batch.values, self.setting
        if not isinstance(values, Mapping):
            raise InputError(
                f"{self.name} expected batches that are dicts of the model's arguments, labels "
                f"among them; got a tuple of {len(values)}. Yield dicts, or use a built-in loss."
            )
        if setting.inputs is None:
            wanted = dict(values)
        else:
            target = setting.targets or USUAL_TARGET
            missing = [name for name in (*setting.inputs, target) if name not in values]
            if missing:
                raise InputError(
                    f"{self.name} expected an entry {missing[0]!r} in each batch; got "
                    f"{listed(values)}. Correct inputs or targets under [data]."
                )
            wanted = {name: values[name] for name in setting.inputs}
            wanted[USUAL_TARGET] = values[target]
        if setting.targets is not None and setting.targets in wanted:
            wanted[USUAL_TARGET] = wanted.pop(setting.targets)
        return wanted

    def _mean(self, returned: object, values: Mapping[str, Tensor]) -> Tensor:
        there = tensors_of(returned)
        loss = there.get("loss")
        if loss is None and isinstance(returned, tuple) and there:
            first = there.get("0")
            loss = first if first is not None and first.numel() == 1 else None
        if loss is None or loss.numel() != 1:
            raise InputError(
                f"{self.name} expected {self.setting.model} to return its loss when it is called "
                f"with {listed(values)}; it returned {kind_of(returned)} with "
                f"{listed(there) or 'no tensors'}. Add labels to the batches, or use a built-in "
                f"loss."
            )
        return loss.reshape(())

    def _weight(self, labels: Tensor | None, examples: int, *, shifts: bool) -> float:
        how = self.own.weight
        if how == "examples" or labels is None:
            return float(examples)
        if labels.is_floating_point():
            return float(labels.numel())
        if how == "next" or (how == "auto" and shifts):
            labels = labels[..., 1:]
        return float(torch.count_nonzero(labels != self.own.ignore_index))

    def _require_mean_of_parts(
        self, model: nn.Module, batch: Batch, mean: Tensor, weight: float
    ) -> None:
        parts = batch.halves()
        if self.own.couples or len(parts) < 2 or not weight:
            return
        with torch.no_grad():
            values = [self(model, part) for part in parts]
        total = sum(v.weight * float(v.mean) for v in values if v.weight)
        size = sum(v.weight * abs(float(v.mean)) for v in values if v.weight)
        # Sums round by eps of their size for every example or so; transformers take their losses
        # in float32 whatever the model's type.
        eps = max(torch.finfo(mean.dtype).eps, torch.finfo(torch.float32).eps)
        if abs(total - weight * float(mean.detach())) <= 1e3 * eps * size:
            return
        raise InputError(
            f"{self.name} expected the model's loss to be a mean over {weight:,.0f} labels or "
            f"examples of a batch; the losses of the batch's two parts do not add up to it "
            f"({total / weight:.6g} instead of {float(mean.detach()):.6g}). Say what it divides by "
            f"(--loss-kwargs weight=labels, next or examples), or couples=true if the examples of "
            f"a batch depend on each other."
        )

    def _score(self, returned: object, labels: Tensor | None, *, shifts: bool) -> Score:
        logits = tensors_of(returned).get("logits")
        if logits is None or labels is None:
            return NOTHING
        if labels.is_floating_point():
            if not _regresses(logits, labels):
                return NOTHING
            return Score(fit=fit_of(logits.detach().reshape(-1), labels.reshape(-1)))
        if logits.shape[:-1] != labels.shape or self.own.weight == "examples":
            return NOTHING
        if self.own.weight == "next" or (self.own.weight == "auto" and shifts):
            logits, labels = logits[..., :-1, :], labels[..., 1:]
        counted = labels != self.own.ignore_index
        right = (logits.argmax(-1) == labels) & counted
        return Score(int(right.sum()), int(counted.sum()))


def _regresses(logits: Tensor, labels: Tensor) -> bool:
    """Whether outputs and real labels pair off; labels of 0 and 1 are classes, not values."""
    same = logits.numel() == labels.numel()
    return same and not bool(((labels == 0) | (labels == 1)).all())


def _shifts(model: nn.Module) -> bool:
    """Whether the model's loss is of the next token, by what transformers write into the model."""
    kind: Any = getattr(model, "loss_type", None)
    named = kind if isinstance(kind, str) else type(model).__name__
    # What a decoder beside an encoder is given is shifted, its labels are not.
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        return False
    return any(word in named for word in ("CausalLM", "LMHead", "ForConditionalGeneration"))
