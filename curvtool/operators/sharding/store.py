"""A flat vector of parameters of which every rank holds its part, and how tensors are had from it.

Letters: P numbers of the vector, W ranks, p numbers of this rank's part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from curvtool.distributed.group import Group
from curvtool.distributed.shares import Shares


@final
@dataclass(frozen=True)
class Place:
    """Where a tensor lies in its flat vector.

    Attributes:
        begin: its first number.
        shape: of the tensor.
    """

    begin: int
    shape: torch.Size

    @property
    def end(self) -> int:
        """Behind its last number."""
        return self.begin + math.prod(self.shape)


@final
class Store:
    """Tensors side by side in one vector, cut into consecutive parts, one for each rank.

    The parts are those of `Shares`, so that a part of such a vector is what the algorithms hold. A
    tensor belongs to one rank, or to a few neighbours; it is gathered by a broadcast from each of
    these, and given back by a reduction to each: together the bytes of one all-gather and of one
    reduce-scatter, without padding.

    Args:
        group: the ranks.
        shapes: of the tensors in their order.
        dtype: of all.
        device: of this rank's part.

    Attributes:
        places: of the tensors.
        part_p: this rank's numbers, shape (p,).
    """

    def __init__(
        self,
        group: Group,
        shapes: Sequence[torch.Size],
        *,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.group = group
        self.places: list[Place] = []
        for shape in shapes:
            self.places.append(Place(self.places[-1].end if self.places else 0, shape))
        self.size = self.places[-1].end if self.places else 0
        bounds = [self.size * rank // group.size for rank in range(group.size + 1)]
        if self.size >= group.size:
            shares = Shares(self.size, group.size)
            bounds = [shares.begin(rank) for rank in range(group.size + 1)]
        self._bounds = bounds
        self.part_p = torch.zeros(self.length, dtype=dtype, device=device)

    @property
    def length(self) -> int:
        """P."""
        return self._bounds[self.group.rank + 1] - self._bounds[self.group.rank]

    def overlap(self, place: Place, rank: int) -> tuple[int, int]:
        """The numbers of a tensor that a rank holds, counted from the vector's beginning."""
        begin = max(place.begin, self._bounds[rank])
        return begin, max(begin, min(place.end, self._bounds[rank + 1]))

    def own(self, place: Place, of_p: Tensor) -> Tensor:
        """This rank's piece of a tensor in its part of a vector: a view, maybe empty."""
        begin, end = self.overlap(place, self.group.rank)
        start = self._bounds[self.group.rank]
        return of_p[max(0, begin - start) : max(0, end - start)]

    def put(self, place: Place, values: Tensor) -> None:
        """Keep this rank's piece of a tensor that it has as a whole."""
        begin, end = self.overlap(place, self.group.rank)
        piece = values.detach().reshape(-1)[begin - place.begin : end - place.begin]
        self.own(place, self.part_p).copy_(piece)

    def gathered(self, place: Place, of_p: Tensor) -> Tensor:
        """A whole tensor of a vector.

        Args:
            place: of the tensor.
            of_p: this rank's part of the vector: `part_p`, or of another one alike.

        Returns:
            A tensor of its shape, the same on every rank. Called by all ranks.
        """
        if self.group.size == 1:
            return self.own(place, of_p).view(place.shape)
        whole = of_p.new_empty(place.end - place.begin)
        for rank in range(self.group.size):
            begin, end = self.overlap(place, rank)
            if begin < end:
                piece = whole[begin - place.begin : end - place.begin]
                if rank == self.group.rank:
                    piece.copy_(self.own(place, of_p))
                self.group.broadcast_(piece, rank)
        return whole.view(place.shape)

    def scattered(self, place: Place, values: Tensor, into_p: Tensor) -> None:
        """Add the ranks' sum of a tensor to a vector.

        Args:
            place: of the tensor.
            values: what this rank contributes, in the tensor's shape; written over.
            into_p: this rank's part of the vector. Called by all ranks.
        """
        flat = values.detach().contiguous().view(-1)
        for rank in range(self.group.size):
            begin, end = self.overlap(place, rank)
            if begin < end:
                piece = flat[begin - place.begin : end - place.begin]
                self.group.reduce_(piece, rank)
                if rank == self.group.rank:
                    self.own(place, into_p).add_(piece)
