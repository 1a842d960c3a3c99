"""Where the batches of an objective are: on the device, or brought there one after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch

from curvtool.problem.batch import Batch
from curvtool.problem.prefetch import Prefetcher
from curvtool.problem.stored import AnyBatch


@final
class Residency:
    """Batches in their order, on a device and in a dtype whenever they are asked for.

    Attributes:
        batches: as they are held: on the device, in host memory, or stored.
        origins: for each, the batch of which it is a part.
        given: the batches in the digits that they came with, undivided.
    """

    def __init__(
        self,
        batches: Sequence[AnyBatch],
        *,
        device: torch.device,
        dtype: torch.dtype,
        keep: bool,
        origins: Sequence[int] | None = None,
        given: Sequence[AnyBatch] | None = None,
    ) -> None:
        self.given = tuple(batches if given is None else given)
        self._device, self._dtype, self._keep = device, dtype, keep
        self.batches: tuple[AnyBatch, ...] = tuple(
            b.moved(device, dtype) if keep and isinstance(b, Batch) else b for b in batches
        )
        self.origins = tuple(range(len(batches)) if origins is None else origins)
        self._prefetcher = Prefetcher(self._fetched, len(batches))

    def __len__(self) -> int:
        return len(self.batches)

    def stays(self, index: int) -> bool:
        """Whether batch `index` is on the device for good."""
        return self._keep and isinstance(self.batches[index], Batch)

    def batch(self, index: int) -> Batch:
        """Batch `index` on the device; where it does not stay there, read one batch ahead."""
        held = self.batches[index]
        if self._keep and isinstance(held, Batch):
            return held
        if isinstance(held, Batch) and all(t.device == self._device for t in held.tensors):
            return held.moved(self._device, self._dtype)
        return self._prefetcher.batch(index).moved(self._device, self._dtype, non_blocking=True)

    def halved(self) -> Residency | None:
        """The same with every batch divided in two, or None where none can be."""
        divided = [batch.halves() for batch in self.batches]
        halves = [half for parts in divided for half in parts]
        if len(halves) == len(self.batches):
            return None
        origins = [
            origin
            for origin, parts in zip(self.origins, divided, strict=True)
            for _ in range(len(parts))
        ]
        return Residency(
            halves,
            device=self._device,
            dtype=self._dtype,
            keep=self._keep,
            origins=origins,
            given=self.given,
        )

    def _fetched(self, index: int) -> Batch:
        batch = self.batches[index].fetched()
        if self._device.type == "cuda":
            # Pinned in the reading thread, so that the copy to the GPU overlaps with computing.
            return batch.pinned()
        return batch.moved(self._device, self._dtype)
