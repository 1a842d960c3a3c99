"""How a vector of P numbers, and a dataset, are shared out over ranks.

Letters: P size of a vector, W ranks, n examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class Shares:
    """Consecutive parts of a vector, one for each rank; their sizes differ by one at most.

    Attributes:
        size: P, at least W.
        ranks: W.
    """

    size: int
    ranks: int

    def __post_init__(self) -> None:
        """Every rank has a part."""
        if not 1 <= self.ranks <= self.size:
            raise ValueError(f"Shares needs 1 <= ranks <= {self.size}, got {self.ranks}.")

    def begin(self, rank: int) -> int:
        """Where a rank's part begins; `begin(W)` is P."""
        return self.size * rank // self.ranks

    def part(self, rank: int) -> slice:
        """A rank's part."""
        return slice(self.begin(rank), self.begin(rank + 1))

    def length(self, rank: int) -> int:
        """Numbers in a rank's part."""
        return self.begin(rank + 1) - self.begin(rank)

    @property
    def longest(self) -> int:
        """Numbers in the longest part."""
        return -(-self.size // self.ranks)

    @property
    def even(self) -> bool:
        """Whether all parts are equally long."""
        return self.size % self.ranks == 0


def examples_of(examples: int, batch: int, rank: int, ranks: int) -> tuple[int, int]:
    """The examples of a batch that a rank computes with.

    Every rank takes part in every batch, so that a batch's product is made by all of them at
    once; who gets one more example goes around from batch to batch.

    Args:
        examples: n of the batch.
        batch: its number.
        rank: whose part.
        ranks: W.

    Returns:
        The first one and the one behind the last: the parts of all ranks are the whole batch.
    """
    turned = (rank + batch) % ranks
    return examples * turned // ranks, examples * (turned + 1) // ranks
