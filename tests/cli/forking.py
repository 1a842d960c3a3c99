"""Runs in forked processes of their own, since importing torch would take most of their time.

Whoever imports this must not have computed anything yet: threads do not survive a fork.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

# Loaded before the forks: of a run of 2 s they would take 1.6 s. (The first two are what torch
# loads at the first second derivative.)
import torch._decomp.decompositions_for_jvp  # noqa: F401
import torch._dynamo  # noqa: F401
import torch.distributed  # noqa: F401

import curvtool.cli.progress  # noqa: F401
import curvtool.cli.show  # noqa: F401
import curvtool.cli.solving  # noqa: F401
import curvtool.pipeline  # noqa: F401
from curvtool.__main__ import main as run_process
from curvtool.errors import ExitCode


def said(rank: int = 0) -> Path:
    """Where a rank's words go."""
    return Path(f"said.{rank}.txt")


def words() -> str:
    """What all ranks said last."""
    return "\n".join(f"[{path.name}] {path.read_text()}" for path in sorted(Path().glob("said.*")))


def forked(arguments: Sequence[str], *, ranks: int = 1) -> list[int]:
    """Process ids of a run's ranks; the caller has caught signals, so that they have, too."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(ranks):
        child = os.fork()
        if child == 0:
            output = os.open(said(rank), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            if ranks > 1:
                names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
                os.environ.update(zip(names, map(str, (rank, rank, ranks, ranks)), strict=True))
                os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
            sys.argv = ["curvtool", *arguments, "-q"]
            try:
                run_process()
            except SystemExit as end:
                os._exit(int(end.code or 0))
            finally:
                os._exit(ExitCode.BUG)
        children.append(child)
    return children


def ended(children: Sequence[int], *, within: float = 120.0) -> list[int]:
    """The exit codes, negative for a signal; whoever still lives after so long is a failure."""
    until = time.monotonic() + within
    codes: dict[int, int] = {}
    while len(codes) < len(children):
        for child in children:
            if child not in codes:
                pid, status = os.waitpid(child, os.WNOHANG)
                if pid:
                    codes[child] = os.waitstatus_to_exitcode(status)
        assert time.monotonic() < until, f"{codes} of {children} after {within} s: {words()}"
        time.sleep(0.005)
    return [codes[child] for child in children]


def content(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Every dataset of a run file but the times."""
    found = {}

    def take(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and not name.endswith("seconds"):
            value = np.asarray(item[...])
            content = repr(value.tolist()).encode() if value.dtype == object else value.tobytes()
            found[name] = (str(value.dtype), value.shape, content)

    with h5py.File(path, "r") as file:
        file.visititems(take)
    return found
