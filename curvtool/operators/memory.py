"""How much memory there is, and how much an autograd graph takes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# What is left for the framework's own buffers, fragmentation and everybody else.
DEFAULT_SHARE = 0.6


def default_memory(device: torch.device) -> int:
    """Bytes that a run may use when the user names none: 60 % of what is free."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free * DEFAULT_SHARE)
    return int(_available_host_memory() * DEFAULT_SHARE)


def _available_host_memory() -> int:
    """Free memory of the host, or of the control group or resource limit when they are tighter."""
    limits = []
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        found = re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text())
        if found:
            limits.append(int(found[1]) * 1024)
    limits += control_group_room(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
    try:
        import resource
    except ImportError:  # not a POSIX system: no such limit there
        pass
    else:
        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        if soft != resource.RLIM_INFINITY:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            limits.append(max(0, soft - used))
    # 4 GiB where the system tells nothing: small enough for any machine that runs torch.
    return min(limits) if limits else 4 * 2**30


def control_group_room(membership: Path, mounted: Path) -> list[int]:
    """Bytes that the process's control groups have left, of version 2 and of version 1.

    Args:
        membership: `/proc/self/cgroup`.
        mounted: where the groups are, `/sys/fs/cgroup`.

    Returns:
        One number for each group, from the process's own to the root, that has a limit.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:  # not Linux
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            top, names = mounted, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            top = mounted / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        group = top / path.strip("/")
        # Inside a container the path may be one that only the host sees: then the root's counts.
        for place in [group, *group.parents[: len(group.parts) - len(top.parts)], top]:
            try:
                limit, used = ((place / name).read_text().strip() for name in names)
            except OSError:
                continue
            if limit.isdigit() and used.isdigit():  # not "max"
                found.append(max(0, int(limit) - int(used)))
    return found


def is_shortage(error: BaseException) -> bool:
    """Whether memory ran out: of a GPU, of torch's allocator for the CPU, or of Python."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    said = str(error)
    return isinstance(error, RuntimeError) and (
        "DefaultCPUAllocator" in said or "STATUS_ALLOC_FAILED" in said
    )


class SavedBytes:
    """Adds up the distinct storages that an autograd graph keeps alive.

    Use as a context around the passes that build the graph; storages of the tensors `known`
    (parameters, data) are not counted, for they stay anyway.
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        self.total = 0
        self._seen = {t.untyped_storage().data_ptr() for t in known}
        self._hooks: Any = None

    def _pack(self, t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        # An address may be used again once its tensor is gone, which undercounts; saved tensors
        # live as long as the graph, so that only what was never kept can collide.
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.total += storage.nbytes()
        # Detached: an operation that keeps its own result would keep itself alive for good.
        return t.detach()

    def __enter__(self) -> SavedBytes:
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda t: t)
        self._hooks.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._hooks.__exit__(*exc)
