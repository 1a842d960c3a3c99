"""A process that forks runs, kills them and continues them: `python -m tests.cli.killing COUNT`.

Runs of one process and of two take turns. Prints how many were killed, and how many of these by
SIGTERM.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from curvtool.cli.guard import catch_signals
from curvtool.errors import ExitCode
from tests.cli.calls import MLP
from tests.cli.forking import content, ended, forked, words

PROBLEM = (str(MLP), "--max-examples", "60", "--batch-size", "16")
RUNS = {
    "spectrum": ("spectrum", *PROBLEM, "-k", "8", "--tol", "1e-6"),
    "trace": ("trace", *PROBLEM, "--rel-err", "0.03", "--per-layer"),
    "density": ("density", *PROBLEM, "--num-probes", "3", "-m", "24"),
    "diag": ("diag", *PROBLEM, "--max-hvps", "40", "--rel-err", "0.01"),
}
CASES = [(name, ranks) for ranks in (1, 2) for name in RUNS]
# A rank that is killed before it has met the other one is waited for so long.
PATIENCE = ("--rank-timeout", "10s")
ENDED = {ExitCode.DONE, ExitCode.NOT_CONVERGED}
KILLED = {ExitCode.INTERRUPTED, -signal.SIGKILL}


# Runs that go on at the same time: who has lost its other rank waits for seconds to be sure.
DRIVERS = 2


@dataclass(frozen=True)
class Truth:
    """What a case ends with, and how long it takes."""

    found: dict[str, tuple[str, tuple[int, ...], bytes]]
    seconds: float


def truth(name: str, ranks: int) -> Truth:
    """Run a case that nobody kills."""
    output = Path(f"{name}{ranks}.h5")
    for _ in range(2):  # the first one in this process is slower
        began = time.monotonic()
        codes = ended(forked((*RUNS[name], "-o", str(output), "--force"), ranks=ranks))
        assert set(codes) <= ENDED, (name, ranks, codes, words())
    return Truth(content(output), time.monotonic() - began)


def kill_and_continue(number: int, truths: Mapping[tuple[str, int], Truth]) -> tuple[int, int]:
    """Kill a run again and again until it gets through; how often, and how often by SIGTERM."""
    name, ranks = case = CASES[number % len(CASES)]
    draw = random.Random(number)
    output = Path(f"{number}.h5")
    every = draw.choice(["0", "0.1"])
    killed = terminated = 0
    for attempt in range(9):
        arguments = (*RUNS[name], "-o", str(output), "--save-every", every, *PATIENCE)
        children = forked(arguments, ranks=ranks)
        term = False
        if attempt < 3:
            time.sleep(draw.uniform(0.1, 1) * truths[case].seconds)
            term = draw.random() < 0.5
            # A scheduler ends all; what kills without warning often hits one.
            hit = children if term else [draw.choice(children)]
            for child in hit:
                os.kill(child, signal.SIGTERM if term else signal.SIGKILL)
        codes = ended(children)
        if set(codes) <= ENDED:
            break
        # The other rank may be through already.
        allowed = {ExitCode.INTERRUPTED} if term else KILLED
        assert set(codes) <= allowed | ENDED, (case, number, attempt, codes, words())
        killed += 1
        terminated += term
    assert content(output) == truths[case].found, (case, number)
    left = sorted(path.name for path in Path().glob(f"{number}.h5*"))
    assert left == [output.name, f"{output.name}.status.json"], left
    return killed, terminated


def drive(numbers: Sequence[int], truths: Mapping[tuple[str, int], Truth], folder: Path) -> int:
    """Process id of a process that kills those runs; it writes its counts into the folder."""
    folder.mkdir()
    driver = os.fork()
    if driver == 0:
        try:
            os.chdir(folder)
            counts = [kill_and_continue(number, truths) for number in numbers]
            Path("counts").write_text(
                " ".join(str(sum(column)) for column in zip(*counts, strict=True))
            )
            os._exit(0)
        except BaseException:  # noqa: BLE001  # it must not run on as its parent
            traceback.print_exc()
        finally:
            os._exit(1)
    return driver


def main(count: int) -> None:
    """Kill and continue."""
    catch_signals()  # before the forks, so that no child is ever without
    truths = {(name, ranks): truth(name, ranks) for name, ranks in CASES}
    folders = [Path(f"driver.{i}") for i in range(DRIVERS)]
    drivers = [drive(range(i, count, DRIVERS), truths, folder) for i, folder in enumerate(folders)]
    codes = ended(drivers, within=1500.0)
    assert not any(codes), codes
    counts = [map(int, (folder / "counts").read_text().split()) for folder in folders]
    killed, terminated = map(sum, zip(*counts, strict=True))
    sys.stdout.write(f"{killed} {terminated}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
