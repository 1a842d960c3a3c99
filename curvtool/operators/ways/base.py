"""What a way to make products owes: the part of H v that some batches contribute.

Vectors come and go as pieces, one tensor for each parameter tensor.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from curvtool.problem.objective import Objective

Pieces = Sequence[Tensor]
# Objective, index of the batch, v -> the batch's part of H v.
Rebuild = Callable[[Objective, int, Pieces], Pieces]


class Keeper(ABC):
    """Batches of an objective with what can be kept between their products.

    Attributes:
        objective: whose batches these are.
        indices: of the batches kept so far.
        bytes: memory that they take between products.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.indices: list[int] = []
        self.bytes = 0

    @abstractmethod
    def keep(self, index: int, *, room: float) -> bool:
        """Keep a batch; False, and nothing kept, where it takes more than `room` bytes."""

    @abstractmethod
    def term(self, index: int, v: Pieces) -> Pieces:
        """The part of H v of one kept batch."""

    def product(self, v: Pieces) -> Pieces:
        """The part of H v of all kept batches."""
        return summed(self.term(index, v) for index in self.indices)

    def restricted(self, index: int, v: Mapping[int, Tensor]) -> Mapping[int, Tensor]:
        """The part of H v of one kept batch on the places of v, which is zero elsewhere."""
        found = self.term(index, embedded(v, self.objective))
        return {place: found[place] for place in v}

    def products(self, block: Pieces) -> Pieces:
        """The same for a block: pieces with one more dimension in front."""
        rows = [self.product([piece[i] for piece in block]) for i in range(len(block[0]))]
        return [torch.stack(column) for column in zip(*rows, strict=True)]


@final
@dataclass(frozen=True)
class Way:
    """A way to make products.

    Attributes:
        name: as `--hvp` takes it.
        summary: a few words for tables.
        rebuild: for ways that start afresh at every product.
        keeper: for ways that keep something of every batch.
        rest: of a keeping way: the name of the one that serves batches there is no room for.
        exact: whether it differentiates, rather than takes differences.
        checked_as: the way whose derivatives these are, which the preflight can check quickly.
        blocks: whether a block of vectors can cost less than so many products.
        concurrent: whether threads may make the parts of different kept batches at once, and may
            gain by it.
    """

    name: str
    summary: str
    rebuild: Rebuild | None = None
    keeper: Callable[[Objective], Keeper] | None = None
    rest: str = "reverse-over-reverse"
    exact: bool = True
    checked_as: str = ""
    blocks: bool = False
    concurrent: bool = False

    @property
    def keeps(self) -> bool:
        """Whether memory buys speed."""
        return self.keeper is not None


def embedded(v: Mapping[int, Tensor], objective: Objective) -> Pieces:
    """Pieces for all parameters, zero where none is given."""
    return [v[i] if i in v else torch.zeros_like(p) for i, p in enumerate(objective.parameters)]


@final
class Sum:
    """A running sum of batches' parts.

    Attributes:
        total: of the parts so far; None before the first.
    """

    def __init__(self, total: Pieces | None = None) -> None:
        self.total = total
        self._own = total is not None

    def add(self, part: Pieces) -> None:
        """Add a batch's part."""
        if self.total is None:
            self.total = part
        elif self._own:
            for a, b in zip(self.total, part, strict=True):
                a.add_(b)
        else:
            # The first sum is a new tensor: a part may be expanded, or belong to somebody else.
            self.total = [a + b for a, b in zip(self.total, part, strict=True)]
            self._own = True


def summed(parts: Iterable[Pieces]) -> Pieces:
    """The sum of the batches' parts, of which there is at least one."""
    found = Sum()
    for part in parts:
        found.add(part)
    assert found.total is not None
    return found.total


def detached(tangents: Sequence[Tensor | None], parameters: Pieces) -> Pieces:
    """Derivatives without graph, zeros where there is none."""
    return [
        torch.zeros_like(p) if t is None else t.detach()
        for t, p in zip(tangents, parameters, strict=True)
    ]
