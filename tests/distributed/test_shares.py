"""Shares cover all and overlap nowhere; those of a batch are even over the batches."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from curvtool.algorithms.layers import Layer, layer_sums
from curvtool.algorithms.space import _inside
from curvtool.distributed.shares import Shares, examples_of
from curvtool.errors import InputError
from curvtool.problem.batch import Batch
from curvtool.problem.sharing import shared_out


@given(st.integers(1, 50), st.data())
def test_parts_are_the_whole(ranks: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(ranks, 10_000))
    shares = Shares(size, ranks)
    parts = [shares.part(rank) for rank in range(ranks)]
    assert parts[0].start == 0
    assert parts[-1].stop == size
    assert all(a.stop == b.start for a, b in itertools.pairwise(parts))
    lengths = [shares.length(rank) for rank in range(ranks)]
    assert max(lengths) - min(lengths) <= 1
    assert min(lengths) >= 1
    assert max(lengths) == shares.longest


def test_fewer_numbers_than_ranks_are_refused() -> None:
    with pytest.raises(ValueError, match="1 <= ranks"):
        Shares(3, 4)


@given(st.integers(1, 12), st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_examples_are_dealt_out_evenly(ranks: int, sizes: list[int]) -> None:
    totals = [0] * ranks
    for batch, n in enumerate(sizes):
        spans = sorted(examples_of(n, batch, rank, ranks) for rank in range(ranks))
        assert spans[0][0] == 0
        assert spans[-1][1] == n
        assert all(a[1] == b[0] for a, b in itertools.pairwise(spans))
        for rank in range(ranks):
            begin, end = examples_of(n, batch, rank, ranks)
            totals[rank] += end - begin
    # A batch gives one example more to some; over W batches of one size everybody has his turn.
    whole = len(sizes) // ranks * ranks
    if len(set(sizes)) == 1 and whole == len(sizes):
        assert max(totals) == min(totals)


def test_coupled_batches_stay_whole() -> None:
    batches = [Batch((torch.zeros(n, 2),), n) for n in (4, 4, 3)]
    mine = [shared_out(batches, rank=rank, ranks=2, whole=True) for rank in range(2)]
    assert [share.places for share in mine] == [[0, 2], [1]]
    assert mine[0].batches == [batches[0], batches[2]]
    with pytest.raises(InputError, match="Start fewer processes"):
        shared_out(batches, rank=3, ranks=4, whole=True)


@given(st.integers(1, 6), st.data())
def test_layers_of_parts_add_up(ranks: int, data: st.DataObject) -> None:
    x = torch.arange(1.0, 31.0, dtype=torch.float64)
    cuts = sorted(data.draw(st.sets(st.integers(0, 30), min_size=2, max_size=6)))
    layer = Layer("some", tuple((a, b - a) for a, b in zip(cuts[::2], cuts[1::2], strict=False)))
    shares = Shares(30, ranks)
    total = sum(
        float(layer_sums(x[shares.part(r)], [_inside(layer, shares.part(r))])[0])
        for r in range(ranks)
    )
    assert total == float(layer_sums(x, [layer])[0])  # small whole numbers add up exactly
