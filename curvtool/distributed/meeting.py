"""How the ranks of a job find each other, or end where one does not come."""

from __future__ import annotations

import os
import socket
import time
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from curvtool.distributed.launch import Launch
from curvtool.distributed.watch import RankFailedError, who_key

_POLL_SECONDS = 0.02


def meet(launch: Launch, *, within: float) -> Any:
    """The store that all ranks share, once all of them are there.

    Args:
        launch: the place of this process.
        within: seconds to wait for the others.

    Returns:
        A `torch.distributed.Store`.

    Raises:
        RankFailedError: where one does not come.
    """
    until = time.monotonic() + within
    # torchrun keeps a store of its own at that address; else rank 0 does.
    keeps = launch.rank == 0 and "TORCHELASTIC_RUN_ID" not in os.environ
    if not keeps:
        _await_listener(launch, until, within)
    try:
        store = dist.TCPStore(  # type: ignore[attr-defined]
            launch.address,
            launch.port,
            launch.size,
            is_master=keeps,
            timeout=timedelta(seconds=within),
            wait_for_workers=False,
        )
    except (RuntimeError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        raise RankFailedError(
            f"Rank {launch.rank} cannot use {launch.address}:{launch.port}, where the ranks meet "
            f"({first}). Set MASTER_ADDR and MASTER_PORT to a free one that all machines reach."
        ) from error
    me = f"process {os.getpid()} on {socket.gethostname()}"
    try:
        store.set(who_key(launch.rank), me)
        missing = list(range(launch.size))
        while missing:
            missing = [rank for rank in missing if not store.check([who_key(rank)])]
            if missing and time.monotonic() > until:
                raise RankFailedError(
                    f"Of {launch.size} processes {len(missing)} did not come within {within:.0f} s:"
                    f" rank {', '.join(map(str, missing[:8]))}. Look at what these said; "
                    "--rank-timeout allows more time."
                )
            time.sleep(_POLL_SECONDS)
    except RuntimeError as error:
        raise RankFailedError("Rank 0 is gone before all ranks had met.", 0) from error
    return store


def _await_listener(launch: Launch, until: float, within: float) -> None:
    """Wait until somebody listens: torch's own client waits up to 17 s between two attempts."""
    while True:
        try:
            socket.create_connection((launch.address, launch.port), timeout=5.0).close()
        except OSError as error:
            if time.monotonic() > until:
                raise RankFailedError(
                    f"Rank 0 did not answer at {launch.address}:{launch.port} within {within:.0f} "
                    f"s (the system says {error.strerror or str(error)!r}). Look at what it said; "
                    "--rank-timeout allows more time.",
                    0,
                ) from error
            time.sleep(_POLL_SECONDS)
        else:
            return
