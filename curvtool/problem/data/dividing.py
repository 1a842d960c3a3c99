"""Examples in pieces of a size, each of which can be read by itself, again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from curvtool.errors import InputError
from curvtool.problem.batch import BatchValues
from curvtool.problem.data.columns import Columns
from curvtool.problem.data.examples import (
    Finished,
    InMemory,
    Rows,
    as_values,
    first_dimension,
    mapped,
    tensors_of,
)
from curvtool.problem.data.preprocessing import Preprocessing
from curvtool.problem.data.repeats import READ_AGAIN, require_repeatable
from curvtool.problem.hooks import hook_error, is_hook
from curvtool.problem.wording import first_line

# Values, and the weights of examples where they are apart from them.
Piece = Callable[[], tuple[BatchValues, Tensor | None]]
Examples = InMemory | Columns | Rows | Finished
_Indices = range | Tensor


def count_of(examples: Examples, label: str) -> int:
    """Number of examples.

    Args:
        examples: of a dataset.
        label: of the dataset, for messages.

    Returns:
        Their number; nothing is read for it.

    Raises:
        HookError: where the user's dataset raises.
        InputError: for tensors of unequal length.
    """  # noqa: DOC501  # hook_error is not itself an exception
    if isinstance(examples, Columns):
        return examples.parts[0].shape[0]
    if isinstance(examples, Rows):
        try:
            return len(examples.dataset)
        except Exception as error:
            raise hook_error(label, error) from error
    if isinstance(examples, Finished):
        return sum(first_dimension(values) for values in examples.batches)
    _require_equal_lengths(examples.values, label)
    return first_dimension(examples.values)


def divided(
    examples: Examples, chosen: Tensor | None, size: int, label: str, steps: Preprocessing
) -> Iterator[Piece]:
    """The pieces.

    Args:
        examples: of a dataset.
        chosen: ascending indices of the examples that are used; None for all.
        size: examples a piece; finished batches keep their own.
        label: of the dataset, for messages.
        steps: its transforms.

    Yields:
        Functions that read a piece each.
    """
    if isinstance(examples, Finished):
        for values in _subset_of_batches(examples, chosen, label):
            yield lambda values=values: (steps(values, label), None)  # type: ignore[misc]
        return
    if isinstance(examples, InMemory) and chosen is not None:
        taken = chosen
        examples = InMemory(mapped(examples.values, lambda t: t.index_select(0, taken)))
        chosen = None
    indices: _Indices = range(count_of(examples, label)) if chosen is None else chosen
    for start in range(0, len(indices), size):
        yield _piece(examples, indices[start : start + size], label, steps)


def require_same_again(
    rows: Rows, chosen: Tensor | None, total: int, label: str, steps: Preprocessing
) -> None:
    """Refuse rows that come out differently at a second reading.

    Args:
        rows: of a dataset.
        chosen: indices of the rows that are used; None for all.
        total: rows in all.
        label: of the dataset, for messages.
        steps: its transforms.
    """
    first = (torch.arange(total) if chosen is None else chosen)[:READ_AGAIN]
    # A few rows are read more often.
    times = 2 if len(first) == READ_AGAIN else 1 + READ_AGAIN
    readings = [_piece(rows, first, label, steps)()[0] for _ in range(times)]
    for reading in readings[1:]:
        require_repeatable(readings[0], reading, label)


def _piece(
    examples: InMemory | Columns | Rows, indices: _Indices, label: str, steps: Preprocessing
) -> Piece:
    if isinstance(examples, Rows):
        return lambda: (_collated(examples, indices, label, steps), None)
    if isinstance(examples, Columns):

        def read() -> tuple[BatchValues, Tensor | None]:
            values = tuple(column.take(indices) for column in examples.parts)
            weights = None if examples.weights is None else examples.weights.take(indices)
            return steps(values, label), weights

        return read
    assert isinstance(indices, range)
    piece = mapped(examples.values, lambda t: t[indices.start : indices.stop])
    return lambda: (steps(piece, label), None)


def _collated(rows: Rows, indices: _Indices, label: str, steps: Preprocessing) -> BatchValues:
    try:
        read = [rows.dataset[int(i)] for i in indices]
    except InputError:
        raise
    except Exception as error:
        raise _row_error(label, error) from error
    if not rows.alone:
        return steps(as_values(_joined(rows.collate or default_collate, read, label), label), label)
    changed = [steps.alone(as_values(row, label), label) for row in read]
    return as_values(_joined(default_collate, changed, label), label)


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
            f"do not: {first_line(error)}. Give rows of one shape (pictures: transforms = "
            f'[{{ name = "resize", size = [32, 32] }}]), or return a DataLoader with a '
            f"collate_fn that pads them."
        ) from error


def _row_error(label: str, error: Exception) -> InputError:
    if is_hook(label):
        return hook_error(label, error)
    return InputError(
        f"{label}: expected every example to be readable; reading one raised "
        f"{type(error).__name__}: {first_line(error)}. Check that the dataset is whole on disk."
    )


def _subset_of_batches(
    examples: Finished, chosen: Tensor | None, label: str
) -> Iterator[BatchValues]:
    start = 0
    for values in examples.batches:
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


def _require_equal_lengths(values: BatchValues, label: str) -> None:
    shapes = [tuple(tensor.shape) for tensor in tensors_of(values)]
    if any(not shape or shape[0] != shapes[0][0] for shape in shapes):
        raise InputError(
            f"{label}: expected tensors with one entry an example, so of equal first dimension; "
            f"got the shapes {', '.join(map(str, shapes))}. Return inputs and targets of the same "
            f"examples."
        )
