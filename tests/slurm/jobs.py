"""Jobs on the Slurm that `scripts/slurm/here.sh` starts, and a problem that takes its time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.cli.calls import environment
from tests.cli.problems import write_data

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts" / "slurm"
CONF = Path(os.environ.get("CURVTOOL_SLURM", "/var/spool/curvtool-slurm")) / "slurm.conf"
PATIENCE = 150.0

# Sleeps where a whole batch goes through, or half of it, so that a solve takes time and no cores.
MODEL = """
import time

import torch
from torch import nn


class Slow(nn.Sequential):
    def forward(self, x):
        if len(x) >= 20:
            time.sleep({seconds})
        return super().forward(x)


def build():
    torch.manual_seed(0)
    return Slow(nn.Linear(3, 24), nn.Tanh(), nn.Linear(24, 2))
"""


def why_not() -> str:
    """Why no jobs can be run here; empty where they can."""
    if os.geteuid() != 0:
        return "a Slurm of its own needs root"
    if shutil.which("sbatch") is None:
        return "Slurm is not installed: no sbatch"
    if not CONF.exists() or not slurm("sinfo", "--noheader", check=False):
        return "no Slurm is up: scripts/slurm/here.sh start"
    return ""


def job_environment() -> dict[str, str]:
    """What jobs inherit: this environment's python, this copy of curvtool."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return environment({"SLURM_CONF": str(CONF), "PATH": path, "PYTHONPATH": str(ROOT)})


def slurm(*words: str, cwd: Path | None = None, check: bool = True) -> str:
    """Output of a command of Slurm."""
    ended = subprocess.run(
        words, cwd=cwd, env=job_environment(), capture_output=True, text=True, check=False
    )
    assert not check or ended.returncode == 0, (words, ended.stderr)
    return ended.stdout.strip() if ended.returncode == 0 else ""


def curvtool(folder: Path, *words: str) -> str:
    """Output of the command in a process of its own, without Slurm."""
    done = subprocess.run(
        ["python", "-m", "curvtool", *words],
        cwd=folder,
        env=job_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def write_slow(folder: Path, *, seconds: float, steps: int = 1) -> tuple[str, ...]:
    """Write a problem and checkpoints step_0.pt, ...; returns the options that name it."""
    import torch
    from torch import nn

    (folder / "slow.py").write_text(MODEL.format(seconds=seconds))
    write_data(folder / "data.npz")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 24), nn.Tanh(), nn.Linear(24, 2))
    for step in range(steps):
        torch.save(net.state_dict(), folder / f"step_{step}.pt")
        with torch.no_grad():
            for weights in net.parameters():
                weights.add_(0.05 * torch.randn(weights.shape))
    return (
        *("--model", "slow.py:build", "--data", "npz:data.npz", "--loss", "cross_entropy"),
        *("--dtype", "float64", "--save-every", "0", "--hvp", "reverse-over-reverse"),
    )


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Look again and again."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.5)


def status(output: Path) -> dict[str, Any]:
    """The status file; empty before it is there."""
    try:
        found: dict[str, Any] = json.loads(Path(f"{output}.status.json").read_text())
    except FileNotFoundError:
        return {}
    return found


def waiting(job: str) -> bool:
    """Whether a job is in the queue, after a requeue for instance; then it may begin at once."""
    if slurm("squeue", "--noheader", "--format=%T %r", "--jobs", job, check=False) != (
        "PENDING BeginTime"
    ):
        return False
    # Slurm lets a requeued job wait for two minutes.
    slurm("scontrol", "update", f"JobId={job}", "StartTime=now")
    return True


def ended(job: str) -> bool:
    """Whether a job has left the queue."""
    return slurm("squeue", "--noheader", "--format=%T", "--jobs", job, check=False) in {
        "",
        "COMPLETED",
        "FAILED",
    }
