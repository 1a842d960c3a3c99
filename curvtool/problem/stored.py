"""Batches that stay where they are stored, and are read whenever they are used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch

from curvtool.errors import InputError
from curvtool.problem.batch import Batch


@final
@dataclass(frozen=True, eq=False)
class StoredBatch:
    """A batch that no memory holds.

    Attributes:
        read: reads it; from one thread at a time.
        label: of the dataset, for messages.
        examples: as in `Batch`.
        shapes: of its tensors, known since they were read once.
        nbytes: of its tensors.
    """

    read: Callable[[], Batch]
    label: str
    examples: int
    shapes: tuple[torch.Size, ...]
    nbytes: int

    def moved(self, device: torch.device, dtype: torch.dtype) -> Batch:
        """The batch read, on a device, floating-point tensors in `dtype`."""
        return self.fetched().moved(device, dtype)

    def fetched(self) -> Batch:
        """The batch in host memory.

        Returns:
            The batch as it was read the first time.

        Raises:
            InputError: where it has another shape now.
        """
        batch = self.read()
        if batch.shapes != self.shapes:
            raise InputError(
                f"{self.label}: expected data that stay as they are during a run, since they are "
                f"read anew in every pass; a batch of shapes {_listed(self.shapes)} came back as "
                f"{_listed(batch.shapes)}. Leave the files alone while the run lasts."
            )
        return batch

    def part(self, start: int, stop: int) -> StoredBatch:
        """Examples from `start` to before `stop`; to read them the whole batch is read."""
        count = min(stop, self.examples) - start
        shapes = tuple(
            torch.Size((count, *s[1:])) if s and s[0] == self.examples else s for s in self.shapes
        )
        return StoredBatch(
            lambda: self.fetched().part(start, stop),
            self.label,
            count,
            shapes,
            -(-self.nbytes * count // self.examples),
        )

    def halves(self) -> tuple[StoredBatch, ...]:
        """The batch in two parts, or itself where it has one example."""
        if self.examples < 2:
            return (self,)
        middle = -(-self.examples // 2)
        return self.part(0, middle), self.part(middle, self.examples)


AnyBatch = Batch | StoredBatch


def _listed(shapes: tuple[torch.Size, ...]) -> str:
    return ", ".join(str(tuple(shape)) for shape in shapes)
