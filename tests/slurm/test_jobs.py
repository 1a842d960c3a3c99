"""Real jobs, requeued by hand and by their time limit, on the Slurm of `scripts/slurm/here.sh`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curvtool.storage.spectrum import read_spectrum
from tests.cli.forking import content
from tests.slurm.jobs import (
    SCRIPTS,
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

# Against a limit of one minute; of all that was asked in the sbatch file this stays.
SMALL = ("--cpus-per-task=1", "--time=1")
SOLVE = ("-k", "4", "--method", "lanczos", "--tol", "1e-11")


def submitted(folder: Path, output: str, *words: str, options: tuple[str, ...] = ()) -> str:
    """The id of a job of the file for one GPU."""
    return slurm(
        *("sbatch", "--parsable", *SMALL, *options, str(SCRIPTS / "one_gpu.sbatch")),
        *(output, *words),
        cwd=folder,
    )


def test_a_job_that_is_requeued_ends_with_the_bits_of_one_that_was_not(tmp_path: Path) -> None:
    problem = write_slow(tmp_path, seconds=0.3)
    words = ("spectrum", "step_0.pt", *SOLVE, *problem)
    curvtool(tmp_path, *words, "-o", "truth.h5", "-q")
    output = tmp_path / "run.h5"
    job = submitted(tmp_path, output.name, *words, options=("--time=10",))
    wait_until(lambda: status(output).get("hvps", 0) >= 8, "some products are made")
    slurm("scontrol", "requeue", job)
    wait_until(lambda: waiting(job), "the job is back in the queue")
    assert status(output)["state"] == "interrupted"
    assert not output.exists()
    wait_until(lambda: ended(job), "the job ends")
    log = next(tmp_path.glob("*.log")).read_text()
    assert status(output)["state"] == "done", log
    assert "continuing: evaluating the loss" in log
    assert content(output) == content(tmp_path / "truth.h5")


def test_a_job_whose_time_is_up_is_requeued_and_ends_with_the_same_bits(tmp_path: Path) -> None:
    problem = write_slow(tmp_path, seconds=1.0)
    words = ("spectrum", "step_0.pt", *SOLVE, *problem)
    quick = tmp_path / "quick"
    quick.mkdir()
    curvtool(quick, *words[:1], "step_0.pt", *SOLVE, *write_slow(quick, seconds=0.0), "-q")
    output = tmp_path / "run.h5"
    job = submitted(tmp_path, output.name, *words, options=("--signal=USR2@35",))
    messages = []

    def over() -> bool:
        if waiting(job):
            messages.append(status(output)["message"])
        return ended(job)

    wait_until(over, "the job ends")
    log = next(tmp_path.glob("*.log")).read_text()
    assert status(output)["state"] == "done", log
    assert messages, log
    warned = ("Interrupted by SIGUSR2.", "Interrupted by the end")
    assert all(message.startswith(warned) for message in messages)
    assert content(output) == content(quick / "step_0.spectrum.h5")


def test_a_job_that_is_cancelled_stays_ended(tmp_path: Path) -> None:
    problem = write_slow(tmp_path, seconds=0.3)
    output = tmp_path / "run.h5"
    words = ("spectrum", "step_0.pt", *SOLVE, *problem)
    job = submitted(tmp_path, output.name, *words, options=("--time=10",))
    wait_until(lambda: status(output).get("hvps", 0) >= 3, "some products are made")
    slurm("scancel", job)
    wait_until(lambda: ended(job) or "CANCELLED" in state(job), "the job is cancelled")
    assert not waiting(job)
    assert status(output)["state"] == "interrupted"
    assert status(output)["message"].startswith("Interrupted by SIGTERM.")
    assert slurm("squeue", "--noheader", "--format=%T", "--jobs", job, check=False) != "PENDING"


def state(job: str) -> str:
    return slurm("squeue", "--noheader", "--format=%T", "--states=all", "--jobs", job, check=False)


def test_a_run_that_fails_is_not_started_again(tmp_path: Path) -> None:
    problem = write_slow(tmp_path, seconds=0.0)
    words = ("spectrum", "absent.pt", *SOLVE, *problem)
    job = submitted(tmp_path, "run.h5", *words, options=("--time=10",))
    wait_until(lambda: ended(job), "the job ends")
    log = next(tmp_path.glob("*.log")).read_text()
    assert "absent.pt" in log
    assert "requeue" not in log.lower()


def test_two_processes_of_a_node_leave_and_go_on_together(tmp_path: Path) -> None:
    problem = write_slow(tmp_path, seconds=0.3)
    words = ("spectrum", "step_0.pt", *SOLVE, *problem, "--device", "cpu")
    curvtool(tmp_path, *words, "-o", "truth.h5", "-q")
    output = tmp_path / "run.h5"
    job = slurm(
        *("sbatch", "--parsable", "--ntasks-per-node=2", "--gpus-per-node=2", "--cpus-per-task=1"),
        *("--time=10", str(SCRIPTS / "one_node.sbatch"), output.name, *words),
        cwd=tmp_path,
    )
    wait_until(lambda: status(output).get("hvps", 0) >= 5, "some products are made")
    # As Slurm warns of the end of its time.
    slurm("scancel", "--signal=USR2", job)
    wait_until(lambda: waiting(job), "the job is back in the queue")
    assert status(output)["message"].startswith("Interrupted by SIGUSR2.")
    wait_until(lambda: ended(job), "the job ends")
    log = next(tmp_path.glob("*.log")).read_text()
    assert status(output)["state"] == "done", log
    assert "continuing: evaluating the loss" in log
    found, truth = (
        read_spectrum(path).pairs.eigenvalues for path in (output, tmp_path / "truth.h5")
    )
    # Two halves are added up in another order than one batch.
    np.testing.assert_allclose(found, truth, rtol=1e-10)


@pytest.mark.parametrize("name", ["one_gpu", "one_node", "many_nodes"])
def test_slurm_takes_every_file_as_it_is(name: str, tmp_path: Path) -> None:
    one = ["--nodes=1"] if name == "many_nodes" else []
    slurm("sbatch", "--test-only", *one, str(SCRIPTS / f"{name}.sbatch"), "a.h5", cwd=tmp_path)
