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


def main(count: int) -> None:
    """Kill and continue."""
    catch_signals()  # before the forks, so that no child is ever without
    truths, seconds = {}, {}
    for name, ranks in CASES:
        case = f"{name}{ranks}"
        for _ in range(2):  # the first one in this process is slower
            began = time.monotonic()
            codes = ended(forked((*RUNS[name], "-o", f"{case}.h5", "--force"), ranks=ranks))
            assert set(codes) <= ENDED, (case, codes, words())
            seconds[case] = time.monotonic() - began
        truths[case] = content(Path(f"{case}.h5"))
    killed = terminated = 0
    for number in range(count):
        name, ranks = CASES[number % len(CASES)]
        case = f"{name}{ranks}"
        draw = random.Random(number)
        output = Path(f"{number}.h5")
        every = draw.choice(["0", "0.1"])
        for attempt in range(9):
            arguments = (*RUNS[name], "-o", str(output), "--save-every", every, *PATIENCE)
            children = forked(arguments, ranks=ranks)
            term = False
            if attempt < 3:
                time.sleep(draw.uniform(0.1, 1) * seconds[case])
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
        found = content(output)
        assert found == truths[case], (case, number)
        left = sorted(path.name for path in Path().glob(f"{number}.h5*"))
        assert left == [output.name, f"{output.name}.status.json"], left
    sys.stdout.write(f"{killed} {terminated}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
