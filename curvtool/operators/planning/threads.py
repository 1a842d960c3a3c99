"""How many threads to compute with: all of them, unless the machine is too busy for that.

OpenMP's threads wait for one another by spinning. Where other programs have the cores, or a
control group allows fewer than torch counts, a pass takes 2 to 40 times as long as with one thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch

from curvtool.operators.measure import seconds
from curvtool.problem.objective import Objective

# One thread must be so much faster to be preferred: a quiet machine is never that slow with all.
CLEARLY = 1.3


@final
@dataclass(frozen=True)
class Threads:
    """What is known of torch's threads.

    Attributes:
        sentence: empty unless their number was changed.
        efficiency: time of a gradient with one thread over that with n, times 1/n: what is left
            to be had by a better use of n cores is the rest to 1.
    """

    sentence: str = ""
    efficiency: float = 1.0


@contextlib.contextmanager
def restored_threads() -> Iterator[None]:
    """Give back the number of threads that was found."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose_threads(objective: Objective) -> Threads:
    """Compute with one thread where that is clearly faster.

    Args:
        objective: evaluated; the gradient of its first batch is timed, four times in all.

    Returns:
        What was found; all is left as it was where one thread is not clearly faster.
    """
    threads = torch.get_num_threads()
    if threads == 1 or objective.device.type != "cpu":
        return Threads()
    index = objective.active[0]

    def gradient() -> object:
        loss = objective.batch_loss(index)
        return torch.autograd.grad(loss, objective.parameters, materialize_grads=True)

    times: dict[int, list[float]] = {threads: [], 1: []}
    for count in (threads, 1, threads, 1):
        torch.set_num_threads(count)
        times[count].append(seconds(gradient, objective.device))
    faster = min(times[threads]) / min(times[1])
    if faster < CLEARLY:
        torch.set_num_threads(threads)
        return Threads(efficiency=min(1.0, 1 / (faster * threads)))
    torch.set_num_threads(1)
    return Threads(
        f"The machine is busy: one thread is {faster:.1f} times as fast as {threads}, and is used."
    )
