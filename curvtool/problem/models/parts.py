"""What the built-in architectures share: activations, and the checks of keyword arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Activation = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Activation] = {
    "elu": F.elu,
    "gelu": F.gelu,
    "identity": torch.clone,
    "relu": F.relu,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "softplus": F.softplus,
    "tanh": torch.tanh,
}


def activation_named(model: str, name: object) -> Activation:
    """The activation called `name`; `model` speaks in the message of the ValueError."""
    return ACTIVATIONS[one_of(model, "activation", name, ACTIVATIONS)]


def one_of(model: str, argument: str, value: object, choices: Iterable[str]) -> str:
    """`value` when it is one of `choices`, else a ValueError that lists them."""
    known = sorted(choices)
    if not isinstance(value, str) or value not in known:
        raise ValueError(
            f"{model} needs {argument} to be one of {', '.join(known)}; got {value!r}."
        )
    return value


def positive(model: str, argument: str, value: object) -> int:
    """`value` when it is an integer of at least 1, else a ValueError."""
    # bool is an int in Python: `layers: true` in a spec is a slip, not one layer.
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{model} needs {argument} to be a positive integer; got {value!r}.")
    return value


def flag(model: str, argument: str, value: object) -> bool:
    """`value` when it is true or false, else a ValueError."""
    if not isinstance(value, bool):
        raise ValueError(f"{model} needs {argument} to be true or false; got {value!r}.")
    return value


def positives(model: str, argument: str, values: object, *, at_least: int) -> list[int]:
    """`values` as a list of at least `at_least` positive integers, else a ValueError."""
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) < at_least:
        raise ValueError(
            f"{model} needs {argument} to be a list of at least {at_least} positive integers; "
            f"got {values!r}."
        )
    return [positive(model, f"{argument}[{i}]", value) for i, value in enumerate(values)]
