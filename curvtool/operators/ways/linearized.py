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
        self._kept: dict[int, Traced] = {}

    def keep(self, index: int, *, room: float) -> bool:
        """Trace the batch: 3 to 8 s, then its constants stay."""
        traced = traced_forward(self.objective, index)
        if traced.bytes > room:
            return False
        self._kept[index] = traced
        self.indices.append(index)
        self.bytes += traced.bytes
        return True

    def term(self, index: int, v: Pieces) -> Pieces:
        """One run of the program: about two gradients."""
        traced = self._kept[index]
        return run(traced.program, v, traced.constants)
