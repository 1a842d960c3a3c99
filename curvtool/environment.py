"""Where a run took place: versions, machine, threads. Stored with every result."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Versions, processor and settings that a figure may depend on."""
    described: dict[str, Any] = {
        "curvtool": version("curvtool"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "scipy": version("scipy"),
        "h5py": version("h5py"),
        "platform": platform.platform(),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "tf32": False,  # switched off for the run
    }
    if device.type == "cuda":
        described["device_name"] = torch.cuda.get_device_name(device)
        described["cuda"] = torch.version.cuda
    return described


def digest(value: Mapping[str, Any]) -> str:
    """SHA-256 of a plain mapping, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
