"""How products and sums reach whoever saves them: the little that operators and algorithms know.

A run that is continued begins again, and is served from what it saved until that is used up. So
an algorithm needs to know nothing of it, but for two things that would cost too much to save as
vectors: results of products that are a few numbers (`remembered`), and running sums (`loop`).
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

State = Mapping[str, Tensor]
Numbers = NDArray[Any]
# Of the table whose sums are a vector's fingerprint: 8 KiB a row.
_COLUMNS = 1024


@final
@dataclass(frozen=True, eq=False)
class Saved:
    """Where a loop stood: steps done, and the tensors that it had by then, on the host."""

    done: int
    state: State


class Recorder(Protocol):
    """Saves what a run makes, and gives it back to a run that continues it."""

    def product(self, kind: str, v: Tensor, make: Callable[[], Tensor]) -> Tensor:
        """What `make` gives for a vector or a block: made, or made before the interruption."""
        ...

    def section(
        self, key: str, compute: Callable[[], Sequence[Numbers]], *, whole: bool
    ) -> Sequence[Numbers]:
        """What `compute` gives; see `remembered`."""
        ...

    def unrecorded(self) -> AbstractContextManager[None]:
        """While products are not worth a record."""
        ...

    def begin(self, key: Callable[[], str]) -> Saved | None:
        """Enter a loop; where it stood, if it is the one that was interrupted."""
        ...

    def step(self, done: int, state: Callable[[], State], *, product: bool) -> None:
        """A moment between two steps of the innermost loop: to save, or to leave."""
        ...

    def end(self) -> None:
        """Leave the innermost loop."""
        ...


def recorder_of(operator: Any) -> Recorder | None:
    """The recorder that an operator, or the one that it wraps, stands under."""
    while operator is not None:
        found: Recorder | None = getattr(operator, "recorder", None)
        if found is not None:
            return found
        operator = getattr(operator, "inner", None)
    return None


def remembered(
    operator: object,
    key: str,
    compute: Callable[[], Sequence[Numbers]],
    *,
    whole: bool = False,
) -> Sequence[Numbers]:
    """A few numbers made of many products, which need not be made again.

    Args:
        operator: that makes the products.
        key: names the numbers: the same key, the same numbers, in the same run.
        compute: makes them; float64 arrays.
        whole: whether it is one product's worth, so that nothing inside is saved as a vector; a
            sum over batches inside still is.

    Returns:
        What `compute` gave, now or before the interruption.
    """
    recorder = recorder_of(operator)
    return compute() if recorder is None else recorder.section(key, compute, whole=whole)


def unrecorded(operator: object) -> AbstractContextManager[None]:
    """While products of the operator are not worth a record: what they add up to is in a loop."""
    recorder = recorder_of(operator)
    return contextlib.nullcontext() if recorder is None else recorder.unrecorded()


@final
class Place:
    """Where a loop stands."""

    def __init__(self, recorder: Recorder | None, saved: Saved | None) -> None:
        self._recorder = recorder
        self.saved = saved

    @property
    def done(self) -> int:
        """Steps that were done before the interruption; 0 without one."""
        return self.saved.done if self.saved else 0

    def fill(self, state: State) -> None:
        """Write what was saved into tensors of the same names and shapes."""
        if self.saved is not None:
            for name, tensor in state.items():
                tensor.copy_(self.saved.state[name])

    def step(self, done: int, state: Callable[[], State], *, product: bool = False) -> None:
        """A moment between two steps.

        Args:
            done: steps so far.
            state: gives the tensors of this moment; called only where they are saved, and also
                later, as long as no further step is done.
            product: whether a step is a whole product.
        """
        if self._recorder is not None:
            self._recorder.step(done, state, product=product)


@contextlib.contextmanager
def loop(recorder: Recorder | None, key: Callable[[], str]) -> Iterator[Place]:
    """A loop that can be continued between its steps.

    Args:
        recorder: None for a loop that nobody saves.
        key: names the loop with all that its sums depend on; called only where it is needed.

    Yields:
        The place to begin at.
    """
    if recorder is None:
        yield Place(None, None)
        return
    saved = recorder.begin(key)
    try:
        yield Place(recorder, saved)
    finally:
        recorder.end()


def fingerprint(v: Tensor) -> str:
    """A digest of a tensor's bits: sums of its words by row and column of a table.

    Any changed bit changes two sums. Hashing all bytes would take ten times as long: the words are
    read at the memory's speed, and 2 sqrt(n) sums are hashed.

    Args:
        v: of any shape and device.

    Returns:
        Hexadecimal digits.
    """
    content = v.detach().cpu().contiguous().numpy().reshape(-1).view(np.uint8)
    found = hashlib.blake2b(digest_size=16)
    found.update(repr((tuple(v.shape), str(v.dtype))).encode())
    words = content[: len(content) // 8 * 8].view(np.uint64)
    rows = len(words) // _COLUMNS
    table = words[: rows * _COLUMNS].reshape(rows, _COLUMNS)
    # Sums of unsigned words wrap around, which is exact.
    found.update(table.sum(axis=0).tobytes())
    found.update(table.sum(axis=1).tobytes())
    found.update(words[rows * _COLUMNS :].tobytes())
    found.update(content[len(words) * 8 :].tobytes())
    return found.hexdigest()
