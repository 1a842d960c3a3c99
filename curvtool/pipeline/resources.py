"""Device, memory and the function to differentiate: what every run needs first."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from curvtool.config import ComputeConfig, ProblemConfig
from curvtool.distributed.group import Group
from curvtool.operators.heap import kept_heap
from curvtool.operators.memory import is_shortage
from curvtool.operators.planning.threads import restored_threads
from curvtool.pipeline.devices import DTYPES
from curvtool.problem.denormals import flushed_denormals
from curvtool.problem.loading import LoadedProblem
from curvtool.problem.objective import Objective
from curvtool.problem.sharing import even_in_turns, shared_out
from curvtool.problem.twice import full_precision
from curvtool.problem.unused import skip_unused

_Result = TypeVar("_Result")


@contextlib.contextmanager
def computing() -> Iterator[None]:
    """Settings of the process for the time of a run; restored at its end."""
    with full_precision(), flushed_denormals(), restored_threads(), kept_heap():
        yield


def make_objective(
    problem: LoadedProblem,
    config: ProblemConfig,
    compute: ComputeConfig,
    *,
    device: torch.device,
    memory: int,
    group: Group | None = None,
    by_terms: bool = True,
) -> Objective:
    """The dataset mean of a loaded problem, or of this process's share of it.

    Args:
        problem: as loaded; its module is moved and cast.
        config: which parameters, and how the model stands.
        compute: the precision.
        device: to compute on.
        memory: bytes that the run may use.
        group: of processes that share the examples out.
        by_terms: whether batches are multiplied one at a time, so that each needs all processes.

    Returns:
        The objective, not evaluated yet.

    Raises:
        InputError: where all parameters were to be left out.
    """  # raised below
    batches, places = problem.batches, None
    if group is not None and group.size > 1:
        coupled = config.train_mode or problem.loss.couples
        whole = coupled or (not by_terms and even_in_turns(batches, group.size))
        mine = shared_out(batches, rank=group.rank, ranks=group.size, whole=whole)
        batches, places = mine.batches, mine.places
    data_bytes = sum(b.nbytes for b in batches)
    made = Objective(
        problem.module,
        problem.loss,
        batches,
        places=places,
        device=device,
        dtype=DTYPES[compute.dtype],
        patterns=config.params,
        weight_decay=config.weight_decay,
        train_mode=config.train_mode,
        # A quarter for data that stays; the rest is worth more as kept graphs.
        keep_data_on_device=device.type == "cpu" or data_bytes <= memory // 4,
    )
    if config.skip_unused:
        within_memory(made, lambda: skip_unused(made), made.notes.append)
    return made


def within_memory(
    objective: Objective, run: Callable[[], _Result], tell: Callable[[str], None]
) -> _Result:
    """Run, with batches halved as often as memory runs out.

    Args:
        objective: whose batches are halved.
        run: the work; begun anew each time.
        tell: told what was done.

    Returns:
        What the work gives.

    Raises:
        RuntimeError: the want of memory, where no batch can be halved any further.
        MemoryError: likewise.
    """
    while True:
        try:
            return run()
        except (RuntimeError, MemoryError) as error:
            if not is_shortage(error):
                raise
            shortage = error.with_traceback(None)  # whose frames hold tensors
        if not objective.halve_batches():
            raise shortage
        most = max(map(objective.examples, objective.active))
        tell(f"Memory ran out: batches have at most {most} examples now.")
