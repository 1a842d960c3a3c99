"""The transforms of a problem, in their order, each for its part of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from curvtool.errors import InputError
from curvtool.problem.batch import BatchValues
from curvtool.problem.data.transforms import TRANSFORMS, Change
from curvtool.problem.spec import DataSpec
from curvtool.problem.wording import did_you_mean, first_line, kind_of, listed, misfit_of_kwargs

INPUTS, TARGETS = "inputs", "targets"
_OF_TARGETS = frozenset({"one_hot"})
_EXAMPLE = '{ name = "normalize", mean = 0.5, std = 0.5 }'


@final
@dataclass(frozen=True, eq=False)
class Step:
    """One transform.

    Attributes:
        name: of the transform.
        part: that it changes: "inputs", "targets", or the name of a part.
        change: what it does.
    """

    name: str
    part: str
    change: Change


@final
@dataclass(frozen=True, eq=False)
class Preprocessing:
    """All transforms of a problem; none where `steps` is empty."""

    steps: tuple[Step, ...] = ()
    inputs: tuple[str, ...] | None = None
    targets: str | None = None

    def __call__(self, values: BatchValues, label: str) -> BatchValues:
        """The batch after all steps.

        Args:
            values: a batch; it is left as it is.
            label: whose batch it is, for messages.

        Returns:
            Another batch, or the same where there are no steps.

        Raises:
            InputError: for a part that is not there, or a shape that a step cannot take.
        """
        for step in self.steps:
            key = self._key(step, values, label)
            before = values[key]  # type: ignore[index]
            after = _changed(step, before, label)
            if isinstance(values, Mapping):
                values = {**values, str(key): after}
            else:
                place = int(key)
                values = (*values[:place], after, *values[place + 1 :])
        return values

    def alone(self, values: BatchValues, label: str) -> BatchValues:
        """The same for one example, whose tensors have no axis of examples."""
        if not self.steps:
            return values
        if isinstance(values, Mapping):
            whole: BatchValues = {name: t[None] for name, t in values.items()}
        else:
            whole = tuple(t[None] for t in values)
        changed = self(whole, label)
        if isinstance(changed, Mapping):
            return {name: t[0] for name, t in changed.items()}
        return tuple(t[0] for t in changed)

    def _key(self, step: Step, values: BatchValues, label: str) -> str | int:
        named = isinstance(values, Mapping)
        last = len(values) - 1
        inputs = self.inputs or (() if named else tuple(str(i) for i in range(max(last, 1))))
        if step.part == TARGETS and (self.targets or not named):
            return str(self.targets) if named else last
        if step.part == INPUTS and len(inputs) == 1:
            return inputs[0] if named else 0
        if named and step.part in values:
            return step.part
        if not named and step.part in inputs and inputs.index(step.part) < last:
            return inputs.index(step.part)
        if not named and step.part == self.targets:
            return last
        known = [*(values if isinstance(values, Mapping) else inputs), INPUTS, TARGETS]
        raise InputError(
            f"{label}: expected the transform {step.name} to be told which part it changes; "
            f'{step.part!r} is not one part of {listed(known)}. Add of = "NAME" to it.'
        )


def preprocessing_of(spec: DataSpec) -> Preprocessing:
    """The transforms of [data], checked as far as they can be without data.

    Args:
        spec: the data.

    Returns:
        The transforms.

    Raises:
        InputError: for a transform that there is none of, or arguments that it does not take.
    """
    steps = tuple(_step(entry, spec) for entry in spec.transforms)
    return Preprocessing(steps, spec.inputs, spec.targets)


def _step(entry: object, spec: DataSpec) -> Step:
    who = spec.origin.label
    if isinstance(entry, str):
        entry = {"name": entry}
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
        raise InputError(
            f"{who}: expected each of transforms to be a name, or a table with one; got "
            f"{kind_of(entry)}. Write for example transforms = [{_EXAMPLE}]."
        )
    arguments = dict(entry)
    name = str(arguments.pop("name"))
    if name not in TRANSFORMS:
        hint = did_you_mean(name, TRANSFORMS)
        if name == "scale":
            hint = " Write divide or multiply: by is 255 in the one where it is 1/255 in the other."
        raise InputError(
            f"{who}: expected a transform among {listed(TRANSFORMS, most=20)}; got {name!r}.{hint}"
        )
    part = arguments.pop("of", TARGETS if name in _OF_TARGETS else INPUTS)
    misfit = misfit_of_kwargs(TRANSFORMS[name], arguments)
    if misfit or not isinstance(part, str):
        raise InputError(
            f"{who}: expected arguments that the transform {name} has, and of = the name of a "
            f"part; got {dict(entry)}: {misfit or kind_of(part)} Correct transforms under [data]."
        )
    try:
        change = TRANSFORMS[name](**arguments)
    except InputError as error:
        raise InputError(
            f"{who}: the transform {name} {error} Correct transforms under [data]."
        ) from error
    return Step(name, part, change)


def _changed(step: Step, before: Tensor, label: str) -> Tensor:
    try:
        after = step.change(before)
    except InputError as error:
        raise InputError(
            f"{label}: the transform {step.name} {error} Correct transforms under [data]."
        ) from error
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise InputError(
            f"{label}: expected examples that the transform {step.name} can take; got shape "
            f"{tuple(before.shape[1:])} ({first_line(error)}). Correct transforms under [data]."
        ) from error
    if after.is_floating_point() and not bool(torch.isfinite(after).all()):
        raise InputError(
            f"{label}: expected finite numbers after the transform {step.name}; some are not. "
            f"Correct its arguments."
        )
    return after
