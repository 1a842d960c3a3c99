"""Read one batch ahead of the one in use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import final

from curvtool.problem.batch import Batch


@final
class Prefetcher:
    """Batches by index, the next one read by a thread while the last one is computed with.

    All reading happens in that thread. At most two batches are in memory for it: the last one
    given out, and the one being read.
    """

    def __init__(self, read: Callable[[int], Batch], count: int) -> None:
        self._read = read
        self._count = count
        self._after: dict[int, int] = {}  # which one was asked for after which: passes repeat
        self._last: tuple[int, Batch] | None = None
        self._ahead: tuple[int, Future[Batch]] | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._asking = threading.Lock()

    def batch(self, index: int) -> Batch:
        """Batch `index`; whatever reading it raises comes through.

        Args:
            index: from 0 to before `count`.

        Returns:
            The batch; the same object where the same index is asked for again.
        """
        with self._asking:
            return self._batch(index)

    def _batch(self, index: int) -> Batch:
        if self._last is not None:
            if self._last[0] == index:
                return self._last[1]
            self._after[self._last[0]] = index
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="curvtool-data")
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == index:
            future = ahead[1]
        else:
            if ahead is not None:
                ahead[1].cancel()
            self._last = None
            future = self._thread.submit(self._read, index)
        batch = future.result()
        self._last = (index, batch)
        then = self._after.get(index, (index + 1) % self._count)
        if then != index:
            self._ahead = (then, self._thread.submit(self._read, then))
        return batch
