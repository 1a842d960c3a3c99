"""Hold several ranks against one process with as many threads: examples per second.

    python scripts/bench_ranks.py CHECKPOINT... [--ranks 2] [--rounds 5] [--products 60]

Both compute the same spectrum of the same checkpoint (its problem embedded, or a TOML file beside
it) with the same number of products, taking turns; each round is a pair of whole runs. Examples
per second are those of the solve, from the run file: products times examples over its seconds, so
that starting Python and planning do not count. Prints medians, the ratio's median with its spread,
and what the ranks moved and waited.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py


def run(
    checkpoint: Path, output: Path, ranks: int, threads: int, products: int
) -> dict[str, float]:
    """One run; figures of its file."""
    head = [sys.executable, "-m"]
    if ranks > 1:
        head += ["torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "-m"]
    words = ["curvtool", "spectrum", str(checkpoint), "--method", "lanczos", "-k", "10", "-q"]
    words += ["--tol", "1e-14", "--max-hvps", str(products), "-o", str(output), "--force"]
    words += ["--save-every", "off"]
    ended = subprocess.run(
        [*head, *words],
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
        check=False,
    )
    if not output.exists():
        raise SystemExit(ended.stderr)
    with h5py.File(output) as file:
        plan = json.loads(str(file.attrs["plan"]))
        problem = json.loads(str(file.attrs["problem"]))
        hvps = float(file.attrs["hvps"])
    seconds = plan["seconds_per_product"] * hvps
    output.unlink()
    return {
        "rate": hvps * problem["num_examples"] / seconds,
        "moved": plan["bytes_moved"],
        "waiting": plan["waiting"],
        "seconds": seconds,
    }


def main() -> None:
    """Run the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--products", type=int, default=60)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "run.h5"
        for checkpoint in asked.checkpoints:
            one, many, ratios = [], [], []
            for number in range(asked.rounds):
                turns = [(1, asked.ranks), (asked.ranks, 1)]
                found = {
                    ranks: run(checkpoint, output, ranks, threads, asked.products)
                    for ranks, threads in (turns if number % 2 else reversed(turns))
                }
                one.append(found[1]["rate"])
                many.append(found[asked.ranks]["rate"])
                ratios.append(many[-1] / one[-1])
                last = found[asked.ranks]
            low, high = min(ratios), max(ratios)
            print(
                f"{checkpoint.name:20} {statistics.median(one):10.1f} examples/s with 1 process, "
                f"{statistics.median(many):10.1f} with {asked.ranks}: "
                f"{statistics.median(ratios):.2f} ({low:.2f} to {high:.2f}); "
                f"{last['moved'] / 2**20:.2f} MiB through a rank per product, "
                f"{100 * last['waiting'] / last['seconds']:.0f} % exchange and waiting",
                flush=True,
            )


if __name__ == "__main__":
    main()
