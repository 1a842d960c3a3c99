"""What `--slurm key=value,...` asks of Slurm."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any

from curvtool.cli.values import parse_duration
from curvtool.errors import UsageError

# Seconds before the end at which a run is told to save; of a short job, a quarter.
_WARNING, _WARNING_SHARE = 120, 0.25


def _whole(key: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--slurm {key} needs a positive whole number, got {text!r}.")
    return int(text)


def _minutes(key: str, text: str) -> int:
    if text.isdecimal():  # minutes for Slurm, seconds elsewhere here
        raise UsageError(f"--slurm {key} needs a unit or a clock, such as 90m or 2:00:00.")
    clock = f"0{text}" if text[1:2] == ":" else text
    return math.ceil(parse_duration(f"--slurm {key}", clock, least=60.0) / 60)


def _words(_: str, text: str) -> str:
    return text


# Key -> what submitit calls it, and how it is read.
_KEYS: Mapping[str, tuple[str, Callable[[str, str], Any]]] = {
    "partition": ("partition", _words),
    "time": ("time", _minutes),
    "gpus": ("gpus_per_node", _whole),
    "cpus": ("cpus_per_task", _whole),
    "mem": ("mem", _words),
    "account": ("account", _words),
    "qos": ("qos", _words),
    "constraint": ("constraint", _words),
    "nodelist": ("nodelist", _words),
    "exclude": ("exclude", _words),
    "gres": ("gres", _words),
    "parallel": ("array_parallelism", _whole),
    "reservation": ("reservation", _words),
}
_BEYOND_SUBMITIT = ("reservation",)


def slurm_parameters(text: str) -> dict[str, Any]:
    """Read `partition=gpu,gpus=1,time=2:00:00`.

    Args:
        text: as given; a part without `=` belongs to the value before it.

    Returns:
        Parameters of submitit's executor: of every job, one process each, requeued when it is
        preempted or its time is up.

    Raises:
        UsageError: for a key that is not known, or a value that cannot be.
    """
    pairs: list[list[str]] = []
    for part in text.split(","):
        key, sign, value = part.partition("=")
        if sign:
            pairs.append([key.strip(), value.strip()])
        elif pairs and part.strip():
            pairs[-1][1] += f",{part.strip()}"
        else:
            raise UsageError(
                f"--slurm needs key=value pairs such as partition=gpu,gpus=1,time=2:00:00; got "
                f"{text!r}."
            )
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, n=1)
            raise UsageError(
                f"--slurm knows {', '.join(_KEYS)}; got {key!r}."
                + (f" Did you mean {near[0]}?" if near else "")
            )
        if not value:
            raise UsageError(f"--slurm {key} needs a value, such as {key}=...")
        name, read = _KEYS[key]
        found[name] = read(key, value)
    if "time" not in found:
        raise UsageError("--slurm needs a time, such as time=2:00:00: a run saves before its end.")
    beyond = {name: found.pop(name) for name in _BEYOND_SUBMITIT if name in found}
    cpus = found.setdefault("cpus_per_task", 1)
    return {
        **found,
        "job_name": "curvtool",
        "signal_delay_s": round(min(_WARNING, _WARNING_SHARE * 60 * found["time"])),
        # srun no longer takes the number from sbatch since Slurm 22.05.
        "srun_args": [f"--cpus-per-task={cpus}"],
        "stderr_to_stdout": True,
        "additional_parameters": {"requeue": True, **beyond},
    }
