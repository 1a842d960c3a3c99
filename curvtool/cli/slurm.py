"""A sweep as jobs of Slurm: an array with a task for each checkpoint, and a job that sums up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, final

import typer

from curvtool.cli.console import printing, result_console, say
from curvtool.cli.guard import catch_signals, guarded, received
from curvtool.cli.sweep import Sweep
from curvtool.errors import ExitCode, InputError
from curvtool.problem.libraries import library
from curvtool.storage.state import state_folder

LOGS = "slurm"


@final
@dataclass(frozen=True)
class Task:
    """What the jobs of a sweep do; pickled by submitit, called on a node.

    Attributes:
        sweep: that they belong to. Its solves start cold: whether the checkpoint before is done by
            then would be chance.
    """

    sweep: Sweep

    def __call__(self, index: int | None) -> None:
        """Analyse one checkpoint, or sum up; ask to be started again where the time was up.

        Args:
            index: of the checkpoint; None for the job that sums up, and computes what is missing.
        """
        # In place of submitit's handlers, which would requeue before anything is saved.
        catch_signals()
        # submitit's srun gives a pseudo-terminal to what goes into a file.
        os.environ["TERM"] = "dumb"
        code = _exit_code(partial(self._run, index))
        # After SIGTERM Slurm itself decides: a preempted job is started again, a cancelled one not.
        if code == ExitCode.INTERRUPTED and received() != "SIGTERM":
            self._again(index)
        if code != ExitCode.DONE:
            sys.exit(code)

    def checkpoint(self, index: int | None) -> Any:
        """What submitit starts again where its signal comes before the call."""
        return library("submitit", "slurm", "--slurm").helpers.DelayedSubmission(self, index)

    def _again(self, index: int | None) -> None:
        """Requeue the job, unless it would come no further the next time."""
        sweep = self.sweep
        if index is not None and not state_folder(sweep.file(sweep.names[index])).exists():
            say(
                "The time of the job was over before anything could be saved, so that it is not "
                "started again. Ask for more with --slurm time=..."
            )
            return
        subprocess.run(["scontrol", "requeue", _job_id(os.environ)], check=True)

    def _run(self, index: int | None) -> ExitCode:
        from curvtool.cli.tracking import run_one, run_sweep

        return run_sweep(self.sweep) if index is None else run_one(self.sweep, index)


def submit(sweep: Sweep, parameters: Mapping[str, Any]) -> ExitCode:
    """Submit what is not there yet, and the job that sums up.

    Args:
        sweep: what is asked.
        parameters: of submitit's executor.

    Returns:
        DONE: the jobs are in the queue.

    Raises:
        InputError: where submitit is not installed, or Slurm does not take the jobs.
    """
    from curvtool.cli.tracking import require_summary

    submitit = library("submitit", "slurm", "--slurm")
    require_summary(sweep)
    cold = replace(sweep, cold=True, common=replace(sweep.common, quiet=False, as_json=False))
    names = sweep.names
    left = [i for i, name in enumerate(names) if sweep.force or not sweep.file(name).exists()]
    array = ""
    try:
        executor = submitit.SlurmExecutor(folder=sweep.folder / LOGS)
        executor.update_parameters(**parameters)
        if left:
            jobs = executor.map_array(Task(cold), left)
            array = jobs[0].job_id.partition("_")[0]
            # Whatever became of the tasks: the last job computes what is missing, or says why not.
            executor.update_parameters(dependency=f"afterany:{array}")
        last = executor.submit(Task(cold), None).job_id
    except (RuntimeError, OSError, subprocess.SubprocessError, ValueError) as error:
        raise InputError(
            f"--slurm expected sbatch to take the jobs; it did not: {_reason(error)}. Check the "
            "partition and the limits with 'sinfo', or submit a file of scripts/slurm yourself."
        ) from error
    _tell(sweep, [names[i] for i in left], array, last)
    return ExitCode.DONE


def _tell(sweep: Sweep, names: Sequence[str], array: str, last: str) -> None:
    if sweep.common.as_json:
        record = {
            "kind": "submission",
            "array_job": array or None,
            "checkpoints": list(names),
            "summary_job": last,
            "folder": str(sweep.folder),
        }
        with printing():
            result_console().out(json.dumps(record, indent=2), highlight=False)
        return
    if array:
        tasks = f"{len(names)} task{'' if len(names) == 1 else 's'}"
        say(f"submitted job {array}: {tasks}, one for each checkpoint that is not done")
    after = "when these have ended" if array else "what is there"
    say(f"submitted job {last}: sums up {after}, in {sweep.summary}")
    say(f"how they stand: curvtool status {sweep.folder}; logs: {sweep.folder / LOGS}")


def _exit_code(run: Callable[[], ExitCode]) -> int:
    try:
        with guarded():
            return int(run())
    except typer.Exit as ended:
        return int(ended.exit_code)


def _job_id(environment: Mapping[str, str]) -> str:
    """As Slurm's commands take it."""
    array, task = (environment.get(f"SLURM_ARRAY_{part}_ID") for part in ("JOB", "TASK"))
    return f"{array}_{task}" if array else environment["SLURM_JOB_ID"]


def _reason(error: Exception) -> str:
    """The last line of what sbatch or submitit says."""
    lines = str(error).strip().splitlines()
    return lines[-1].removeprefix("sbatch: ").removeprefix("error: ") if lines else repr(error)
