"""Sums over batches inside one product, which may be long: they can be continued where they stood.

The order of the sums is that of a product that is not interrupted, bit for bit.

Letters: P parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from curvtool.operators.recording import Place, Recorder, State, loop
from curvtool.operators.ways.base import Keeper, Pieces, Sum
from curvtool.operators.workers import Workers

Key = Callable[[], str]


def kept_sum(
    keeper: Keeper,
    v: Pieces,
    *,
    workers: Workers | None,
    recorder: Recorder | None,
    key: Key,
) -> Pieces:
    """The part of H v of all kept batches.

    Args:
        keeper: of the batches.
        v: pieces of the vector.
        workers: that share them out; None for one after the other.
        recorder: that saves the sum; None where nobody does.
        key: names the product.

    Returns:
        Pieces.
    """
    if workers is None and recorder is None:
        return keeper.product(v)
    with loop(recorder, lambda: f"kept {key()}") as place:
        at = None if recorder is None else place
        if workers is not None:
            return workers.summed(keeper.indices, lambda i: keeper.term(i, v), at)
        found = Sum(_pieces(place, v))

        def state() -> State:
            return {str(i): piece for i, piece in enumerate(found.total or ())}

        for step, index in enumerate(keeper.indices[place.done :], start=place.done + 1):
            found.add(keeper.term(index, v))
            place.step(step, state)
    assert found.total is not None
    return found.total


def rest_added(
    total: Mapping[str, Tensor],
    indices: Sequence[int],
    add: Callable[[int], None],
    *,
    before: Callable[[], None],
    recorder: Recorder | None,
    key: Key,
) -> None:
    """Add batches to a sum that begins with something else.

    Args:
        total: the tensors that are added to.
        indices: of the batches.
        add: adds a batch.
        before: what stands before the first one; not done again where the sum goes on later.
        recorder: that saves the sum; None where nobody does.
        key: names the product.
    """
    with loop(recorder, lambda: f"rest {key()}") as place:
        if place.saved is None:
            before()
        else:
            place.fill(total)
        for step, index in enumerate(indices[place.done :], start=place.done + 1):
            add(index)
            place.step(step, lambda: total)


def _pieces(place: Place, like: Pieces) -> Pieces | None:
    """The sum that was saved, on the device of the vector."""
    if place.saved is None:
        return None
    return [place.saved.state[str(i)].to(piece.device) for i, piece in enumerate(like)]
