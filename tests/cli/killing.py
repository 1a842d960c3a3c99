"""A process that forks runs, kills them and continues them: `python -m tests.cli.killing COUNT`.

Forked, since importing torch would take most of the time of every run; they are processes of their
own all the same, and get real signals.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import h5py
import numpy as np

# Loaded before the forks.
import torch._dynamo  # noqa: F401

import curvtool.pipeline  # noqa: F401
from curvtool.__main__ import main as run_process
from curvtool.cli.guard import catch_signals
from curvtool.errors import ExitCode
from tests.cli.calls import MLP

PROBLEM = (str(MLP), "--max-examples", "60", "--batch-size", "16")
RUNS = {
    "spectrum": ("spectrum", *PROBLEM, "-k", "8", "--tol", "1e-6"),
    "trace": ("trace", *PROBLEM, "--rel-err", "0.03", "--per-layer"),
    "density": ("density", *PROBLEM, "--num-probes", "3", "-m", "24"),
    "diag": ("diag", *PROBLEM, "--max-hvps", "40", "--rel-err", "0.01"),
}
ENDED = {ExitCode.DONE, ExitCode.NOT_CONVERGED}
SAID = Path("said.txt")


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


def forked(arguments: tuple[str, ...]) -> int:
    """A run in a process of its own, whose words go to `SAID`."""
    child = os.fork()
    if child == 0:
        words = os.open(SAID, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(words, 1)
        os.dup2(words, 2)
        sys.argv = ["curvtool", *arguments, "-q"]
        try:
            run_process()
        except SystemExit as end:
            os._exit(int(end.code or 0))
        finally:
            os._exit(ExitCode.BUG)
    return child


def ended(child: int) -> int:
    """The exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(count: int) -> None:
    """Kill and continue; says how many were killed, and how many of these by SIGTERM."""
    catch_signals()  # before the forks, so that no child is ever without
    truths, seconds = {}, {}
    for name, words in RUNS.items():
        for _ in range(2):  # the first one in this process is slower
            began = time.monotonic()
            code = ended(forked((*words, "-o", f"{name}.h5", "--force")))
            assert code in ENDED, (name, code, SAID.read_text())
            seconds[name] = time.monotonic() - began
        truths[name] = content(Path(f"{name}.h5"))
    killed = terminated = 0
    for number in range(count):
        name = list(RUNS)[number % len(RUNS)]
        draw = random.Random(number)
        output = Path(f"{number}.h5")
        every = draw.choice(["0", "0.1"])
        for attempt in range(9):
            child = forked((*RUNS[name], "-o", str(output), "--save-every", every))
            if attempt < 3:
                time.sleep(draw.uniform(0.1, 1) * seconds[name])
                term = draw.random() < 0.5
                os.kill(child, signal.SIGTERM if term else signal.SIGKILL)
            code = ended(child)
            if code in ENDED:
                break
            allowed = (ExitCode.INTERRUPTED,) if term else (-signal.SIGKILL,)
            assert code in allowed, (name, number, code, SAID.read_text())
            killed += 1
            terminated += term
        found = content(output)
        assert found == truths[name], (name, number)
        left = sorted(path.name for path in Path().glob(f"{number}.h5*"))
        assert left == [output.name, f"{output.name}.status.json"], left
    sys.stdout.write(f"{killed} {terminated}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
