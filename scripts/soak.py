"""Kill runs at random moments, continue each, and hold the result against an uninterrupted one.

    python scripts/soak.py 60 [--seed 0] [--only trace]

Every trial starts real processes, those of cases named `...@2` two at a time that share the run;
of these SIGTERM hits both, SIGKILL one. Each is ended by one of these, one in five at a moment
drawn from its whole length, the others at one drawn from the length of the solve, until one gets
through. The datasets of its run file have to be those of the uninterrupted run, bit for bit. Prints
a line a trial and figures at the end; exits with 1 where a trial failed.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

CHECKPOINTS = Path(__file__).parent.parent / "checkpoints"
MLP, CNN = str(CHECKPOINTS / "digits_mlp.pt"), str(CHECKPOINTS / "digits_cnn.pt")
SMALL = ("--max-examples", "96", "--batch-size", "16")
CASES: dict[str, tuple[str, ...]] = {
    "spectrum": ("spectrum", MLP, *SMALL, "-k", "30", "--tol", "1e-6", "--vectors"),
    "spectrum-mixed": ("spectrum", CNN, *SMALL, "-k", "10", "--hvp", "reverse-over-reverse"),
    "power": ("spectrum", MLP, *SMALL, "-k", "2", "--method", "power", "--max-hvps", "400"),
    "eigsh": ("spectrum", MLP, *SMALL, "-k", "20", "--method", "eigsh"),
    "dense": ("spectrum", MLP, *SMALL, "--method", "dense", "--params", "*.bias"),
    "layers": ("spectrum", MLP, *SMALL, "-k", "2", "--per-layer"),
    "trace": ("trace", MLP, *SMALL, "--rel-err", "0.008", "--per-layer", "--frobenius"),
    "trace-shared": ("trace", MLP, *SMALL, "--rel-err", "0.01", "--sharing", "shared"),
    "hutch++": ("trace", MLP, *SMALL, "--rel-err", "0.02", "--method", "hutch++"),
    "density": ("density", MLP, *SMALL, "--num-probes", "6", "-m", "60"),
    "density-layers": ("density", MLP, *SMALL, "--num-probes", "4", "-m", "24", "--per-layer"),
    "diag": ("diag", MLP, *SMALL, "--rel-err", "0.05", "--max-hvps", "250"),
    "diag-shared": (
        "diag",
        MLP,
        *SMALL,
        "--rel-err",
        "0.1",
        "--sharing",
        "shared",
        "--max-hvps",
        "250",
    ),
}
# The same shared out over two ranks.
CASES |= {f"{name}@2": CASES[name] for name in ("spectrum", "trace", "density", "diag", "layers")}
EVERY = ("0", "0.05", "60")
# Datasets that hold times, which no two runs share.
TIMES = {"seconds"}
LONGEST = 300.0
# What is said when products begin to be on record.
SOLVING = ("solving", "estimating", "the density of")


@dataclass
class Figures:
    """What all trials came to."""

    trials: int = 0
    wrong: list[str] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    codes: Counter[int] = field(default_factory=Counter)
    continued: int = 0


@dataclass(frozen=True)
class Truth:
    """An uninterrupted run.

    Attributes:
        datasets: its result.
        seconds: of the whole process.
        solve: of these, after loading and planning.
    """

    datasets: dict[str, bytes]
    seconds: float
    solve: float


def command(case: str, output: Path, *more: str) -> list[str]:
    """The command line of one run."""
    return [sys.executable, "-m", "curvtool", *CASES[case], "-o", str(output), "--json", *more]


@dataclass(frozen=True)
class Job:
    """The processes of one run."""

    ranks: list[subprocess.Popen[bytes]]

    def poll(self) -> int | None:
        """Exit code of rank 0; None while it lives."""
        return self.ranks[0].poll()

    def wait(self, seconds: float) -> set[int]:
        """Exit codes of all, negative for a signal."""
        until = time.monotonic() + seconds
        return {each.wait(max(0.0, until - time.monotonic())) for each in self.ranks}

    def hit(self, number: signal.Signals, draw: random.Random) -> None:
        """Send a signal to all, or SIGKILL to one."""
        for each in [draw.choice(self.ranks)] if number == signal.SIGKILL else self.ranks:
            each.send_signal(number)


def started(case: str, words: list[str], folder: Path) -> Job:
    """Processes of their own with one thread; their words go to files."""
    ranks = int(case.partition("@")[2] or 1)
    shared: dict[str, str] = {}
    if ranks > 1:
        words = [*words, "--rank-timeout", "20s"]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        shared = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    found = []
    for rank in range(ranks):
        place = shared and {**shared, "RANK": str(rank)}
        with (folder / (f"stderr.{rank}.txt" if rank else "stderr.txt")).open("wb") as said:
            found.append(
                subprocess.Popen(
                    words,
                    env={**os.environ, "OMP_NUM_THREADS": "1", **place},
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                )
            )
    return Job(found)


def content(path: Path) -> dict[str, bytes]:
    """Every dataset of a run file but times, as bytes with shape and type."""
    found: dict[str, bytes] = {}

    def take(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and name.rpartition("/")[2] not in TIMES:
            value = np.asarray(item[...])
            text = repr(value.tolist()) if value.dtype == object else value.tobytes().hex()
            found[name] = f"{value.dtype} {value.shape} {text}".encode()

    with h5py.File(path, "r", locking=False) as file:
        file.visititems(take)
        for name in ("hvps", "outcome", "kind"):
            found[f"@{name}"] = str(file.attrs[name]).encode()
    return found


def solving(process: Job, folder: Path) -> None:
    """Wait until the solve begins, or the process ends."""
    said = folder / "stderr.txt"
    while process.poll() is None:
        if any(word in said.read_text(errors="replace") for word in SOLVING):
            return
        time.sleep(0.005)


def trial(case: str, folder: Path, truth: Truth, figures: Figures) -> str:
    """Interrupt a run until it gets through; what is wrong, empty where nothing is."""
    draw = random.Random(f"{case} {figures.trials}")
    output = folder / f"{case}.h5"
    every = draw.choice(EVERY)
    for attempt in range(12):
        process = started(case, command(case, output, "--save-every", every), folder)
        number = draw.choice((signal.SIGKILL, signal.SIGTERM))
        wait = draw.uniform(0, 1.05) * truth.seconds
        if draw.random() < 0.8:
            wait = draw.uniform(0, 1.05) * truth.solve
            solving(process, folder)
        try:
            # The last attempts are left alone, so that a trial ends.
            codes = process.wait(wait if attempt < 4 else LONGEST)
        except subprocess.TimeoutExpired:
            process.hit(number, draw)
            codes = process.wait(LONGEST)
            figures.kills[number.name] += 1
        figures.codes.update(codes)
        files = sorted(folder.glob("stderr*"))
        said = "".join(path.read_text(errors="replace") for path in files)
        figures.continued += "continuing: " in said
        if "Traceback" in said:
            return f"{case}: {said}"
        if codes <= {0, 3}:
            break
        # Python has no handlers yet in its first moments, and none any more in its last ones.
        last = any(words in said for words in ("written to", "already in"))
        unhandled = -signal.SIGTERM in codes and (not said or last)
        if not codes <= {75, -signal.SIGKILL, 0, 3} and not unhandled:
            return f"{case}: exit codes {codes}: {said}"
    left = sorted(path.name for path in folder.iterdir() if not path.name.startswith("stderr"))
    if left != sorted([output.name, f"{output.name}.status.json"]):
        return f"{case}: left behind {left}"
    found = content(output)
    expected = truth.datasets
    differing = [name for name in expected if found.get(name) != expected[name]]
    return f"{case}: differs in {differing}" if differing or found.keys() != expected.keys() else ""


def uninterrupted(case: str, folder: Path) -> Truth:
    """What the run gives when nothing happens, and how long it takes."""
    output = folder / f"{case}.truth.h5"
    began = time.monotonic()
    process = started(case, command(case, output), folder)
    solving(process, folder)
    prepared = time.monotonic()
    codes = process.wait(LONGEST)
    ended = time.monotonic()
    if not codes <= {0, 3}:
        raise SystemExit(f"{case}: {(folder / 'stderr.txt').read_text()}")
    return Truth(content(output), ended - began, ended - prepared)


def main() -> None:
    """Run the trials."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=sorted(CASES))
    arguments = parser.parse_args()
    names = [arguments.only] if arguments.only else list(CASES)
    figures = Figures(trials=arguments.seed)
    truths: dict[str, Truth] = {}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        for number in range(arguments.count):
            case = names[number % len(names)]
            folder = Path(name) / "trial"
            folder.mkdir()
            if case not in truths:
                truths[case] = uninterrupted(case, Path(name))
            wrong = trial(case, folder, truths[case], figures)
            shutil.rmtree(folder)
            figures.trials += 1
            if wrong:
                figures.wrong.append(wrong)
            line = f"{number + 1:4} {case:16} {'WRONG: ' + wrong if wrong else 'same bits'}"
            print(line, flush=True)
    codes = ", ".join(f"{code}: {n}" for code, n in sorted(figures.codes.items()))
    kills = ", ".join(f"{n} {name}" for name, n in sorted(figures.kills.items()))
    print(
        f"{arguments.count} runs in {time.monotonic() - began:.0f} s: {len(figures.wrong)} wrong; "
        f"{kills}; {figures.continued} processes continued a state; exit codes {codes}"
    )
    raise SystemExit(bool(figures.wrong))


if __name__ == "__main__":
    main()
