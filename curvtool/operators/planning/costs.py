"""What a solve costs in seconds and bytes, from figures of one batch: plain arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from curvtool.results import Forecast

# Setting up a further batch, in products: half of one builds a gradient's graph, tracing a
# program takes some ten.
BUILDING, TRACING = 0.7, 10.0


@final
@dataclass(frozen=True)
class BatchCost:
    """One way on one batch.

    Attributes:
        seconds: of a product.
        setup: seconds for the first batch, first runs of everything included.
        bytes_kept: between products.
        bytes_peak: beyond these, while a product is made.
        keeps: whether the way keeps anything.
        traced: whether further batches have to be traced.
    """

    seconds: float
    setup: float = 0.0
    bytes_kept: int = 0
    bytes_peak: int = 0
    keeps: bool = False
    traced: bool = False


@final
@dataclass(frozen=True)
class Costs:
    """A solve by one way, and by another for batches that the first has no room for.

    Attributes:
        chosen: the way.
        rest: the other one; None where it is not needed.
        products: over the whole dataset.
        batches: of the first one's size: a ragged one counts its part.
        memory: bytes for what is kept and for products; None for no limit.
    """

    chosen: BatchCost
    rest: BatchCost | None
    products: int
    batches: float
    memory: int | None

    @property
    def working_bytes(self) -> int:
        """What a product takes while it is made."""
        return max(self.chosen.bytes_peak, self.rest.bytes_peak if self.rest else 0)

    @property
    def room(self) -> int | None:
        """Bytes for what is kept."""
        return None if self.memory is None else max(0, self.memory - self.working_bytes)

    @property
    def kept(self) -> float:
        """Batches that are kept."""
        if not self.chosen.keeps:
            return 0.0
        if self.room is None or not self.chosen.bytes_kept:
            return self.batches
        return min(self.batches, float(self.room // self.chosen.bytes_kept))

    @property
    def all_kept(self) -> bool:
        """Whether no batch is left for the rest."""
        return self.kept >= self.batches

    @property
    def seconds_per_product(self) -> float:
        """Of one product over the whole dataset."""
        if not self.chosen.keeps:
            return self.batches * self.chosen.seconds
        left = self.batches - self.kept
        return self.kept * self.chosen.seconds + left * (self.rest.seconds if self.rest else 0.0)

    @property
    def setup(self) -> float:
        """Seconds before the first product."""
        further = (TRACING if self.chosen.traced else BUILDING) * self.chosen.seconds
        return self.chosen.setup + further * max(0.0, self.kept - 1)

    @property
    def seconds(self) -> float:
        """Of the whole solve."""
        return self.setup + self.products * self.seconds_per_product

    def forecast(self, *, reserved: int) -> Forecast:
        """The same for the report; `reserved` bytes are taken beside the products."""
        return Forecast(
            products=self.products,
            seconds_per_product=self.seconds_per_product,
            seconds=self.seconds,
            bytes=int(reserved + self.kept * self.chosen.bytes_kept + self.working_bytes),
        )
