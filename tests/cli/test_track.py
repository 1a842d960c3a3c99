"""`curvtool track`: many checkpoints, resumed, warm-started, summed up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curvtool.algorithms import lanczos as solver
from curvtool.cli import solving, tracking
from curvtool.cli.sweep import distinct_names, ordered
from curvtool.errors import ExitCode, InputError, UsageError
from curvtool.resuming.stopping import Stopping
from curvtool.storage.spectrum import read_spectrum
from curvtool.storage.state import StateFolder
from curvtool.storage.track import read_track
from tests.cli.calls import MLP, Ended, call, command, environment, left, refusal
from tests.cli.forking import content
from tests.cli.problems import write_problem

OPTIONS = ("--max-examples", "60", "--batch-size", "16", "-k", "3")
STEPS = ("step_90.pt", "step_200.pt", "step_1000.pt")
FILES = ["step_90.spectrum.h5", "step_200.spectrum.h5", "step_1000.spectrum.h5"]


def write_steps(folder: Path, names: tuple[str, ...] = STEPS) -> None:
    """Checkpoints near one another, as of one training."""
    saved = torch.load(MLP, weights_only=True)
    (folder / "digits.npz").write_bytes((MLP.parent / "digits.npz").read_bytes())
    generator = torch.Generator().manual_seed(0)
    for name in names:
        for weights in saved["model"].values():
            weights += 0.02 * torch.randn(weights.shape, generator=generator)
        torch.save(saved, folder / name)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_steps(tmp_path)
    return tmp_path


def track(*more: str, steps: tuple[str, ...] = STEPS) -> Ended:
    return call("track", *steps, *OPTIONS, "-o", "run", *more)


def told() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("run/summary.h5.status.json").read_text())
    return found


def test_a_sweep_has_a_file_for_each_checkpoint_and_a_summary(here: Path) -> None:
    # As a shell sorts them.
    ended = track(steps=tuple(sorted(STEPS)))
    assert ended.code == ExitCode.DONE, ended.err
    assert left(here / "run") == sorted([*FILES, "summary.h5"])
    summary = read_track(Path("run/summary.h5"))
    assert [row.name for row in summary.rows] == ["step_90", "step_200", "step_1000"]
    assert [row.started_from for row in summary.rows] == ["", "step_90", "step_200"]
    assert [row.compared_with for row in summary.rows] == ["", "step_90", "step_200"]
    before = None
    for row in summary.rows:
        run = read_spectrum(Path("run") / row.file)
        assert row.eigenvalues.tolist() == run.pairs.eigenvalues.tolist()
        assert row.eigenvalue_errors.tolist() == run.pairs.eigenvalue_errors.tolist()
        assert row.hvps == run.pairs.hvps
        assert row.loss == run.problem.loss_value
        V = run.pairs.eigenvectors.astype(np.float64)
        if before is not None:
            truth = np.linalg.svd(before @ V.T, compute_uv=False)
            # Rounding of the stored float32 vectors is in both.
            np.testing.assert_allclose(row.cosines, np.minimum(truth, 1), rtol=1e-12)
            assert 0 < row.overlap <= 1
        before = V
    assert summary.hvps == sum(row.hvps for row in summary.rows)
    assert told()["state"] == "done"
    assert told()["hvps"] == summary.hvps
    assert f"{summary.hvps} in all" in ended.out
    assert call("show", "run/summary.h5").out == ended.out


def test_a_run_file_is_that_of_spectrum(here: Path) -> None:
    track()
    ended = call("spectrum", STEPS[0], *OPTIONS, "--vectors", "-o", "run/step_90.spectrum.h5", "-q")
    assert ended.code == ExitCode.DONE
    assert content(Path("run/step_90.spectrum.h5"))  # found there, and not another run's
    call("spectrum", STEPS[0], *OPTIONS, "--vectors", "-o", "alone.h5")
    assert content(Path("alone.h5")) == content(Path("run/step_90.spectrum.h5"))


def test_warm_and_cold_agree_within_their_bounds(here: Path) -> None:
    track()
    warm = read_track(Path("run/summary.h5"))
    ended = call("track", *STEPS, *OPTIONS, "-o", "cold", "--cold")
    assert ended.code == ExitCode.DONE
    cold = read_track(Path("cold/summary.h5"))
    assert not any(row.started_from for row in cold.rows)
    for one, other in zip(warm.rows, cold.rows, strict=True):
        bound = one.eigenvalue_errors + other.eigenvalue_errors
        assert (np.abs(one.eigenvalues - other.eigenvalues) <= bound).all()


def test_what_is_finished_is_not_computed_again(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    track(steps=STEPS[:2])
    files = [Path("run") / name for name in FILES[:2]]
    before = [file.read_bytes() for file in files]
    ended = track()
    assert ended.code == ExitCode.DONE
    assert [file.read_bytes() for file in files] == before
    assert ended.err.count("solving by") == 1

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it solved again")

    monkeypatch.setattr(solver, "_Solve", refuse)
    again = track()
    assert again.code == ExitCode.DONE
    assert again.out == ended.out


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the next sweep be asked to end at its n-th boundary; 0 leaves it alone."""
    original = Stopping.reason

    def at(boundary: int) -> None:
        count = [0]

        def reason(self: Stopping) -> str | None:
            count[0] += 1
            return "SIGTERM" if count[0] == boundary else original(self)

        monkeypatch.setattr(Stopping, "reason", reason)

    return at


