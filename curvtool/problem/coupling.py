"""What makes the examples of a batch depend on each other, so that its size is part of H."""

from __future__ import annotations

from collections.abc import Sequence

from curvtool.problem.batch import Loss
from curvtool.problem.stored import AnyBatch


def coupling_notes(loss: Loss, norms: Sequence[str], batches: Sequence[AnyBatch]) -> list[str]:
    """Say so where it is the case.

    Args:
        loss: of a batch.
        norms: names of the BatchNorm modules that use the batch's own statistics.
        batches: in their order.

    Returns:
        A sentence for each cause.
    """
    notes = []
    if norms:
        notes.append(
            f"BatchNorm in train mode ({norms[0]}{', ...' if len(norms) > 1 else ''}) "
            "couples the examples of a batch: the batch size is part of this H."
        )
    if loss.couples and batches:
        first, last = batches[0].examples, batches[-1].examples
        sizes = f"{first:,}" + (f", the last {last:,}" if last != first else "")
        notes.append(
            f"{loss.name} couples the examples of a batch: the batch size ({sizes}) is part of "
            "this H, and another --batch-size is another H."
        )
    return notes
