"""The flat parameter vector: which tensors it holds, in which order, at which offsets."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from curvtool.errors import InputError
from curvtool.problem.wording import listed

# Names that a note spells out.
MOST_NAMES = 4


@final
@dataclass(frozen=True, eq=False)
class ParameterLayout:
    """Order of the parameter tensors in vectors of size P.

    Tied parameters appear once, under the first name they have; frozen ones
    (`requires_grad=False`) and those that the patterns leave out do not appear.
    """

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]
    sizes: tuple[int, ...]

    @property
    def size(self) -> int:
        """P: elements of the flat vector."""
        return sum(self.sizes)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where each tensor begins in the flat vector."""
        ends = [0]
        for size in self.sizes:
            ends.append(ends[-1] + size)
        return tuple(ends[:-1])

    def split(self, v_P: Tensor) -> tuple[Tensor, ...]:
        """Views of `v_P`, one per tensor, in the tensors' shapes."""
        pieces = torch.split(v_P, list(self.sizes))
        return tuple(p.view(shape) for p, shape in zip(pieces, self.shapes, strict=True))

    def join(self, tensors: Sequence[Tensor]) -> Tensor:
        """A new flat vector of the given tensors."""
        return torch.cat([t.reshape(-1) for t in tensors])


def lay_out(
    module: nn.Module, patterns: Sequence[str] = ()
) -> tuple[ParameterLayout, tuple[nn.Parameter, ...], list[str]]:
    """Choose the differentiated parameters of a module.

    Args:
        module: the model.
        patterns: shell patterns of parameter names; empty takes all.

    Returns:
        The layout, the parameters in its order, and sentences on what was left out or tied.

    Raises:
        InputError: when nothing is left to differentiate.
    """
    chosen: list[tuple[str, nn.Parameter]] = []
    frozen: list[str] = []
    left_out = 0
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            frozen.append(name)
        elif patterns and not any(fnmatch.fnmatchcase(name, p) for p in patterns):
            left_out += 1
        else:
            chosen.append((name, parameter))
    if not chosen:
        seen = ", ".join(name for name, _ in list(module.named_parameters())[:6]) or "none at all"
        raise InputError(
            f"The model has no parameter to differentiate: {len(frozen)} are frozen and "
            f"{left_out} are left out by --params. Its parameters begin with: {seen}. "
            "Unfreeze some, or give a pattern that matches."
        )
    notes = []
    if frozen:
        notes.append(
            f"{_count(len(frozen), 'frozen parameter tensor')} not differentiated: "
            f"{listed(frozen, most=MOST_NAMES)}."
        )
    if left_out:
        notes.append(
            f"H is a block: --params keeps {len(chosen)} of {len(chosen) + left_out} tensors."
        )
    tied = _tied_names(module)
    if tied:
        notes.append(f"Tied parameters are counted once: {listed(tied, most=MOST_NAMES)}.")
    layout = ParameterLayout(
        names=tuple(name for name, _ in chosen),
        shapes=tuple(p.shape for _, p in chosen),
        sizes=tuple(p.numel() for _, p in chosen),
    )
    return layout, tuple(p for _, p in chosen), notes


def unreached_note(names: Sequence[str]) -> str:
    """What to know of parameters that the loss does not depend on."""
    return (
        f"The loss never reaches {listed(names, most=MOST_NAMES)}: their part of H is zero "
        "(--skip-unused leaves it out)."
    )


def _tied_names(module: nn.Module) -> list[str]:
    first: dict[int, str] = {}
    tied = []
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if id(parameter) in first:
            tied.append(f"{name} = {first[id(parameter)]}")
        else:
            first[id(parameter)] = name
    return tied


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
