"""A batch taken apart: what the model is called with, and the target."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from torch import Tensor, nn

from curvtool.errors import InputError
from curvtool.problem.batch import Batch
from curvtool.problem.wording import did_you_mean, listed

# As transformers and their datasets call the target.
USUAL_TARGET = "labels"


@dataclass(frozen=True)
class Setting:
    """What the rest of the problem tells a loss.

    Attributes:
        model: the model as the spec names it, for messages.
        user_model: whether the model is the user's code.
        inputs: names of the inputs, for batches whose parts have names.
        targets: name of the target, likewise.
        output: which of the model's outputs the loss reads.
    """

    model: str = "the model"
    user_model: bool = False
    inputs: tuple[str, ...] | None = None
    targets: str | None = None
    output: str | None = None


@dataclass(frozen=True, eq=False)
class Taken:
    """The parts of a batch.

    Attributes:
        arguments: the model's, in order.
        named: the model's, by name.
        target: None where the batch has none, of losses that need none.
        others: entries of the batch by name, those above among them.
    """

    arguments: tuple[Tensor, ...]
    named: Mapping[str, Tensor]
    target: Tensor | None
    others: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """All that the model is called with."""
        return (*self.arguments, *self.named.values())


def taken_apart(
    batch: Batch, model: nn.Module, *, loss: str, setting: Setting, target: bool | None
) -> Taken:
    """Take a batch apart.

    A tuple is the inputs, then the target. A dict's inputs go to the model in the order in which
    they are named where that is the order of its arguments, else by name where it has arguments of
    all these names. Unnamed, the target is "labels" and the inputs all others that it has arguments
    for.

    Args:
        batch: a tuple or a dict.
        model: about to be called.
        loss: its name, for messages.
        setting: names, where the problem gives them.
        target: whether there has to be one; None where there may be one.

    Returns:
        The parts.

    Raises:
        InputError: where names are missing, or not there.
    """
    values = batch.values
    if not isinstance(values, Mapping):
        return _tuple_apart(values, loss, target)
    _require_there(values, setting, loss)
    wanted = setting.targets
    if wanted is None and target is not False and USUAL_TARGET in values:
        wanted = USUAL_TARGET
    ordered, arguments = _arguments_of(model)
    inputs = setting.inputs
    if inputs is None:
        rest = tuple(name for name in values if name != wanted)
        inputs = rest if rest and set(rest) <= arguments else None
    if inputs is None or (target and wanted is None):
        raise InputError(
            f"{loss} expected to be told which entries of a batch are inputs and target; "
            f'got a dict with {listed(values)}. Add inputs = "..." and targets = "..." under '
            f"[data] (--data-kwargs inputs=NAME targets=NAME)."
        )
    given = {name: values[name] for name in inputs}
    found = None if wanted is None else values[wanted]
    in_order = tuple(inputs) == ordered[: len(inputs)]
    if not in_order and set(inputs) <= arguments:
        return Taken((), given, found, values)
    return Taken(tuple(given.values()), {}, found, values)


def _arguments_of(model: nn.Module) -> tuple[tuple[str, ...], frozenset[str]]:
    """Names of the positional arguments of `forward`, and of all that it takes by name."""
    forward = model.forward
    return _names_of(getattr(forward, "__func__", forward))


@lru_cache(maxsize=64)
def _names_of(forward: Callable[..., object]) -> tuple[tuple[str, ...], frozenset[str]]:
    try:
        parameters = inspect.signature(forward).parameters.values()
    except (TypeError, ValueError):  # of functions that are written in C
        return (), frozenset()
    either = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"]
    by_name = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    return tuple(either), frozenset([*either, *by_name])


def _tuple_apart(values: tuple[Tensor, ...], loss: str, target: bool | None) -> Taken:
    if target is False or (target is None and len(values) == 1):
        return Taken(values, {}, None)
    if len(values) < 2:
        raise InputError(
            f"{loss} expected batches of inputs and a target; got {len(values)} "
            f"tensor. Give (inputs, targets), or use a loss of your own: --loss "
            f"file.py:loss."
        )
    return Taken(values[:-1], {}, values[-1])


def _require_there(values: Mapping[str, Tensor], setting: Setting, loss: str) -> None:
    named = [*(setting.inputs or ()), *([setting.targets] if setting.targets else [])]
    for name in named:
        if name not in values:
            raise InputError(
                f"{loss} expected an entry {name!r} in each batch; got {listed(values)}."
                f"{did_you_mean(name, values)} Correct inputs or targets under [data]."
            )
