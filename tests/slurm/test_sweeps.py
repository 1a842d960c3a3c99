"""`curvtool track --slurm`: an array of four, and a job that sums up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from curvtool.storage.track import read_track
from tests.cli.forking import content
from tests.slurm.jobs import (
    curvtool,
    ended,
    slurm,
    status,
    wait_until,
    waiting,
    why_not,
    write_slow,
)

pytestmark = [pytest.mark.slurm, pytest.mark.skipif(bool(why_not()), reason=why_not())]

STEPS = tuple(f"step_{i}.pt" for i in range(4))
FILES = [f"step_{i}.spectrum.h5" for i in range(4)]
SOLVE = ("-k", "3", "--tol", "1e-6", "--basis", "24", "--device", "cpu")


def logs(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(folder.rglob("*_log.out")))


def test_an_array_of_four_finishes_and_is_summed_up(tmp_path: Path) -> None:
    problem = write_slow(tmp_path, seconds=0.0, steps=4)
    words = ("track", *STEPS, *SOLVE, *problem)
    curvtool(tmp_path, *words, "-o", "truth", "--cold")
    options = "partition=main,gpus=1,time=5m"
    said = json.loads(curvtool(tmp_path, *words, "-o", "run", "--slurm", options, "--json"))
    assert said["checkpoints"] == [f"step_{i}" for i in range(4)]
    wait_until(lambda: ended(said["summary_job"]), "the last job ends")
    assert status(tmp_path / "run" / "summary.h5")["state"] == "done", logs(tmp_path)
    for name in [*FILES, "summary.h5"]:
        assert content(tmp_path / "run" / name) == content(tmp_path / "truth" / name)
    # The job that sums up found all of them.
    assert logs(tmp_path).count("solving by lanczos") == 4
    assert "\x1b" not in logs(tmp_path)
    standing = json.loads(curvtool(tmp_path, "status", "run", "--json"))
    assert standing["counts"]["done"] == 5


def test_a_task_is_requeued_and_one_that_fails_is_told(tmp_path: Path) -> None:
    problem = write_slow(tmp_path, seconds=0.5, steps=4)
    (tmp_path / "step_3.pt").write_bytes(b"no checkpoint")
    words = ("track", *STEPS, *SOLVE, *problem)
    options = "partition=main,time=5m"
    said = json.loads(curvtool(tmp_path, *words, "-o", "run", "--slurm", options, "--json"))
    first, last = f"{said['array_job']}_0", said["summary_job"]
    output = tmp_path / "run" / FILES[0]
    wait_until(lambda: status(output).get("hvps", 0) >= 2, "some products are made")
    # As Slurm warns of the end of its time.
    slurm("scancel", "--signal=USR2", first)
    wait_until(lambda: waiting(first), "the task is back in the queue")
    wait_until(lambda: ended(last), "the last job ends")
    summary = read_track(tmp_path / "run" / "summary.h5")
    outcomes = [row.outcome.value for row in summary.rows]
    assert outcomes == ["converged", "converged", "converged", "failed"], logs(tmp_path)
    assert "step_3.pt" in summary.rows[3].message
    assert status(tmp_path / "run" / "summary.h5")["state"] == "failed"
    assert "continuing: evaluating the loss" in logs(tmp_path)
