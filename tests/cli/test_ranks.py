"""Several processes for one run: the same figures, and an end where one is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.cli.calls import environment


def test_ranks_compute_the_same_and_end_together(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[2])
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.cli.sharing"],
        cwd=tmp_path,
        env=environment({"PYTHONPATH": root}),
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "alike\n"
