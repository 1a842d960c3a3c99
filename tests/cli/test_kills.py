"""Real processes and real signals, at random moments; `scripts/soak.py` does it by the hundred."""

from __future__ import annotations

from pathlib import Path

from tests.cli.calls import module

COUNT = 20


def test_twenty_runs_that_are_killed_end_with_the_same_bits(tmp_path: Path) -> None:
    ended = module("tests.cli.killing", str(COUNT), cwd=tmp_path, timeout=900)
    assert ended.returncode == 0, ended.stderr
    killed, terminated = map(int, ended.stdout.split())
    assert killed >= COUNT
    assert 0 < terminated < killed
