"""From an opened dataset to batches on the CPU, in a fixed order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from curvtool.errors import InputError
from curvtool.problem.batch import Batch, BatchValues
from curvtool.problem.data.examples import (
    Finished,
    InMemory,
    Rows,
    Source,
    as_values,
    first_dimension,
    mapped,
    tensors_of,
)
from curvtool.problem.data.repeats import READ_AGAIN, require_repeatable
from curvtool.problem.hooks import hook_error, is_hook
from curvtool.problem.wording import first_line

DEFAULT_BATCH_SIZE = 512


@dataclass(frozen=True, eq=False)
class Batches:
    """The dataset as it will be used.

    Attributes:
        batches: in order, on the CPU.
        sha256: of the file, or of the tensors in `batches` whatever their division.
        notes: what a reader of the result has to know.
    """

    batches: list[Batch]
    sha256: str
    notes: list[str]


def make_batches(
    source: Source,
    *,
    batch_size: int | None,
    default_batch_size: int | None = None,
    max_examples: int | None = None,
    seed: int = 0,
) -> Batches:
    """Divide the examples into batches; a seeded subset of them where `max_examples` says so.

    Args:
        source: the opened dataset.
        batch_size: as the user asks for it, else None.
        default_batch_size: as the spec gives it, else None; then a loader's own, then 512.
        max_examples: at most so many examples, in their order.
        seed: of the subset.

    Returns:
        At least one batch. Tensors that were in memory are sliced, not copied.

    Raises:
        InputError: for an empty dataset, rows that make no batch, or parts of unequal length.
    """
    notes = list(source.notes)
    examples = source.examples
    total = _count(examples, source.label)
    if total == 0:
        raise InputError(
            f"{source.label}: expected at least one example; the dataset is empty. Check its "
            f"path, split and filters."
        )
    chosen = None
    if max_examples is not None and max_examples < total:
        drawn = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
        chosen = drawn[:max_examples].sort().values
        notes.append(
            f"a seeded subset: {max_examples:,} of {total:,} examples (seed {seed}); H is the "
            f"mean over these alone"
        )
    if isinstance(examples, Finished):
        if batch_size is not None:
            notes.append(
                f"--batch-size {batch_size} does not apply: {source.label} gives finished batches"
            )
        values = list(_subset_of_batches(examples.batches, chosen, source.label))
    else:
        asked = batch_size or default_batch_size
        own = examples.batch_size
        size = asked or own or min(DEFAULT_BATCH_SIZE, total)
        divide = _slices if isinstance(examples, InMemory) else _collated
        values = list(divide(examples, chosen, size, source.label))  # type: ignore[arg-type]
        if isinstance(examples, Rows):
            _read_again(examples, chosen, total, source.label)
    batches = [Batch(v, first_dimension(v)) for v in values]
    return Batches(batches, source.sha256 or _sha256(values), notes)


def _count(examples: InMemory | Rows | Finished, label: str) -> int:
    if isinstance(examples, Rows):
        try:
            return len(examples.dataset)
        except Exception as error:
            raise hook_error(label, error) from error
    if isinstance(examples, Finished):
        return sum(first_dimension(values) for values in examples.batches)
    _require_equal_lengths(examples.values, label)
    return first_dimension(examples.values)


def _require_equal_lengths(values: BatchValues, label: str) -> None:
    shapes = [tuple(tensor.shape) for tensor in tensors_of(values)]
    if any(not shape or shape[0] != shapes[0][0] for shape in shapes):
        raise InputError(
            f"{label}: expected tensors with one entry an example, so of equal first dimension; "
            f"got the shapes {', '.join(map(str, shapes))}. Return inputs and targets of the same "
            f"examples."
        )


def _slices(
    examples: InMemory, chosen: Tensor | None, size: int, _label: str
) -> Iterator[BatchValues]:
    values = examples.values
    if chosen is not None:
        values = mapped(values, lambda t: t.index_select(0, chosen))
    for start in range(0, first_dimension(values), size):
        yield mapped(values, lambda t, start=start: t[start : start + size])  # type: ignore[misc]


def _collated(
    examples: Rows, chosen: Tensor | None, size: int, label: str
) -> Iterator[BatchValues]:
    indices = range(len(examples.dataset)) if chosen is None else chosen.tolist()
    collate = examples.collate or default_collate
    for start in range(0, len(indices), size):
        try:
            rows = [examples.dataset[i] for i in indices[start : start + size]]
        except InputError:
            raise
        except Exception as error:
            raise _row_error(label, error) from error
        yield as_values(_joined(collate, rows, label), label)


def _read_again(examples: Rows, chosen: Tensor | None, total: int, label: str) -> None:
    """Refuse rows that come out differently at a second reading."""
    first = (torch.arange(total) if chosen is None else chosen)[:READ_AGAIN]
    # A few rows are read more often.
    times = 2 if len(first) == READ_AGAIN else 1 + READ_AGAIN
    readings = [next(_collated(examples, first, READ_AGAIN, label)) for _ in range(times)]
    for reading in readings[1:]:
        require_repeatable(readings[0], reading, label)


def _joined(collate: Any, rows: list[Any], label: str) -> object:
    try:
        return collate(rows)
    except InputError:
        raise
    except Exception as error:
        if collate is not default_collate:
            raise hook_error(label, error) from error
        raise InputError(
            f"{label}: expected rows that join into a batch (tensors of one shape, numbers); they "
            f"do not: {first_line(error)}. Give rows of one shape, or return a DataLoader with a "
            f"collate_fn that pads them."
        ) from error


def _row_error(label: str, error: Exception) -> InputError:
    if is_hook(label):
        return hook_error(label, error)
    return InputError(
        f"{label}: expected every example to be readable; reading one raised "
        f"{type(error).__name__}: {first_line(error)}. Check that the dataset is whole on disk."
    )


def _subset_of_batches(batches: Any, chosen: Tensor | None, label: str) -> Iterator[BatchValues]:
    start = 0
    for values in batches:
        count = first_dimension(values)
        if chosen is None:
            if count:
                yield values
            continue
        _require_equal_lengths(values, label)
        here = chosen[(chosen >= start) & (chosen < start + count)] - start
        start += count
        if len(here):
            yield mapped(values, lambda t, here=here: t.index_select(0, here))  # type: ignore[misc]


def _sha256(batches: list[BatchValues]) -> str:
    """SHA-256 over the tensors place by place, so that the division into batches is not in it."""
    places: dict[str, Any] = {}
    shapes: dict[str, object] = {}
    for values in batches:
        named = values.items() if not isinstance(values, tuple) else enumerate(values)
        for key, tensor in named:
            place = places.setdefault(str(key), hashlib.sha256())
            shape = (str(tensor.dtype), tuple(tensor.shape[1:]))
            if shapes.get(str(key)) != shape:
                shapes[str(key)] = shape
                place.update(repr(shape).encode())
            place.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    whole = hashlib.sha256()
    for key in sorted(places):
        whole.update(f"{key}={places[key].hexdigest()};".encode())
    return whole.hexdigest()
