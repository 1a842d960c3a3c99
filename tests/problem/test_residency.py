"""Batches that are not kept: the same objective, read one ahead, never by two threads at once."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from curvtool.errors import InputError
from curvtool.operators.hessian import HessianOperator
from curvtool.problem.batch import Batch
from curvtool.problem.models import mlp
from curvtool.problem.objective import Objective
from curvtool.problem.prefetch import Prefetcher
from curvtool.problem.stored import AnyBatch, StoredBatch
from tests.objectives import CPU, batches, builtin, labels, normal, seeded

N = 23
VALUES = (normal(N, 5), labels(3, N))


def stored(batch: Batch) -> StoredBatch:
    return StoredBatch(lambda: batch, "data", batch.examples, batch.shapes, batch.nbytes)


def objective(
    size: int, *, lazily: bool, dtype: torch.dtype = torch.float64, keep: bool = True
) -> Objective:
    made: list[AnyBatch] = [stored(b) if lazily else b for b in batches(VALUES, size)]
    return Objective(
        seeded(lambda: mlp(sizes=[5, 4, 3])).double(),
        builtin("cross_entropy"),
        made,
        device=CPU,
        dtype=dtype,
        keep_data_on_device=keep,
    )


@pytest.mark.parametrize("size", [1, 7, 23])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_objective_is_the_same(size: int, dtype: torch.dtype) -> None:
    kept, read = (objective(size, lazily=lazily, dtype=dtype) for lazily in (False, True))
    one, other = kept.evaluate(), read.evaluate()
    assert one.loss == other.loss
    assert torch.equal(one.gradient_P, other.gradient_P)
    assert one.batch_weights == other.batch_weights
    assert kept.num_examples == read.num_examples == N
    assert [kept.shapes(i) for i in kept.active] == [read.shapes(i) for i in read.active]


def test_products_are_the_same() -> None:
    v_P = normal(39)
    kept, read = (HessianOperator(objective(7, lazily=lazily)) for lazily in (False, True))
    assert torch.equal(kept.matvec(v_P), read.matvec(v_P))


def test_halves_and_samples_are_the_same() -> None:
    kept, read = (objective(7, lazily=lazily, dtype=torch.float32) for lazily in (False, True))
    for one, other in ((kept, read), (kept.sample(None), read.sample(None))):
        assert one.evaluate().loss == other.evaluate().loss
    # Rounded to float32 before it is widened, as what stays on the device is.
    one, other = (o.sample(None, dtype=torch.float64) for o in (kept, read))
    assert one.evaluate().loss == other.evaluate().loss
    assert kept.sample(3).evaluate().loss == read.sample(3).evaluate().loss
    assert kept.halve_batches()
    assert read.halve_batches()
    assert kept.num_batches == read.num_batches == 7 + 1
    assert kept.terms == read.terms
    assert kept.evaluate().loss == read.evaluate().loss


def test_batches_in_host_memory_need_not_stay_on_the_device() -> None:
    assert objective(7, lazily=False, keep=False).evaluate().loss == pytest.approx(
        objective(7, lazily=False).evaluate().loss, rel=0, abs=0
    )


def test_one_batch_is_read_ahead_and_no_more() -> None:
    asked: list[int] = []
    there = threading.Event()

    def read(index: int) -> Batch:
        asked.append(index)
        there.set()
        return Batch((torch.tensor([index]),), 1)

    prefetcher = Prefetcher(read, 5)
    for index in (0, 1, 2):
        there.clear()
        assert prefetcher.batch(index).tensors[0].item() == index
        deadline = time.monotonic() + 10
        while len(asked) < index + 2 and time.monotonic() < deadline:
            there.wait(0.01)
        assert asked == list(range(index + 2))
    assert prefetcher.batch(2) is prefetcher.batch(2)  # the last one is still there
    assert len(asked) == 4


def test_the_order_of_the_last_pass_is_foreseen() -> None:
    asked: list[int] = []

    def read(index: int) -> Batch:
        asked.append(index)
        return Batch((torch.tensor([index]),), 1)

    prefetcher = Prefetcher(read, 6)
    for _ in range(3):
        for index in (1, 4, 5):
            assert prefetcher.batch(index).tensors[0].item() == index
    # The first passes guess wrongly; one that is foreseen reads each batch once, in its order.
    assert asked[-3:] in ([1, 4, 5], [4, 5, 1])


def test_what_reading_raises_comes_through() -> None:
    def read(index: int) -> Batch:
        raise InputError(f"the disk is gone at {index}")

    with pytest.raises(InputError, match="the disk is gone at 3"):
        Prefetcher(read, 5).batch(3)


def test_data_that_change_while_they_are_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((4, 2)))

    def read() -> Batch:
        return Batch((torch.from_numpy(np.load(path)),), 4)

    first = read()
    batch = StoredBatch(read, "npy:x.npy", 4, first.shapes, first.nbytes)
    np.save(path, np.zeros((4, 3)))
    with pytest.raises(InputError, match=r"\(4, 2\) came back as \(4, 3\)"):
        batch.fetched()
