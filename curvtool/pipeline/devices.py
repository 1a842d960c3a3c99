"""Where to compute, and in which floating-point type."""

from __future__ import annotations

import torch

from curvtool.errors import InputError

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """The device of a name, `auto` for a GPU where there is one.

    Args:
        name: `auto`, `cpu`, `cuda` or `cuda:N`.
        local_rank: of the process on its machine: each takes a GPU of its own under `auto` and
            `cuda`, and GPUs in turns where there are fewer.

    Returns:
        The device.

    Raises:
        InputError: for a GPU that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and torch.cuda.device_count():
        name = f"cuda:{local_rank % torch.cuda.device_count()}"
    if name.startswith("cuda"):
        count = torch.cuda.device_count()
        index = int(name.partition(":")[2] or 0)
        if index >= count:
            raise InputError(
                f"--device {name} needs a GPU{' of that number' if count else ''}; torch sees "
                f"{count or 'none'} here. "
                "Use --device cpu, or install a torch build with CUDA support."
            )
        return torch.device("cuda", index)
    return torch.device("cpu")
