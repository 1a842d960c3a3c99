"""What a format hands over: tensors, columns, rows, or finished batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from curvtool.errors import InputError
from curvtool.problem.batch import BatchValues
from curvtool.problem.data.columns import Columns
from curvtool.problem.wording import kind_of


@dataclass(frozen=True, eq=False)
class InMemory:
    """Whole tensors, whose first dimension runs over the examples.

    Attributes:
        values: the tensors.
        batch_size: the one that a loader around them had.
    """

    values: BatchValues
    batch_size: int | None = None


@dataclass(frozen=True, eq=False)
class Rows:
    """A map-style dataset: read in the order of its indices, collated to batches.

    Attributes:
        dataset: anything with a length and rows by index.
        collate: list of rows to a batch; None for torch's own.
        batch_size: the one that a loader around it had.
        alone: whether a row is changed before it joins others: pictures differ in size.
    """

    dataset: Any
    collate: Callable[[list[Any]], Any] | None = None
    batch_size: int | None = None
    alone: bool = False


@dataclass(frozen=True, eq=False)
class Finished:
    """Batches as the user's code made them; their size is not ours to choose."""

    batches: Sequence[BatchValues]


@dataclass(frozen=True)
class Vocabulary:
    """Of a tokenizer.

    Attributes:
        label: the tokenizer as the spec names it.
        size: number of its tokens.
        guessed: whether it was made of the text at hand, and not given.
    """

    label: str
    size: int
    guessed: bool = False


@dataclass(frozen=True, eq=False)
class Source:
    """An opened dataset.

    Attributes:
        label: as the spec names it, for messages.
        examples: in one of the four forms.
        vocabulary: tokens that the inputs may hold, where a tokenizer made them.
        notes: what a reader of the result has to know of how it was read.
    """

    label: str
    examples: InMemory | Columns | Rows | Finished
    vocabulary: Vocabulary | None = None
    notes: list[str] = field(default_factory=list)


def as_values(batch: object, label: str) -> BatchValues:
    """A batch as a tuple or dict of CPU tensors.

    Args:
        batch: a tensor, a tuple or list of tensors, or a dict of tensors; numbers and numpy
            arrays count as tensors.
        label: whose batch it is, for messages.

    Returns:
        The same values, in the form that losses take.

    Raises:
        InputError: for anything else inside it.
    """
    if isinstance(batch, Tensor | np.ndarray):
        return (_tensor(batch, "it", label),)
    if isinstance(batch, Mapping) and batch:
        return {str(k): _tensor(v, f'its entry "{k}"', label) for k, v in batch.items()}
    if isinstance(batch, tuple | list) and batch:
        return tuple(_tensor(v, f"its entry {i}", label) for i, v in enumerate(batch))
    raise InputError(
        f"{label}: expected each batch to be a tensor, a tuple of tensors or a dict of tensors; "
        f"got {kind_of(batch)}. Yield for example (inputs, targets)."
    )


def first_dimension(values: BatchValues) -> int:
    """The examples of a batch: the first dimension of its first tensor (1 for a scalar)."""
    first = next(iter(values.values() if isinstance(values, Mapping) else values))
    return int(first.shape[0]) if first.ndim else 1


def mapped(values: BatchValues, change: Callable[[Tensor], Tensor]) -> BatchValues:
    """`values` with `change` made to every tensor."""
    if isinstance(values, Mapping):
        return {key: change(value) for key, value in values.items()}
    return tuple(change(value) for value in values)


def tensors_of(values: BatchValues) -> list[Tensor]:
    """The tensors of a batch in their order."""
    return list(values.values() if isinstance(values, Mapping) else values)


def _tensor(value: object, what: str, label: str) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, np.ndarray | np.generic | int | float):
        try:
            return torch.as_tensor(value)
        except TypeError:
            pass
    raise InputError(
        f"{label}: expected the parts of a batch to be tensors; {what} is {kind_of(value)}. "
        f"Convert it in the dataset or its collate_fn, or leave it out."
    )
