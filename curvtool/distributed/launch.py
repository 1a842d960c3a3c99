"""Which process of how many this one is, as torchrun or srun started it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from curvtool.errors import UsageError

# Where srun names no port, one is made of the job's number, so that jobs on a node keep apart.
_FIRST_PORT, _PORTS = 20_000, 20_000


@final
@dataclass(frozen=True)
class Launch:
    """The place of a process in its job.

    Attributes:
        rank: from 0.
        size: processes in all.
        local_rank: among those of the same machine.
        local_size: processes on this machine.
        address: of the machine of rank 0.
        port: on which rank 0 listens.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int
    address: str
    port: int


def launched(environment: Mapping[str, str]) -> Launch | None:
    """Read what torchrun or srun left in the environment.

    Args:
        environment: of the process.

    Returns:
        The place; None for a process of its own, as in a batch script without srun.

    Raises:
        UsageError: where the variables are there and make no sense.
    """
    if "WORLD_SIZE" in environment and "RANK" in environment:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        defaults = ("", "", environment["RANK"], environment["WORLD_SIZE"])
        numbers = [
            _number(environment, n, default) for n, default in zip(names, defaults, strict=True)
        ]
        address = environment.get("MASTER_ADDR", "127.0.0.1")
        port = _number(environment, "MASTER_PORT", "29500")
    elif _number(environment, "SLURM_STEP_NUM_TASKS", "1") > 1 and "SLURM_PROCID" in environment:
        numbers = [
            _number(environment, "SLURM_PROCID", ""),
            _number(environment, "SLURM_STEP_NUM_TASKS", ""),
            _number(environment, "SLURM_LOCALID", "0"),
            _tasks_here(environment),
        ]
        hosts = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_NODELIST", "")
        address = environment.get("MASTER_ADDR") or first_host(hosts)
        job = _number(environment, "SLURM_JOB_ID", "0") + _number(environment, "SLURM_STEP_ID", "0")
        port = _number(environment, "MASTER_PORT", str(_FIRST_PORT + job % _PORTS))
    else:
        return None
    rank, size, local_rank, local_size = numbers
    if not 0 <= rank < size:
        raise UsageError(
            f"The environment says that this is process {rank} of {size}; expected a rank from 0 "
            f"to {size - 1}. Start the processes by torchrun or srun, or unset RANK and WORLD_SIZE."
        )
    if size == 1:
        return None
    return Launch(rank, size, local_rank, max(1, local_size), address, port)


def first_host(hosts: str) -> str:
    """The first machine of a list as Slurm writes it: `node[07-09,12],other3`.

    Args:
        hosts: the list.

    Returns:
        Its name; that of this machine where the list is empty.
    """
    found = re.match(r"([^,\[]*)(?:\[([^\],-]*)[^\]]*\])?", hosts.strip())
    if found is None or not found[0]:
        return "127.0.0.1"
    return found[1] + (found[2] or "")


def _tasks_here(environment: Mapping[str, str]) -> int:
    """Of `SLURM_STEP_TASKS_PER_NODE`, say `4(x2),3`, the number of this node."""
    here = _number(environment, "SLURM_NODEID", "0")
    listed: list[int] = []
    for part in environment.get("SLURM_STEP_TASKS_PER_NODE", "").split(","):
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part.strip())
        if found:
            listed += [int(found[1])] * int(found[2] or 1)
    return listed[here] if here < len(listed) else 1


def _number(environment: Mapping[str, str], name: str, default: str) -> int:
    text = environment.get(name, default)
    if not re.fullmatch(r"\d+", text):
        raise UsageError(
            f"The environment variable {name} is {text!r}; expected a number, as torchrun and srun "
            "set it. Start the processes by one of these, or unset RANK and WORLD_SIZE."
        )
    return int(text)
