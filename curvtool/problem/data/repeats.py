"""Whether a dataset gives the same examples when it is read again.

What is read once is kept, so that a product would be right for one draw of an augmentation; but
another run would have another draw, and H be another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from curvtool.errors import PreflightError

# A coin thrown for each example comes out alike with probability 1/256.
READ_AGAIN = 8


def require_repeatable(first: object, again: object, label: str) -> None:
    """Hold two readings of the same examples against each other.

    Args:
        first: tensors, arrays, numbers, nested in mappings and sequences; of other things only
            a difference that `==` states counts.
        again: likewise.
        label: whose examples they are.

    Raises:
        PreflightError: where they differ.
    """
    if not _same(first, again):
        raise PreflightError(
            f"{label}: expected the same examples at every reading, since another draw is another "
            "loss and another H; its first examples came out differently the second time. Leave "
            "random transforms and shuffling out: use the transforms of the evaluation and "
            "shuffle=False."
        )


def require_repeatable_iterable(read: list[Any], items: Iterable[Any], label: str) -> None:
    """Iterate once more, over the first items.

    Args:
        read: what the first iteration gave.
        items: the iterable; what can be read only once, like a generator, passes.
        label: whose items they are.

    Raises:
        PreflightError: where the items differ.
    """
    if isinstance(items, list | tuple | Iterator):
        return
    again = list(islice(items, READ_AGAIN))
    if again:
        require_repeatable(read[:READ_AGAIN], again, label)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        alike = a.shape == b.shape and a.dtype == b.dtype
        return alike and bool(torch.where((a != a) & (b != b), True, a == b).all())
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        alike = a.shape == b.shape and (a == b) | ((a != a) & (b != b))  # NaN is like NaN
        return bool(np.all(alike))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    # Of other things an equality may be that of places in memory.
    return a == b or a != a or not isinstance(a, str | bytes | int | float)
