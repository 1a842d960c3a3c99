"""Ranks in processes of their own, which end with the test whatever happens in them."""

from __future__ import annotations

import multiprocessing
import socket
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from curvtool.distributed.group import Ranks
from curvtool.distributed.launch import Launch

# Far beyond what the work takes, start of four processes on two cores included.
DEADLINE_SECONDS = 400.0
# Seconds after which a rank that waits gives up: those of the larger groups wait for the smaller.
PATIENCE = DEADLINE_SECONDS

Work = Callable[[Ranks], Any]


def run_in_ranks(work: Work, sizes: tuple[int, ...], folder: Path) -> dict[int, list[Any]]:
    """Call a function in groups of so many ranks, one size after another in the same processes.

    Args:
        work: a function of a module, which spawned processes import.
        sizes: of the groups.
        folder: for what it returns, as `torch.save` writes it.

    Returns:
        For each size, the ranks' results.
    """
    context = multiprocessing.get_context("spawn")
    ports = [_free_port() for _ in sizes]
    processes = [
        context.Process(target=_rank, args=(rank, sizes, ports, work, folder), daemon=True)
        for rank in range(max(sizes))
    ]
    for process in processes:
        process.start()
    end = time.monotonic() + DEADLINE_SECONDS
    # Who has failed keeps the others waiting.
    while any(p.is_alive() for p in processes) and time.monotonic() < end:
        if any(p.exitcode for p in processes):
            break
        time.sleep(0.05)
    hung = [process for process in processes if process.is_alive()]
    for process in processes:
        process.kill()
        process.join()
    failures = [path.read_text() for path in sorted(folder.glob("failed-*.txt"))]
    assert not failures, "\n".join(failures)
    assert not any(p.exitcode for p in processes if p not in hung), "a rank was killed"
    assert not hung, f"{hung} did not end within {DEADLINE_SECONDS:g} s"
    return {
        size: [torch.load(folder / f"{size}-{rank}.pt", weights_only=False) for rank in range(size)]
        for size in sizes
    }


def _rank(rank: int, sizes: tuple[int, ...], ports: list[int], work: Work, folder: Path) -> None:
    torch.set_num_threads(1)
    try:
        for size, port in zip(sizes, ports, strict=True):
            if rank < size:
                launch = Launch(rank, size, rank, size, "127.0.0.1", port)
                group = Ranks(launch, torch.device("cpu"), patience=PATIENCE)
                try:
                    torch.save(work(group), folder / f"{size}-{rank}.pt")
                finally:
                    group.close()
    except BaseException:
        (folder / f"failed-{rank}.txt").write_text(f"rank {rank}:\n{traceback.format_exc()}")
        raise


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
