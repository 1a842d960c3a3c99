"""A single process as a group of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, final

from torch import Tensor

from curvtool.distributed.shares import Shares

_Result = TypeVar("_Result")


@final
class Alone:
    """A group of one."""

    rank, size, local_rank, local_size = 0, 1, 0, 1

    def __init__(self) -> None:
        self.traffic, self.waited = 0, 0.0

    def sum_(self, numbers: Tensor) -> Tensor:
        """Nothing to add."""
        return numbers

    def reduce_scatter(self, whole_P: Tensor, shares: Shares) -> Tensor:
        """The vector itself."""
        assert shares.ranks == 1
        return whole_P

    def all_gather(self, part: Tensor, shares: Shares) -> Tensor:
        """The vector itself."""
        assert shares.ranks == 1
        return part

    def broadcast_(self, numbers: Tensor, source: int) -> Tensor:
        """Nobody else to give them to."""
        assert source == 0
        return numbers

    def reduce_(self, numbers: Tensor, target: int) -> Tensor:
        """Nothing to add."""
        assert target == 0
        return numbers

    def from_first(self, make: Callable[[], _Result]) -> _Result:
        """What is made."""
        return make()

    def of_all(self, value: _Result) -> list[_Result]:
        """The value."""
        return [value]

    def leave(self, reason: str) -> None:
        """Nobody to tell."""

    @property
    def leaving(self) -> str | None:
        """Nobody else can have left."""
        return None

    def alive(self) -> None:
        """Nobody listens."""
