"""Named arrays that are read by rows: what array files and tables have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from curvtool.errors import InputError
from curvtool.problem.spec import DataSpec
from curvtool.problem.wording import did_you_mean, listed


@final
@dataclass(frozen=True, eq=False)
class Column:
    """One array of a file.

    Attributes:
        name: as the file has it.
        shape: with the examples first.
        read: rows from `start` to before `stop`, as a tensor of checked numbers.
    """

    name: str
    shape: tuple[int, ...]
    read: Callable[[int, int], Tensor]

    def take(self, rows: range | Tensor) -> Tensor:
        """Rows by ascending index; nothing else is read."""
        if isinstance(rows, range):
            return self.read(rows.start, rows.stop)
        return torch.cat([self.read(start, stop) for start, stop in _runs(rows)])


@final
@dataclass(frozen=True, eq=False)
class Columns:
    """The arrays that a problem uses.

    Attributes:
        parts: the inputs, then the target.
        weights: of the examples or their predictions, where the problem names them.
    """

    parts: tuple[Column, ...]
    weights: Column | None = None

    @property
    def all(self) -> tuple[Column, ...]:
        """The parts, and the weights."""
        return self.parts if self.weights is None else (*self.parts, self.weights)


@final
@dataclass(frozen=True)
class Names:
    """What the problem calls inputs, target and weights."""

    inputs: tuple[str, ...]
    targets: str
    weights: str | None


def array_names(spec: DataSpec, place: object, present: Sequence[str]) -> Names:
    """Which arrays of a file are used: those named, or x and y.

    Args:
        spec: the data.
        place: the file, for messages.
        present: names of its arrays.

    Returns:
        The names.

    Raises:
        InputError: where one is not given and not obvious, or not there.
    """
    inputs = spec.inputs or (("x",) if "x" in present else None)
    targets = spec.targets or ("y" if "y" in present else None)
    if inputs is None or targets is None:
        lacking = "inputs" if inputs is None else "targets"
        raise InputError(
            f"{place}: expected to be told which arrays are inputs and targets (x and y where they "
            f"are there); {lacking} is not set and the file has {listed(present) or 'no arrays'}. "
            f'Add under [data]: {lacking} = "NAME", or --data-kwargs {lacking}=NAME.'
        )
    names = Names(inputs, targets, spec.weights)
    for name in (*inputs, targets, *([spec.weights] if spec.weights else [])):
        if name not in present:
            raise InputError(
                f"{place}: expected an array {name!r}; the file has {listed(present) or 'none'}."
                f"{did_you_mean(name, present)} Correct inputs, targets or weights under [data]."
            )
    return names


def columns_of(names: Names, made: Mapping[str, Column], place: object) -> Columns:
    """The columns that are used, when their lengths agree.

    Args:
        names: of the columns.
        made: by name.
        place: the file, for messages.

    Returns:
        The columns.

    Raises:
        InputError: for arrays without examples, or of unequal length.
    """
    weights = None if names.weights is None else made[names.weights]
    columns = Columns((*(made[n] for n in names.inputs), made[names.targets]), weights)
    lengths = {column.shape[0] if column.shape else None for column in columns.all}
    if len(lengths) > 1 or None in lengths:
        described = ", ".join(f"{c.name} {c.shape}" for c in columns.all)
        raise InputError(
            f"{place}: expected arrays with one entry an example, so of equal length; got "
            f"{described}. Save inputs and targets of the same examples."
        )
    return columns


def _runs(rows: Tensor) -> Iterator[tuple[int, int]]:
    """Ascending indices as intervals."""
    if not len(rows):
        yield 0, 0
        return
    breaks = (rows.diff() != 1).nonzero().flatten() + 1
    for run in torch.tensor_split(rows, breaks):
        yield int(run[0]), int(run[-1]) + 1
