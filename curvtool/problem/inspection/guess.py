"""What could be told of a model, and what could not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from curvtool.problem.checkpoint.fit import Row, misfits
from curvtool.problem.checkpoint.names import best_variant

# Stands where a value is not known: every check refuses it by name.
TODO = "TODO"


@dataclass(frozen=True)
class ModelGuess:
    """A model that the weights fit, or none.

    Attributes:
        build: as [model] takes it, or TODO.
        kwargs: its arguments, with TODO for those that weights do not tell.
        why: sentences on how it is known.
        todo: what is left to say of it, by argument.
        output: which of its outputs a loss reads, where there are several.
        loss: the loss that models of its kind are trained with, where there is one.
    """

    build: str = TODO
    kwargs: Mapping[str, object] = field(default_factory=dict)
    why: tuple[str, ...] = ()
    todo: Mapping[str, str] = field(default_factory=dict)
    output: str | None = None
    loss: str | None = None


def meta_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Tensors of a module by name."""
    state = module.state_dict(keep_vars=True)
    return {name: t for name, t in state.items() if isinstance(t, Tensor)}


def rows_that_misfit(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> list[Row]:
    """What of the file does not fit, once prefixes are taken off its names."""
    return misfits(expected, best_variant(expected, tensors)[1])


def on_meta() -> torch.device:
    """The device on which models take no memory, to build under."""
    return torch.device("meta")


class Told:
    """Values beside the weights, by the last word of their place."""

    def __init__(self, settings: Mapping[str, object]) -> None:
        self._by_name: dict[str, dict[str, object]] = {}
        for place, value in settings.items():
            name = place.rpartition(".")[2]
            self._by_name.setdefault(name, {})[place] = value

    def value(self, *names: str) -> tuple[object, str] | None:
        """A value and its place, where only one is told under any of the names."""
        for name in names:
            places = self._by_name.get(name, {})
            if len({repr(value) for value in places.values()}) == 1:
                place, value = next(iter(places.items()))
                return value, place
        return None

    def words(self, *names: str) -> list[str]:
        """All texts under any of the names."""
        found = [v for name in names for v in self._by_name.get(name, {}).values()]
        return [v for v in found if isinstance(v, str)]
