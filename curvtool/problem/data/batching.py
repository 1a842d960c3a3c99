"""From an opened dataset to batches in a fixed order: in host memory, or where they are stored."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from curvtool.errors import InputError
from curvtool.problem.batch import Batch
from curvtool.problem.data.allowance import Allowance
from curvtool.problem.data.dividing import Piece, count_of, divided, require_same_again
from curvtool.problem.data.examples import Finished, InMemory, Rows, Source
from curvtool.problem.data.hashing import DataHash
from curvtool.problem.data.preprocessing import Preprocessing
from curvtool.problem.data.weighing import weighed
from curvtool.problem.stored import AnyBatch, StoredBatch
from curvtool.problem.wording import in_bytes

DEFAULT_BATCH_SIZE = 512
# Above it no permutation is drawn, which takes 8 bytes an example.
_MOST_PERMUTED = 2**24


@dataclass(frozen=True, eq=False)
class Batches:
    """The dataset as it will be used.

    Attributes:
        batches: in order; in host memory, or read when they are used.
        sha256: of the tensors in `batches`, whatever their division and the file's format.
        notes: what a reader of the result has to know.
    """

    batches: list[AnyBatch]
    sha256: str
    notes: list[str]


def make_batches(
    source: Source,
    *,
    batch_size: int | None,
    default_batch_size: int | None = None,
    max_examples: int | None = None,
    seed: int = 0,
    preprocessing: Preprocessing | None = None,
    weights: str | None = None,
    allowance: Allowance | None = None,
) -> Batches:
    """Divide the examples into batches; a seeded subset of them where `max_examples` says so.

    Every batch is read once, for its hash and its checks. Batches that together take more than
    `allowance.kept` are not kept: each is read again whenever it is used.

    Args:
        source: the opened dataset.
        batch_size: as the user asks for it, else None.
        default_batch_size: as the spec gives it, else None; then a loader's own, then 512.
        max_examples: at most so many examples, in their order; of data read by rows, no others
            are read.
        seed: of the subset.
        preprocessing: the transforms.
        weights: the entry of a batch that says what its examples count.
        allowance: memory that data may take; by default all.

    Returns:
        At least one batch. Tensors that were in memory are sliced, not copied.

    Raises:
        InputError: for an empty dataset, rows that make no batch, or parts of unequal length.
    """
    allowance = allowance or Allowance()
    notes = list(source.notes)
    examples, label = source.examples, source.label
    total = count_of(examples, label)
    if total == 0:
        raise InputError(
            f"{label}: expected at least one example; the dataset is empty. Check its path, split "
            f"and filters."
        )
    chosen = None
    if max_examples is not None and max_examples < total:
        chosen = _subset(total, max_examples, seed)
        notes.append(
            f"a seeded subset: {max_examples:,} of {total:,} examples (seed {seed}); H is the "
            f"mean over these alone"
        )
    if isinstance(examples, Finished):
        if batch_size is not None:
            notes.append(
                f"--batch-size {batch_size} does not apply: {label} gives finished batches"
            )
        size = total
    else:
        own = None if not isinstance(examples, InMemory | Rows) else examples.batch_size
        size = batch_size or default_batch_size or own or min(DEFAULT_BATCH_SIZE, total)
    steps = preprocessing or Preprocessing()
    pieces = divided(examples, chosen, size, label, steps)
    if weights is not None:
        notes.append(f"each example or prediction counts as much as {weights} says")
    reads = [_reader(piece, weights, label, steps.inputs or ()) for piece in pieces]
    used = total if chosen is None else len(chosen)
    sliced = isinstance(examples, Finished) or (isinstance(examples, InMemory) and not steps.steps)
    batches, sha256, stored = _read_once(reads, used, None if sliced else allowance, label)
    if isinstance(examples, Rows):
        require_same_again(examples, chosen, total, label, steps)
    if stored:
        notes.append(
            f"the data take {in_bytes(stored)}, more than a quarter of the memory allowed: they "
            f"are read again in every pass, one batch ahead"
        )
    return Batches(batches, sha256, notes)


def _subset(total: int, count: int, seed: int) -> Tensor:
    """Ascending indices, each set of them equally likely."""
    if total <= _MOST_PERMUTED:
        drawn = torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:count]
    else:
        drawn = torch.tensor(random.Random(seed).sample(range(total), count))
    return drawn.sort().values


def _reader(
    piece: Piece, weights: str | None, label: str, inputs: Sequence[str]
) -> Callable[[], Batch]:
    return lambda: weighed(piece(), weights, label, inputs=inputs)


def _read_once(
    reads: Sequence[Callable[[], Batch]], total: int, allowance: Allowance | None, label: str
) -> tuple[list[AnyBatch], str, int]:
    """The batches, their hash, and the bytes not kept: none where there is no allowance."""
    alone = threading.Lock()  # a dataset is never read by two threads at once

    def guarded(read: Callable[[], Batch]) -> Callable[[], Batch]:
        def locked() -> Batch:
            with alone:
                return read()

        return locked

    batches: list[AnyBatch] = []
    digest = DataHash()
    keep, stored = True, 0
    for read in reads:
        batch = read()
        if allowance is not None and not batches and batch.examples:
            allowance.require(
                label, batch.nbytes, "batches", "Take fewer examples a batch: --batch-size."
            )
            keep = batch.nbytes * total <= allowance.kept * batch.examples
        digest.add(batch)
        if keep:
            batches.append(batch)
            continue
        stored += batch.nbytes
        batches.append(
            StoredBatch(guarded(read), label, batch.examples, batch.shapes, batch.nbytes)
        )
    return batches, digest.hexdigest(), stored
