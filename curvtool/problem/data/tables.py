"""Which columns of a table are inputs, target and weights: by name, by number, by pattern.

The scalar columns that are inputs make one tensor, (examples, columns), since that is what people
mean by a table; where a column holds arrays, each column named is an input of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import final

from curvtool.errors import InputError
from curvtool.problem.spec import DataSpec
from curvtool.problem.wording import did_you_mean, listed

_PATTERN = frozenset("*?[")


@final
@dataclass(frozen=True)
class TableColumns:
    """Numbers of the columns that are used.

    Attributes:
        inputs: in their order.
        targets: the target's.
        weights: that of the weights, where there are any.
    """

    inputs: tuple[int, ...]
    targets: int
    weights: int | None


def table_columns(
    spec: DataSpec, place: object, names: Sequence[str], *, named: bool
) -> TableColumns:
    """Find the columns that the problem names.

    Args:
        spec: the data.
        place: the file, for messages.
        names: of the columns in their order.
        named: whether the file gave the names; they are numbers otherwise.

    Returns:
        The columns; as inputs all that are neither target nor weights, where none are named.

    Raises:
        InputError: for a target that is not given, a column that is not there, or no inputs.
    """
    target = spec.targets
    if target is None and named and "y" in names:
        target = "y"
    if target is None:
        shown = listed(names) if named else f"0 to {len(names) - 1}"
        raise InputError(
            f"{place}: expected to be told which column is the target; targets is not set and the "
            f"columns are {shown}. Add under [data]: targets = NAME or NUMBER, or "
            f"--data-kwargs targets={names[-1] if names else 0}."
        )
    (targets,) = _numbers(target, place, names, "targets", most=1)
    weights = None
    if spec.weights is not None:
        (weights,) = _numbers(spec.weights, place, names, "weights", most=1)
    if spec.inputs is None:
        inputs = tuple(i for i in range(len(names)) if i not in {targets, weights})
    else:
        inputs = tuple(
            i for name in spec.inputs for i in _numbers(name, place, names, "inputs", most=None)
        )
    if not inputs:
        raise InputError(
            f"{place}: expected at least one column of inputs; there are none beside the target. "
            f"Correct inputs and targets under [data]."
        )
    return TableColumns(inputs, targets, weights)


def _numbers(
    name: str, place: object, names: Sequence[str], what: str, *, most: int | None
) -> list[int]:
    """Columns by name, by pattern, by number from 0 or from the end, or by a range a:b."""
    found = [i for i, n in enumerate(names) if n == name]
    if not found and _PATTERN & set(name):
        found = [i for i, n in enumerate(names) if fnmatchcase(n, name)]
    if not found:
        found = _by_number(name, len(names))
    if found and (most is None or len(found) <= most):
        return found
    if found:
        raise InputError(
            f"{place}: expected {what} to be one column; {name!r} is {len(found)}. Correct {what} "
            f"under [data]."
        )
    raise InputError(
        f"{place}: expected a column {name!r} ({what}), or the number of one; the file has "
        f"{listed(names)}.{did_you_mean(name, names)} Correct {what} under [data]."
    )


def _by_number(text: str, count: int) -> list[int]:
    first, colon, last = text.partition(":")
    try:
        if colon:
            return list(range(count))[slice(_whole(first), _whole(last))]
        number = int(text)
    except ValueError:
        return []
    return [number % count] if -count <= number < count else []


def _whole(text: str) -> int | None:
    return int(text) if text.strip() else None
