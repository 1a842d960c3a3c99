"""Tables of Apache Arrow in chunks: columns of numbers and of lists of them, read by rows."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from curvtool.errors import InputError
from curvtool.problem.data.allowance import Allowance
from curvtool.problem.data.columns import Column, Columns
from curvtool.problem.data.numbers import from_array
from curvtool.problem.data.tables import table_columns
from curvtool.problem.spec import DataSpec

_REMEDY = "Write smaller row groups or record batches, or allow more: --memory."


@final
class Chunks:
    """A table in chunks, each of which can be read by itself; the last one read is kept.

    Attributes:
        place: the file, for messages.
        schema: of the table.
        starts: the first row of each chunk, and the number of rows in all.
    """

    def __init__(
        self,
        place: object,
        schema: Any,
        lengths: Sequence[int],
        read: Callable[[int, list[str]], Any],
        allowance: Allowance,
        *,
        values: Callable[[int, list[str]], int] | None = None,
    ) -> None:
        self.place, self.schema = place, schema
        self.starts = [0, *accumulate(lengths)]
        self._read, self._values = read, values
        self._allowance = allowance
        self._kept: dict[tuple[str, ...], tuple[int, Tensor]] = {}

    def column(self, name: str, fields: Sequence[str]) -> Column:
        """Fields of the schema as one column: several scalar ones side by side.

        Args:
            name: of the column.
            fields: names in the schema.

        Returns:
            The column.

        Raises:
            InputError: for fields that are no numbers.
        """
        for field in fields:
            _require_numeric(self.schema.field(field).type, field, self.place)
        rows = self.starts[-1]
        first = self._rows(name, fields, 0, 1) if rows else torch.zeros(0)
        shape = (rows, *first.shape[1:])
        return Column(
            name, shape, lambda start, stop: self._rows(name, fields, start, stop, shape[1:])
        )

    def cell(self, name: str, row: int) -> object:
        """One value as Python has it."""
        at = bisect.bisect_right(self.starts, row) - 1
        value: object = self._read(at, [name]).column(name)[row - self.starts[at]].as_py()
        return value

    def _rows(
        self,
        name: str,
        fields: Sequence[str],
        start: int,
        stop: int,
        shape: tuple[int, ...] | None = None,
    ) -> Tensor:
        pieces = []
        at = bisect.bisect_right(self.starts, start) - 1
        while start < stop:
            base, end = self.starts[at], self.starts[at + 1]
            if end > start:
                chunk = self._chunk(name, fields, at)
                pieces.append(chunk[start - base : min(stop, end) - base])
                start = min(stop, end)
            at += 1
        if not pieces:
            return torch.zeros(0, *(shape or ()))
        widths = {tuple(p.shape[1:]) for p in pieces} | ({shape} if shape is not None else set())
        if len(widths) > 1:
            raise _ragged(self.place, name)
        return torch.cat(pieces) if len(pieces) > 1 else pieces[0]

    def _chunk(self, name: str, fields: Sequence[str], at: int) -> Tensor:
        key = tuple(fields)
        kept = self._kept.get(key)
        if kept is not None and kept[0] == at:
            return kept[1]
        self._kept.pop(key, None)
        count = self.starts[at + 1] - self.starts[at]
        values = count * len(fields) if self._values is None else self._values(at, list(fields))
        self._allowance.require(self.place, 8 * values, "row groups", _REMEDY)
        table = self._read(at, list(fields))
        arrays = [_as_array(table.column(f), f, self.place, self._allowance) for f in fields]
        if any(len(array) != count for array in arrays):
            raise InputError(
                f"{self.place}: expected {count:,} rows in a part of the table, as its header says;"
                f" got {len(arrays[0]):,}. Check that the file was copied whole."
            )
        array = arrays[0] if len(arrays) == 1 else np.stack(arrays, axis=1)
        chunk = from_array(array, name, self.place)
        self._kept[key] = (at, chunk)
        return chunk


def columns_of_table(spec: DataSpec, chunks: Chunks) -> Columns:
    """The columns that a problem uses of a table.

    Args:
        spec: the data.
        chunks: the table.

    Returns:
        Its columns.
    """
    import pyarrow.types as kinds

    names = [str(name) for name in chunks.schema.names]
    chosen = table_columns(spec, chunks.place, names, named=True)
    fields = [names[i] for i in chosen.inputs]
    target = names[chosen.targets]
    if any(_is_list(chunks.schema.field(f).type, kinds) for f in fields):
        inputs = [chunks.column(field, [field]) for field in fields]
    elif len(fields) == 1:
        inputs = [_as_matrix(chunks.column(fields[0], fields))]
    else:
        inputs = [chunks.column("inputs", fields)]
    weights = None
    if chosen.weights is not None:
        weights = chunks.column(names[chosen.weights], [names[chosen.weights]])
    return Columns((*inputs, chunks.column(target, [target])), weights)


def _as_matrix(column: Column) -> Column:
    """A table's inputs are (examples, columns), also where there is one column."""
    return Column(
        column.name, (*column.shape, 1), lambda start, stop: column.read(start, stop)[:, None]
    )


def _is_list(kind: Any, kinds: Any) -> bool:
    return bool(kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind))


def _require_numeric(kind: Any, name: str, place: object) -> None:
    import pyarrow.types as kinds

    inner = kind
    while _is_list(inner, kinds):
        inner = inner.value_type
    if not (kinds.is_integer(inner) or kinds.is_floating(inner) or kinds.is_boolean(inner)):
        raise InputError(
            f"{place}: expected columns of numbers, or of lists of them of one length; {name!r} "
            f"holds {kind}. Convert it, or leave it out: inputs = [...] under [data]."
        )


def _as_array(column: Any, name: str, place: object, allowance: Allowance) -> np.ndarray:
    import pyarrow.types as kinds

    if column.null_count:
        raise InputError(
            f"{place}: expected a number in every row; {name!r} has {column.null_count:,} without. "
            f"Fill or leave out such rows."
        )
    array = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    if hasattr(array, "chunks"):  # a chunked array of one chunk, or of none
        array = array.chunk(0) if array.num_chunks else np.zeros(0)
    shape = [len(array)]
    while not isinstance(array, np.ndarray) and _is_list(array.type, kinds):
        inner = array.flatten()
        if len(array) and len(inner) % len(array):
            raise _ragged(place, name)
        width = len(inner) // len(array) if len(array) else 0
        if not kinds.is_fixed_size_list(array.type):
            lengths = np.diff(array.offsets.to_numpy())
            if len(lengths) and not bool((lengths == width).all()):
                raise _ragged(place, name)
        if inner.null_count:
            raise InputError(
                f"{place}: expected numbers in every list; {name!r} has {inner.null_count:,} places"
                f" without. Fill them."
            )
        shape.append(width)
        array = inner
    allowance.require(place, 8 * math.prod(shape), "row groups", _REMEDY)
    numbers: np.ndarray = (
        array if isinstance(array, np.ndarray) else array.to_numpy(zero_copy_only=False)
    )
    return numbers.reshape(shape)


def _ragged(place: object, name: str) -> InputError:
    return InputError(
        f"{place}: expected lists of one length in a column, since each row is an example; those "
        f"of {name!r} differ. Pad them, with a column of weights that are 0 where padded."
    )
