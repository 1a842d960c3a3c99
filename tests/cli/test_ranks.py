"""Several processes for one run: the same figures, and an end where one is lost."""

from __future__ import annotations

from pathlib import Path

from tests.cli.calls import module


def test_ranks_compute_the_same_and_end_together(tmp_path: Path) -> None:
    ended = module("tests.cli.sharing", cwd=tmp_path, timeout=900)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "alike\n"
