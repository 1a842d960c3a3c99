"""Several batches at once: threads that each make a batch's product with a part of the cores.

A product of one batch leaves cores idle: every operation waits for its slowest thread, and small
ones run on one. Batches do not wait for each other. On two cores a kept graph's product took 0.70
(residual net, in halved batches), 0.87 (GPT) and 1.0 (MLP) of the time that two threads a batch
took.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import final

import torch

from curvtool.operators.recording import Place, State
from curvtool.operators.ways.base import Pieces, Sum, summed
from curvtool.problem.twice import twice_differentiable

# Workers wait for each other where a sum may be interrupted, seldom enough to cost nothing.
SECONDS_BETWEEN_STEPS = 1.0


@final
class Workers:
    """A number of threads that share out batches in a fixed way, so that sums round alike.

    Args:
        count: how many, at least two. Each computes with so many of torch's threads that all
            together have as many as torch had.
        dtype: that the objective computes in.
    """

    def __init__(self, count: int, dtype: torch.dtype) -> None:
        self.count = count
        self._dtype = dtype
        self._ahead = 1  # rounds of a batch each that take about as long as steps may be apart
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="curvtool-batch")

    def summed(
        self,
        indices: Sequence[int],
        term: Callable[[int], Pieces],
        place: Place | None = None,
    ) -> Pieces:
        """The sum of the batches' parts; of `count` batches in a row each worker makes one.

        Args:
            indices: of the batches. What does not go up in the workers is made by the caller.
            term: makes the part of a batch; called in several threads at once.
            place: to begin at, and to step on; its steps are rounds in which every worker adds a
                batch to its own sum, so that they change nothing in the result.

        Returns:
            Pieces. Takes the working memory of `count` batches at a time, and a vector of P
            numbers for each worker.
        """
        threads = torch.get_num_threads()
        each = max(1, threads // self.count)
        even = len(indices) - len(indices) % self.count
        sums = [Sum() for _ in range(min(self.count, even))]
        if place is not None and place.saved is not None:
            sums = [Sum(_pieces(place.saved.state, w)) for w in range(self.count)]

        def share(sum_: Sum, part: Sequence[int]) -> None:
            torch.set_num_threads(each)
            for index in part:
                sum_.add(term(index))

        def state() -> State:
            return {
                f"{w} {i}": piece
                for w, sum_ in enumerate(sums)
                for i, piece in enumerate(sum_.total or ())
            }

        done = place.done * self.count if place is not None else 0
        # Around all threads: what it switches is the process's, and each one that leaves would
        # switch it back under the others.
        with twice_differentiable(dtype=self._dtype):
            while done < even:
                end = even
                if place is not None:
                    end = min(even, done + self._ahead * self.count)
                began = time.monotonic()
                futures: list[Future[None]] = []
                try:
                    for w, sum_ in enumerate(sums):
                        part = indices[done + w : end : self.count]
                        futures.append(self._pool.submit(share, sum_, part))
                    for future in futures:
                        future.result()
                finally:
                    wait(futures)
                    torch.set_num_threads(threads)
                done = end
                if place is not None:
                    if time.monotonic() - began < SECONDS_BETWEEN_STEPS:
                        self._ahead *= 2
                    place.step(done // self.count, state)
        parts = [sum_.total for sum_ in sums if sum_.total is not None]
        return summed([*parts, *map(term, indices[even:])])


def _pieces(state: State, worker: int) -> Pieces:
    named = {name: piece for name, piece in state.items() if name.startswith(f"{worker} ")}
    return [named[f"{worker} {i}"] for i in range(len(named))]
