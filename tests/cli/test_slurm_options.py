"""`--slurm`: what is read, and what is said where there is no Slurm."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from curvtool.cli import slurm
from curvtool.cli.slurm import Task
from curvtool.cli.slurm_options import slurm_parameters
from curvtool.cli.sweep import Sweep
from curvtool.errors import ExitCode, UsageError
from tests.cli.calls import MLP, call, left

ASKED = ("track", str(MLP), "-o", "run", "--slurm")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("time=2:00:00", {"time": 120}),
        ("time=90m, partition=gpu", {"time": 90, "partition": "gpu"}),
        ("time=61s", {"time": 2}),
        ("time=1-00:00:00,gpus=2", {"time": 1440, "gpus_per_node": 2}),
        ("time=1h,cpus=4", {"cpus_per_task": 4, "srun_args": ["--cpus-per-task=4"]}),
        ("time=1h,nodelist=a,b,mem=8G", {"nodelist": "a,b", "mem": "8G"}),
        ("time=1h,parallel=3", {"array_parallelism": 3}),
        (
            "time=1h,reservation=x",
            {"additional_parameters": {"requeue": True, "reservation": "x"}},
        ),
        # Two minutes before the end; of a short job, a quarter of its time.
        ("time=1h", {"signal_delay_s": 120}),
        ("time=2m", {"signal_delay_s": 30}),
    ],
)
def test_what_is_asked_is_read(text: str, found: dict[str, object]) -> None:
    read = slurm_parameters(text)
    assert {name: read[name] for name in found} == found
    assert read["additional_parameters"]["requeue"] is True


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "needs key=value pairs"),
        ("gpu", "needs key=value pairs"),
        ("partitoin=gpu,time=1h", "got 'partitoin'. Did you mean partition?"),
        ("zzz=1", "--slurm knows partition, time"),
        ("partition=gpu", "needs a time"),
        ("time=120", "needs a unit or a clock"),
        ("time=soon", "--slurm time needs a time"),
        ("time=5s", "--slurm time needs a time"),
        ("time=1h,gpus=0", "gpus needs a positive whole number, got '0'"),
        ("time=1h,gpus=one", "gpus needs a positive whole number"),
        ("time=1h,partition=", "partition needs a value"),
    ],
)
def test_what_cannot_be_is_a_sentence(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=None) as raised:
        slurm_parameters(text)
    assert said in str(raised.value)


def test_it_is_judged_before_anything_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = call(*ASKED, "gpus=1")
    assert ended.code == ExitCode.USAGE
    assert not left(tmp_path)


def test_without_submitit_the_line_that_installs_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "submitit", None)
    ended = call(*ASKED, "time=1h")
    assert ended.code == ExitCode.UNUSABLE_INPUT
    assert "pip install 'curvtool[slurm]'" in ended.sentence


def test_without_slurm_there_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    ended = call(*ASKED, "time=1h")
    assert ended.code == ExitCode.UNUSABLE_INPUT
    assert ended.sentence.startswith("--slurm expected sbatch to take the jobs; it did not:")
    assert "Traceback" not in ended.err


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that a task gives to Slurm."""
    found: list[list[str]] = []
    monkeypatch.setattr(slurm, "catch_signals", lambda: None)
    monkeypatch.setattr(subprocess, "run", lambda words, **_: found.append(words))
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    monkeypatch.setenv("TERM", "xterm")
    return found


def task(folder: Path) -> Task:
    sweep = Sweep(
        config=Any,  # type: ignore[arg-type]
        common=Any,  # type: ignore[arg-type]
        checkpoints=[Path("step_0.pt"), Path("step_1.pt")],
        folder=folder,
        force=False,
        cold=True,
    )
    return Task(sweep)


@pytest.mark.parametrize(
    ("code", "signal", "requeued"),
    [
        (ExitCode.INTERRUPTED, None, True),
        (ExitCode.INTERRUPTED, "SIGUSR2", True),
        # Preempted, which Slurm requeues itself, or cancelled for good.
        (ExitCode.INTERRUPTED, "SIGTERM", False),
        (ExitCode.UNUSABLE_INPUT, None, False),
        (ExitCode.DONE, None, False),
    ],
)
def test_a_job_is_requeued_unless_slurm_ended_it(
    tmp_path: Path,
    asked: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    code: ExitCode,
    signal: str | None,
    requeued: bool,
) -> None:
    (tmp_path / "step_1.spectrum.h5.state").mkdir()
    monkeypatch.setattr(slurm, "_exit_code", lambda _: int(code))
    monkeypatch.setattr(slurm, "received", lambda: signal)
    with contextlib.nullcontext() if code == ExitCode.DONE else pytest.raises(SystemExit) as ended:
        task(tmp_path)(1)
    assert ended is None or ended.value.code == code
    assert asked == ([["scontrol", "requeue", "9"]] if requeued else [])


def test_a_task_of_an_array_is_requeued_alone_and_only_where_it_came_further(
    tmp_path: Path, asked: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    monkeypatch.setattr(slurm, "_exit_code", lambda _: int(ExitCode.INTERRUPTED))
    monkeypatch.setattr(slurm, "received", lambda: "SIGUSR2")
    with pytest.raises(SystemExit):
        task(tmp_path)(0)
    assert not asked  # nothing was saved: the next time would end as this one
    (tmp_path / "step_0.spectrum.h5.state").mkdir()
    with pytest.raises(SystemExit):
        task(tmp_path)(0)
    assert asked == [["scontrol", "requeue", "7_2"]]
