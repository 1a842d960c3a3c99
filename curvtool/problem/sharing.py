"""The share of a dataset that one of several processes computes with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from curvtool.distributed.shares import examples_of
from curvtool.errors import InputError
from curvtool.problem.stored import AnyBatch


@final
@dataclass(frozen=True, eq=False)
class Share:
    """Parts of the batches.

    Attributes:
        batches: the parts that are not empty.
        places: for each, which batch it is a part of.
    """

    batches: list[AnyBatch]
    places: list[int]


def even_in_turns(batches: Sequence[AnyBatch], ranks: int) -> bool:
    """Whether ranks that take whole batches in turns have equally many examples, to 2 %.

    Whole batches are multiplied faster: what a batch costs beside its examples is paid once.

    Args:
        batches: of the dataset.
        ranks: W.

    Returns:
        Whether they have.
    """
    loads = [sum(batch.examples for batch in batches[rank::ranks]) for rank in range(ranks)]
    return max(loads) <= 1.02 * sum(loads) / ranks


def shared_out(batches: Sequence[AnyBatch], *, rank: int, ranks: int, whole: bool) -> Share:
    """A rank's share: its part of every batch, or every W-th batch where they must stay whole.

    Args:
        batches: of the dataset.
        rank: whose share.
        ranks: W.
        whole: whether batches are not divided: their losses are no means over examples, or there
            are enough of them for all ranks.

    Returns:
        The share. Nothing is copied; of a stored batch the whole is read for a part.

    Raises:
        InputError: where a rank would have nothing.
    """
    pieces: list[tuple[int, AnyBatch]] = []
    for place, batch in enumerate(batches):
        if whole:
            begin, end = (0, batch.examples) if place % ranks == rank else (0, 0)
        else:
            begin, end = examples_of(batch.examples, place, rank, ranks)
        if end - begin == batch.examples:
            pieces.append((place, batch))
        elif begin < end:
            pieces.append((place, batch.part(begin, end)))
    if not pieces:
        unit = "batches, which this loss does not let divide," if whole else "examples"
        count = len(batches) if whole else sum(batch.examples for batch in batches)
        raise InputError(
            f"{ranks} processes need at least as many {unit} as there are of them; the dataset has "
            f"{count:,}. Start fewer processes."
        )
    return Share([batch for _, batch in pieces], [place for place, _ in pieces])
