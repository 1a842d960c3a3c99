"""Fuzz every reader: `python scripts/fuzz.py --cases 1000 --seed 1`, cases of each format.

The cases are those of tests/fuzz, with other seeds or more of them. Prints a table, then every
defect; ends with 1 where there is one. `--family data --format npz --first 17 --cases 1 --show`
says all of one case.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FAMILIES = ("checkpoints", "data", "problem files")


def tallies(family: str, options: list[str]) -> Iterator[dict[str, Any]]:
    """The formats of a family as their cases are done."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.fuzz.serving", "--family", family]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*command, *options],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "--show" in options:
                print(line, end="")
            else:
                yield json.loads(line)
    if process.returncode:
        raise SystemExit(f"the server of {family} ended with {process.returncode}")


def main() -> int:
    """Run, print and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", choices=FAMILIES)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments, rest = parser.parse_known_args()
    options = ["--cases", str(arguments.cases), "--seed", str(arguments.seed), *rest]
    print(f"{'format':20} {'cases':>7} {'0':>6} {'4':>6} {'5':>4} {'other':>6} {'seconds':>8}")
    defects, cases = [], 0
    for family in [arguments.family] if arguments.family else FAMILIES:
        for tally in tallies(family, options):
            ends = dict(tally["ends"])
            known = [ends.pop(code, 0) for code in ("0", "4", "5")]
            print(
                f"{tally['format']:20} {tally['cases']:7,} {known[0]:6,} {known[1]:6,} "
                f"{known[2]:4,} {sum(ends.values()):6,} {tally['seconds']:8.1f}",
                flush=True,
            )
            defects += tally["defects"]
            cases += tally["cases"]
    print(f"{cases:,} cases, {len(defects)} defects")
    print("\n".join(defects))
    return bool(defects)


if __name__ == "__main__":
    sys.exit(main())
