"""Thousands of spoilt files: each ends in an exit code and a sentence, and none does harm.

`scripts/fuzz.py` runs more of the same.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.harm import HARM

ROOT = Path(__file__).parents[2]
# Of each format. The checkpoints have 11, data 15 and problem files 2.
CASES = {"checkpoints": 80, "data": 60, "problem files": 120}


def tallies(family: str, cases: int, *options: str) -> list[dict[str, Any]]:
    """What a server of its own found; see `serving`."""
    done = subprocess.run(
        [
            *(sys.executable, "-W", "ignore", "-m", "tests.fuzz.serving"),
            *("--family", family, "--cases", str(cases), *options),
        ],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("family", CASES)
def test_spoilt_files_end_in_a_sentence(family: str) -> None:
    found = tallies(family, CASES[family])
    defects = [defect for tally in found for defect in tally["defects"]]
    assert not defects, "\n".join(defects)
    for tally in found:
        # One more: the files as they are, which must be taken.
        assert tally["cases"] == CASES[family] + 1
        # Most damage is seen; some leaves the file valid.
        assert tally["ends"].get("4", 0) > CASES[family] / 4, tally


def test_the_watch_sees_what_it_is_there_for() -> None:
    found = {tally["format"]: tally["defects"] for tally in tallies("harm", 1)}
    unseen = [
        name for name, (_, said) in HARM.items() if not any(said in line for line in found[name])
    ]
    assert not unseen, found
