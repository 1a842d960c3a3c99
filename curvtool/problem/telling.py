"""Which few examples stand for all when the product is checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from curvtool.problem.batch import Batch, LossValue

# Share of the dataset's loss under which examples tell nothing. Of a network that is right on
# 99.9 % of sorted digits the first hundreds have a loss of 0.0, and derivatives that are rounding.
TELLING = 0.1


def telling_part(
    batches: Iterable[Batch], loss: Callable[[Batch], LossValue], *, most: int, size: float
) -> Batch | None:
    """The first examples that the mean depends on and that are not fitted all too well.

    Masks may leave the very first examples no weight, and sorted data begin with one class, of
    which a trained classifier may be so sure that its probabilities are 1 to rounding.

    Args:
        batches: in their order; only as many are asked for as are needed.
        loss: of a part of a batch.
        most: examples at most.
        size: the loss of the whole dataset.

    Returns:
        The part; where none has a tenth of that loss, the one that has most; None where the loss
        of all has no weight or no graph. Costs at most one forward pass over the dataset.
    """
    best, most_loss = None, -1.0
    for batch in batches:
        for start in range(0, batch.examples, most):
            part = batch.part(start, start + most)
            value = loss(part)
            if value.weight <= 0 or not value.mean.requires_grad:
                continue
            found = abs(float(value.mean.detach()))
            if found > most_loss:
                best, most_loss = part, found
            if found >= TELLING * abs(size):
                return part
    return best
