"""Whether threads should share out the batches of a product, and whether to halve them for that.

Measured, since it depends on model and machine: batches at once wait less for each other than
threads of one batch, and smaller ones stay in a core's cache, but run their own small operations.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import final

import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from curvtool.operators.measure import seconds
from curvtool.operators.planning.trials import Trial
from curvtool.operators.ways.base import Keeper, Pieces
from curvtool.operators.workers import Workers
from curvtool.problem.batch import Batch
from curvtool.problem.objective import Objective

# What a trial may take of the predicted solve, and of what it may save if that is more: a solve of
# twenty products of a residual net took 0.7 of the time (2 cores), and 2 % of it try nothing.
SHARE, SHARE_OF_SAVING = 0.02, 0.25
# A gain below this is noise, and memory is not for nothing.
WORTH = 0.95
# Fewer examples a batch are mostly overhead.
LEAST_EXAMPLES = 4


@final
@dataclass(frozen=True)
class Sharing:
    """Batches shared out among threads.

    Attributes:
        workers: threads, each with a batch of its own.
        halvings: how often batches are divided before.
        factor: time of a product, relative to that of one batch after the other.
        bytes: working memory beyond that of one batch.
    """

    workers: int
    halvings: int
    factor: float
    bytes: int


def try_sharing(
    objective: Objective,
    trial: Trial,
    *,
    solve: float,
    batches: float,
    room: float,
    efficiency: float = 1.0,
) -> Sharing | None:
    """Measure products of some batches at once against one after the other.

    Args:
        objective: evaluated; it is left alone.
        trial: of the way, on one batch with all threads.
        solve: predicted seconds of all products.
        batches: of the trial's size.
        room: bytes beyond what is kept and what a product of one batch takes.
        efficiency: of the threads within one batch, in 0..1: what is left to 1 may be saved.

    Returns:
        The faster of whole and halved batches where it is clearly faster than none at once, and
        fits. Costs at most 2 % of the solve each, or a quarter of what may be saved.
    """
    threads = torch.get_num_threads()
    if threads == 1 or objective.device.type != "cpu" or not trial.way.concurrent:
        return None
    found = []
    most = max(SHARE, SHARE_OF_SAVING * (1 - efficiency)) * solve
    for halvings in _halvings(objective, threads, batches):
        workers = min(threads, len(objective.active) * 2**halvings)
        extra = _extra_bytes(objective, trial, workers, halvings)
        # Building what is kept, a first run, and two that count; at half the speed-up there may be.
        cost = (0.7 + 3 / max(1, workers / 2)) * workers * trial.seconds / 2**halvings
        if workers < 2 or extra > room or cost > most:
            continue
        taken = _seconds_at_once(objective, trial, workers, halvings)
        if taken is not None:
            factor = taken * 2**halvings / workers / trial.seconds
            found.append(Sharing(workers, halvings, factor, extra))
    best = min(found, key=lambda sharing: sharing.factor, default=None)
    return best if best is not None and best.factor < WORTH else None


def _halvings(objective: Objective, threads: int, batches: float) -> list[int]:
    """How often to divide batches: not at all where there are enough, and once more."""
    least = 0
    while batches * 2**least < threads:
        least += 1
    examples = objective.examples(objective.active[0])
    dividable = 0 if objective.couples else examples.bit_length()
    return [
        halvings
        for halvings in (least, least + 1)
        if halvings == 0 or (halvings <= dividable and examples >> halvings >= LEAST_EXAMPLES)
    ]


def _extra_bytes(objective: Objective, trial: Trial, workers: int, halvings: int) -> int:
    vectors = workers * objective.size * objective.dtype.itemsize
    return max(0, int((workers / 2**halvings - 1) * trial.bytes_peak)) + vectors


def _seconds_at_once(
    objective: Objective, trial: Trial, workers: int, halvings: int
) -> float | None:
    """Of one product of each worker's batch; None where the model would run in several threads."""
    if halvings:
        objective = objective.of_batches(_pieces(objective, halvings, workers))
    keeper = _kept(objective, trial, workers)
    if len(keeper.indices) < workers:
        return None
    v = objective.layout.split(torch.ones(objective.size, dtype=objective.dtype))
    shared = Workers(workers, objective.dtype)
    calls: list[str] = []

    def product() -> Pieces:
        return shared.summed(keeper.indices, lambda index: keeper.term(index, v))

    # Activation checkpointing calls modules on the way back, and those may keep state.
    hook = register_module_forward_pre_hook(lambda module, _: calls.append(type(module).__name__))
    try:
        product()
    finally:
        hook.remove()
    if calls:
        return None
    return min(seconds(product, objective.device) for _ in range(2))


def _kept(objective: Objective, trial: Trial, most: int) -> Keeper:
    assert trial.way.keeper is not None
    keeper = trial.way.keeper(objective)
    for index in objective.active[:most]:
        keeper.keep(index, room=sys.float_info.max)
    return keeper


def _pieces(objective: Objective, halvings: int, most: int) -> list[Batch]:
    """The first pieces of batches that are halved so often."""
    pieces = [objective.batch(i) for i in objective.active[: -(-most // 2**halvings)]]
    for _ in range(halvings):
        pieces = [half for piece in pieces for half in piece.halves()]
    return pieces[:most]
