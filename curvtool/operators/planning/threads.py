"""How many threads to compute with: all of them, unless the machine is too busy for that.

OpenMP's threads wait for one another by spinning. Where other programs have the cores, or a
control group allows fewer than torch counts, a pass takes 2 to 40 times as long as with one thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from curvtool.operators.measure import seconds
from curvtool.problem.objective import Objective

# One thread must be so much faster to be preferred: a quiet machine is never that slow with all.
CLEARLY = 1.3


@contextlib.contextmanager
def restored_threads() -> Iterator[None]:
    """Give back the number of threads that was found."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose_threads(objective: Objective) -> str | None:
    """Compute with one thread where that is clearly faster.

    Args:
        objective: evaluated; the gradient of its first batch is timed, four times in all.

    Returns:
        A sentence where the number was changed.
    """
    threads = torch.get_num_threads()
    if threads == 1 or objective.device.type != "cpu":
        return None
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
        return None
    torch.set_num_threads(1)
    return (
        f"The machine is busy: one thread is {faster:.1f} times as fast as {threads}, and is used."
    )