def test_an_interrupted_sweep_goes_on_to_the_same_bits(
    here: Path, interrupt: Callable[[int], None]
) -> None:
    assert track().code == ExitCode.DONE
    truth = {name: content(Path("run") / name) for name in [*FILES, "summary.h5"]}
    states = 0
    for boundary in (20, 150, 260, 400):
        for path in Path("run").glob("*.h5"):
            path.unlink()
        interrupt(boundary)
        ended = track()
        if ended.code == ExitCode.DONE:
            break
        states += 1
        assert ended.code == ExitCode.INTERRUPTED
        assert ended.sentence.startswith("Interrupted by SIGTERM.")
        assert ended.sentence.endswith("the same command continues.\n")
        assert not ended.out
        assert told()["state"] == "interrupted"
        so_far = read_track(Path("run/summary.h5"))
        assert len(so_far.rows) == 3
        assert so_far.outcome.value == "interrupted"
        interrupt(0)
        again = track()
        assert again.code == ExitCode.DONE
        assert "of the saved state" not in again.err
        for name, expected in truth.items():
            assert content(Path("run") / name) == expected, name
        assert left(here / "run") == sorted([*FILES, "summary.h5"])
        assert told()["state"] == "done"
    assert states >= 2


def test_a_solve_that_began_cold_goes_on_cold(here: Path, interrupt: Callable[[int], None]) -> None:
    track("--cold")
    truth = content(Path("run") / FILES[2])
    (Path("run") / FILES[2]).unlink()
    interrupt(30)
    assert track("--cold").code == ExitCode.INTERRUPTED
    interrupt(0)
    ended = track()
    assert ended.code == ExitCode.DONE
    assert "of the saved state" not in ended.err
    assert content(Path("run") / FILES[2]) == truth


