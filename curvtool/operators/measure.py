"""Seconds and bytes of a piece of work, on any device."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

# torch's profiler logs its own start and stop to stderr otherwise; read at its first use.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

Work = Callable[[], object]


def seconds(work: Work, device: torch.device) -> float:
    """Wall time of one run, the device's work included."""
    _wait(device)
    began = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - began


def interleaved(
    works: Mapping[str, Work], *, rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Wall times of several works in turns, so that a slow moment of the machine hits all alike.

    Args:
        works: by name; each must have run once before, since first runs are slower.
        rounds: runs of each.
        device: that they compute on.

    Returns:
        Seconds of every run, by name.
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(seconds(work, device))
    return times


def median(samples: Sequence[float]) -> float:
    """The middle of the samples."""
    return float(np.median(samples))


def spread(samples: Sequence[float]) -> float:
    """Half the distance between the quartiles, relative to the median."""
    low, middle, high = np.percentile(samples, [25, 50, 75])
    return float((high - low) / 2 / middle) if middle else 0.0


@final
@dataclass(frozen=True)
class MemoryUse:
    """What a run took above what was there before.

    Attributes:
        peak: the most at any moment, in bytes.
        left: what was still held when it ended.
    """

    peak: int
    left: int


def memory_use(work: Work, device: torch.device) -> MemoryUse:
    """Memory that torch takes for a run; buffers inside its libraries do not show.

    Args:
        work: to run once. On a CPU the allocator's events are recorded, which slows it by up to a
            third.
        device: that it computes on.

    Returns:
        The peak and what is left.
    """
    if device.type == "cuda":
        _wait(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        kept = work()
        _wait(device)
        peak = torch.cuda.max_memory_allocated(device) - before
        left = torch.cuda.memory_allocated(device) - before
        del kept
        return MemoryUse(max(0, peak), max(0, left))
    profile: Any = torch.autograd.profiler.profile(profile_memory=True)
    with profile:
        kept = work()
    events = [e for e in profile.kineto_results.events() if e.name() == "[memory]"]
    changes = [e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]
    del kept
    levels = np.cumsum([0, *changes])
    return MemoryUse(int(levels.max()), max(0, int(levels[-1])))


# Operations whose time is that of the arithmetic units, not of the memory.
_DENSE = re.compile(r"aten::.*(mm|mv|matmul|linear|conv|dot|rnn|lstm|gru)")


def dense_share(work: Work) -> float:
    """Share of a run's time on the CPU that matrix products and convolutions take.

    Args:
        work: to run once, on a CPU.

    Returns:
        In 0..1. What is left are passes over memory, which a compiler can fuse.
    """
    profile: Any = torch.autograd.profiler.profile()
    with profile:
        work()
    events = profile.key_averages()
    total = sum(e.self_cpu_time_total for e in events)
    dense = sum(e.self_cpu_time_total for e in events if _DENSE.match(e.key))
    return dense / total if total else 0.0


def graph_operations(outputs: Sequence[Tensor]) -> list[str]:
    """Names of the operations in the autograd graph behind some tensors, one for each node."""
    waiting: list[Any] = [t.grad_fn for t in outputs if t.grad_fn is not None]
    seen = set(waiting)
    while waiting:
        for node, _ in waiting.pop().next_functions:
            if node is not None and node not in seen:
                seen.add(node)
                waiting.append(node)
    return [node.name() for node in seen]


def graph_nodes(outputs: Sequence[Tensor]) -> int:
    """Number of operations in the autograd graph behind some tensors."""
    return len(graph_operations(outputs))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
