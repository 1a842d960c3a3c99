"""The gradient's linearisation, kept: `torch.func.linearize` of the gradient, run eagerly."""

from __future__ import annotations

from typing import final

from curvtool.operators.ways.base import Keeper, Pieces
from curvtool.operators.ways.traced import Traced, run, traced_forward
from curvtool.problem.objective import Objective


@final
class Linearizations(Keeper):
    """A program and constants for every kept batch; batches of one shape share the program."""

    def __init__(self, objective: Objective) -> None:
        super().__init__(objective)
        self._kept: list[Traced] = []

    def keep(self, index: int, *, room: float) -> bool:
        """Trace the batch: 3 to 8 s, then its constants stay."""
        traced = traced_forward(self.objective, index)
        if traced.bytes > room:
            return False
        self._kept.append(traced)
        self.indices.append(index)
        self.bytes += traced.bytes
        return True

    def product(self, v: Pieces) -> Pieces:
        """One run of the program for every batch: about two gradients."""
        return summed([run(t.program, v, t.constants) for t in self._kept])


def summed(parts: list[Pieces]) -> Pieces:
    """The sum of the batches' parts."""
    total = list(parts[0])
    for part in parts[1:]:
        total = [a + b for a, b in zip(total, part, strict=True)]
    return total