def test_a_limit_of_time_is_kept_between_checkpoints(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class AtOnce:
        def __init__(self, **_: object) -> None:
            pass

        def reason(self) -> str:
            return "the time limit"

    monkeypatch.setattr(tracking, "Stopping", AtOnce)
    # Each command computes one checkpoint all the same, or nothing would ever be done.
    for done in (1, 2):
        ended = track()
        assert ended.code == ExitCode.INTERRUPTED
        assert ended.sentence == (
            f"Interrupted by the time limit. {done} of 3 checkpoints are done; the same command "
            "continues.\n"
        )
    assert track().code == ExitCode.DONE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_real_process_that_is_ended_goes_on(here: Path, number: signal.Signals) -> None:
    assert track().code == ExitCode.DONE
    truth = {name: content(Path("run") / name) for name in FILES}
    for path in Path("run").glob("*.h5"):
        path.unlink()
    asked = ("track", *STEPS, *OPTIONS, "-o", "run", "--save-every", "0")
    process = subprocess.Popen(
        command(*asked),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "2/3 step_200: solving" in line:
            break
    os.kill(process.pid, number)
    _, said = process.communicate(timeout=60)
    expected = ExitCode.INTERRUPTED if number is signal.SIGTERM else -number
    assert process.returncode in {expected, ExitCode.DONE}, said
    if process.returncode == ExitCode.INTERRUPTED:
        assert said.splitlines()[-1].startswith("curvtool: Interrupted by SIGTERM. ")
        assert said.endswith("the same command continues.\n")
        assert told()["state"] == "interrupted"
        assert told()["message"].endswith("the same command continues.")
        assert read_track(Path("run/summary.h5")).outcome.value == "interrupted"
    ended = call(*asked)
    assert ended.code == ExitCode.DONE
    for name, before in truth.items():
        assert content(Path("run") / name) == before


def test_a_checkpoint_that_fails_does_not_stop_the_others(here: Path) -> None:
    Path("step_200.pt").write_bytes(b"no checkpoint")
    ended = track()
    assert ended.code == ExitCode.UNUSABLE_INPUT
    assert "step_200: step_200.pt" in ended.err
    summary = read_track(Path("run/summary.h5"))
    assert [row.outcome.value for row in summary.rows] == ["converged", "failed", "converged"]
    assert "step_200.pt" in summary.rows[1].message
    # The next one begins from, and is compared with, the one before the gap.
    assert summary.rows[2].started_from == summary.rows[2].compared_with == "step_90"
    assert "What failed" in ended.out
    assert told()["state"] == "failed"
    assert "step_200.pt" in told()["message"]
    write_steps(here, STEPS)
    assert track("--force").code == ExitCode.DONE


def test_the_gravest_code_is_told(here: Path) -> None:
    assert track("--max-hvps", "9", steps=STEPS[:1]).code == ExitCode.NOT_CONVERGED
    Path("step_200.pt").write_bytes(b"no checkpoint")
    assert track("--max-hvps", "9").code == ExitCode.UNUSABLE_INPUT
    summary = read_track(Path("run/summary.h5"))
    assert [row.outcome.value for row in summary.rows] == ["max_hvps", "failed", "max_hvps"]
    # Of eigenvectors that are not known, no overlap is told.
    assert not any(len(row.cosines) for row in summary.rows)


def test_a_product_that_is_no_hessian_has_its_code(here: Path) -> None:
    write_problem(here)
    ended = call(
        *("track", "net.pt", "--model", "hooks.py:wrong", "--data", "npz:data.npz"),
        *("--loss", "cross_entropy", "-k", "2", "-o", "run"),
    )
    assert ended.code == ExitCode.NOT_A_HESSIAN, ended.err
    assert read_track(Path("run/summary.h5")).rows[0].outcome.value == "failed"


def test_other_runs_are_replaced_by_force_and_finished_ones_kept(here: Path) -> None:
    track(steps=STEPS[:2])
    before = Path("run/step_90.spectrum.h5").stat().st_ino
    ended = track("--seed", "1", steps=STEPS[:2])
    assert ended.code == ExitCode.UNUSABLE_INPUT
    assert "--seed was 0, now 1" in ended.err
    assert track("--seed", "1", "--force", steps=STEPS[:2]).code == ExitCode.DONE
    after = Path("run/step_90.spectrum.h5").stat().st_ino
    assert after != before
    # A sweep that was interrupted under --force goes on by the same command.
    assert track("--seed", "1", "--force", steps=STEPS[:2]).code == ExitCode.DONE
    assert Path("run/step_90.spectrum.h5").stat().st_ino == after


def test_a_full_disk_ends_the_sweep(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, run: object) -> None:
        raise InputError(f"Cannot write the run file {path}: no room.")

    monkeypatch.setattr(solving, "write_spectrum", full)
    ended = track("--save-every", "0")
    assert ended.code == ExitCode.UNUSABLE_INPUT
    assert ended.sentence == "Cannot write the run file run/step_90.spectrum.h5: no room.\n"
    assert ended.err.count("solving by") == 1
    monkeypatch.undo()
    os.chdir(here)
    again = track()
    assert again.code == ExitCode.DONE
    assert "continuing" in again.err


def test_a_sweep_has_one_process_at_a_time(here: Path) -> None:
    Path("run").mkdir()
    held = StateFolder(Path("run/summary.h5"))
    said = refusal("track", *STEPS, *OPTIONS, "-o", "run")
    assert said.startswith("The output run/summary.h5 is being computed by process")
    held.close()
    # As after SIGKILL: the lock of the dead is taken over.
    assert track().code == ExitCode.DONE
    assert left(here / "run") == sorted([*FILES, "summary.h5"])


def test_several_processes_are_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    said = refusal("track", STEPS[0], code=ExitCode.USAGE)
    assert said.startswith("track works in one process")


def test_folders_that_cannot_be_are_refused(here: Path) -> None:
    Path("taken").write_text("mine")
    assert "taken was expected to be a folder" in refusal("track", STEPS[0], "-o", "taken")
    Path("other").mkdir()
    Path("other/summary.h5").write_text("mine")
    assert "is there already and is not a run" in refusal("track", STEPS[0], "-o", "other")
    call("spectrum", STEPS[0], *OPTIONS, "-o", "other/summary.h5", "--force")
    assert "holds a run of kind 'spectrum'" in refusal("track", STEPS[0], "-o", "other")


def test_checkpoints_are_ordered_by_their_numbers() -> None:
    typed = [Path(f"a{n}/step_{m}.pt") for n, m in ((10, 1), (2, 1000), (2, 200))]
    assert ordered(typed, as_typed=False) == [typed[2], typed[1], typed[0]]
    assert ordered(typed, as_typed=True) == typed
    assert ordered([typed[0], typed[0]], as_typed=True) == typed[:1]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/step_1.pt", "b/step_2.pt"], ["step_1", "step_2"]),
        (["a/model.pt", "b/model.pt"], ["a-model.pt", "b-model.pt"]),
        (["epoch.1", "epoch.2"], ["epoch.1", "epoch.2"]),
        (["net.pt", "Net.safetensors"], ["net.pt", "Net.safetensors"]),
        (["x/a/m.pt", "y/a/m.pt"], ["x-a-m.pt", "y-a-m.pt"]),
    ],
)
def test_names_are_distinct(paths: list[str], names: list[str]) -> None:
    assert distinct_names([Path(path) for path in paths]) == names


def test_the_same_file_in_two_words_is_refused(here: Path) -> None:
    with pytest.raises(UsageError, match="the same file"):
        distinct_names([Path("step_90.pt"), Path(f"../{here.name}/step_90.pt")])
