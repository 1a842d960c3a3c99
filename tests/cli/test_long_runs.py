"""Runs that are interrupted, continued, locked, limited in time, and short of room."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from curvtool.cli.values import parse_duration
from curvtool.errors import ExitCode, InputError, UsageError
from curvtool.pipeline import continuing
from curvtool.resuming.saving import MOST_SHARE, Schedule
from curvtool.resuming.stopping import SLURM_MARGIN, Stopping
from curvtool.storage.journal import Journal
from curvtool.storage.state import StateFolder
from tests.cli.calls import MLP, call, left, refusal
from tests.cli.forking import content

ASKED = ("spectrum", str(MLP), "--max-examples", "60", "--batch-size", "16", "-k", "3")
FILE = "digits_mlp.spectrum.h5"
STATE = f"{FILE}.state"
Interrupt = Callable[[int], None]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Interrupt:
    """Let the next runs be asked to end at their n-th boundary; 0 leaves them alone."""
    original = Stopping.reason

    def at(boundary: int) -> None:
        count = [0]

        def reason(self: Stopping) -> str | None:
            count[0] += 1
            return "SIGTERM" if count[0] == boundary else original(self)

        monkeypatch.setattr(Stopping, "reason", reason)

    return at


def status() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"{FILE}.status.json").read_text())
    return found


def test_an_interrupted_run_says_how_to_go_on_and_does(here: Path, interrupt: Interrupt) -> None:
    assert call(*ASKED).code == ExitCode.DONE
    assert status()["state"] == "done"
    expected = content(Path(FILE))
    Path(FILE).unlink()
    interrupt(23)
    ended = call(*ASKED)
    assert ended.code == ExitCode.INTERRUPTED
    assert ended.sentence == (
        f"Interrupted by SIGTERM. What was computed is saved in {STATE}; the same command "
        "continues.\n"
    )
    assert left(here) == [STATE]
    told = status()
    assert told["state"] == "interrupted"
    assert told["message"].startswith("Interrupted by SIGTERM.")
    assert told["pid"] == os.getpid()
    assert told["host"] == socket.gethostname()
    assert told["hvps"] > 0
    interrupt(0)
    assert call(*ASKED).code == ExitCode.DONE
    assert content(Path(FILE)) == expected
    assert left(here) == [FILE]
    assert status()["state"] == "done"


def test_a_continued_run_measures_nothing(
    here: Path, interrupt: Interrupt, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(9)
    call(*ASKED)

    def refuse(*_: object) -> None:
        raise AssertionError("it prepared anew")

    interrupt(0)
    monkeypatch.setattr(continuing, "prepare", refuse)
    ended = call(*ASKED, "--resume")
    assert ended.code == ExitCode.DONE
    assert "continuing: evaluating" in ended.err
    assert "to rounding" not in ended.err


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"threads": 1000}, "threads, no longer 1000: the result will be"),
        ({"bytes_kept": 2**60}, "and there is room for"),
        ({"loss": 7.0}, "this machine rounds the loss otherwise"),
        ({"device": "cuda:0"}, "continuing on cpu, no longer on cuda:0"),
    ],
)
def test_what_does_not_fit_this_machine_is_said(
    here: Path, interrupt: Interrupt, changed: dict[str, Any], said: str
) -> None:
    interrupt(23)
    call(*ASKED)
    interrupt(0)
    path = Path(STATE) / "rank-0.decisions.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    ended = call(*ASKED)
    assert ended.code == ExitCode.DONE
    assert said in ended.err
    assert "to rounding, not to the bit" in ended.err


@pytest.mark.parametrize(
    "free",
    [
        ("--tol", "1e-3"),
        ("--max-hvps", "900"),
        ("-k", "5"),
        ("--memory", "1GiB"),
        ("--device", "cpu"),
        ("--time-limit", "2h"),
        ("--save-every", "off"),
        ("--resume",),
    ],
)
def test_what_may_change_does(here: Path, interrupt: Interrupt, free: tuple[str, ...]) -> None:
    interrupt(23)
    call(*ASKED)
    interrupt(0)
    ended = call(*ASKED, *free)
    assert ended.code == ExitCode.DONE
    assert "continuing" in ended.err


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (("-k", "2"), "--top-k was 3, now 2"),
        (("--seed", "1"), "--seed was 0, now 1"),
        (("--batch-size", "17"), "--batch-size was 16, now 17"),
        (("--dtype", "float64"), "--dtype was float32, now float64"),
        (("--params", "*.bias"), "--params was not given, now *.bias"),
        (("--loss-kwargs", "label_smoothing=0.1"), "the problem spec"),
    ],
)
def test_what_may_not_change_is_named(
    here: Path, interrupt: Interrupt, other: tuple[str, ...], named: str
) -> None:
    interrupt(23)
    call(*ASKED)
    interrupt(0)
    sentence = refusal(*ASKED, *other)
    assert sentence.startswith(f"The state in {STATE} is that of another run")
    assert named in sentence
    assert "--force" in sentence
    forced = call(*ASKED, *other, "--force")
    assert forced.code == ExitCode.DONE
    assert "continuing" not in forced.err
    assert left(here) == [FILE]


def test_force_starts_afresh_unless_the_state_is_asked_for(
    here: Path, interrupt: Interrupt
) -> None:
    for words, continued in (((), False), (("--resume",), True)):
        interrupt(23)
        call(*ASKED, "--force")
        interrupt(0)
        assert ("continuing" in call(*ASKED, "--force", *words).err) is continued


def test_without_saving_an_interruption_leaves_nothing(here: Path, interrupt: Interrupt) -> None:
    interrupt(23)
    ended = call(*ASKED, "--save-every", "off")
    assert ended.code == ExitCode.INTERRUPTED
    assert "Nothing is saved with --save-every off" in ended.sentence
    assert not left(here)


def test_a_time_limit_leaves_room_for_progress(here: Path) -> None:
    sizes = []
    for _ in range(3):
        ended = call(*ASKED, "--time-limit", "0.001")
        assert ended.code == ExitCode.INTERRUPTED
        assert ended.sentence.startswith("Interrupted by the time limit. What was computed")
        state = Path(STATE)
        sizes.append(max(path.stat().st_mtime_ns for path in state.glob("rank-0.*")))
    assert sizes == sorted(set(sizes))


def test_the_end_of_a_slurm_job_is_a_time_limit(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time())))
    ended = call(*ASKED)
    assert ended.code == ExitCode.INTERRUPTED
    assert ended.sentence.startswith("Interrupted by the end of the Slurm job.")


def test_clocks_may_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    now, ticks = 1e9, [50.0]
    monkeypatch.setattr(time, "monotonic", lambda: ticks[0])
    monkeypatch.setattr(time, "time", lambda: now)
    ahead = 4000.0
    environment = {"SLURM_JOB_END_TIME": str(int(now + ahead))}
    stopping = Stopping(time_limit=5000.0, environment=environment)
    for jump in (-1e8, 1e8):
        monkeypatch.setattr(time, "time", lambda jump=jump: now + jump)
        assert stopping.reason() is None
    ticks[0] += ahead - SLURM_MARGIN - 1
    assert stopping.reason() is None
    ticks[0] += 1
    assert stopping.reason() == "the end of the Slurm job"
    # A job of a minute keeps a tenth of it.
    short = Stopping(environment={"SLURM_JOB_END_TIME": str(int(now + jump + 60))})
    ticks[0] += 53.5
    assert short.reason() is None
    ticks[0] += 1
    assert short.reason() is not None


def test_saving_takes_a_bounded_share_of_the_time() -> None:
    ticks = [0.0]
    schedule = Schedule(60.0, clock=lambda: ticks[0])
    spent = 0.0
    for _ in range(20_000):
        ticks[0] += 1.0
        if schedule.due(product=True):
            began = schedule.began()
            ticks[0] += 30.0  # a slow disk
            spent += 30.0
            schedule.ended(began)
    assert spent / ticks[0] <= MOST_SHARE
    assert spent == schedule.spent
    assert Schedule(0.0).due(product=True)
    assert not Schedule(-1.0).due(product=True)


def test_an_output_has_one_run_at_a_time(here: Path) -> None:
    held = StateFolder(Path(FILE))
    sentence = refusal(*ASKED)
    assert sentence.startswith(
        f"The output {FILE} is being computed by process {os.getpid()} on {socket.gethostname()}."
    )
    held.close()
    assert call(*ASKED).code == ExitCode.DONE


def test_the_lock_of_a_dead_process_is_taken_over(here: Path) -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        StateFolder(Path(FILE))
        os.write(writer, b"x")
        signal.pause()
    os.read(reader, 1)
    os.close(reader)
    os.close(writer)
    with pytest.raises(InputError, match=f"by process {child} on"):
        StateFolder(Path(FILE))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    StateFolder(Path(FILE)).remove()
    assert not left(here)


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_ends_in_a_sentence_and_costs_nothing(
    here: Path, small_files: Callable[[int], None]
) -> None:
    asked = (*ASKED, "--vectors")
    assert call(*asked).code == ExitCode.DONE
    expected = content(Path(FILE))
    small_files(Path(FILE).stat().st_size * 2 // 3)
    Path(FILE).unlink()
    ended = call(*asked, "--save-every", "0")
    assert ended.code == ExitCode.UNUSABLE_INPUT
    assert ended.err.count("the state cannot be saved") == 1
    assert ended.sentence.startswith(f"Cannot write the run file {FILE}")
    assert ended.out  # what was computed is shown all the same
    assert status()["state"] == "failed"
    assert left(here) == [STATE]
    small_files(resource.RLIM_INFINITY)
    again = call(*asked)
    assert again.code == ExitCode.DONE
    assert "continuing" in again.err
    assert content(Path(FILE)) == expected


def test_a_folder_that_becomes_read_only_is_said_once(
    here: Path, interrupt: Interrupt, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Journal) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as changed:
        changed.setattr(Journal, "write", refuse)
        ended = call(*ASKED, "--save-every", "0")
        assert ended.code == ExitCode.DONE
        assert ended.err.count("Read-only file system") == 1
        interrupt(40)
        ended = call(*ASKED, "--save-every", "0", "--force")
        assert ended.code == ExitCode.INTERRUPTED
        assert "The last save failed (Read-only file system)" in ended.sentence


def test_data_that_vanish_leave_the_state(here: Path, interrupt: Interrupt) -> None:
    Path("net.pt").write_bytes(MLP.read_bytes())
    Path("digits.npz").write_bytes((MLP.parent / "digits.npz").read_bytes())
    asked = ("spectrum", "net.pt", *ASKED[2:], "-o", FILE)
    interrupt(23)
    assert call(*asked).code == ExitCode.INTERRUPTED
    interrupt(0)
    Path("digits.npz").rename("elsewhere.npz")
    assert "digits.npz" in refusal(*asked)
    assert status()["state"] == "failed"
    Path("elsewhere.npz").rename("digits.npz")
    ended = call(*asked)
    assert ended.code == ExitCode.DONE
    assert "continuing" in ended.err


def test_a_state_that_outlived_its_run_is_removed(here: Path) -> None:
    call(*ASKED)
    Path(STATE).mkdir()
    (Path(STATE) / "rank-0.0.journal").write_bytes(b"left by a kill")
    assert call(*ASKED).code == ExitCode.DONE
    assert left(here) == [FILE]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("1.5m", 90),
        ("2h", 7200),
        ("1h30m", 5400),
        ("01:00:01", 3601),
        ("1-00:00:00", 86400),
        ("1d", 86400),
    ],
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert parse_duration("--time-limit", text, least=0) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5 apples", "-3", "inf", "nan", "1h 2", "0x3"])
def test_times_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--time-limit needs a time such as 90s"):
        parse_duration("--time-limit", text, least=0)


def test_a_time_that_is_none_is_refused_before_anything_is_opened(here: Path) -> None:
    for option in ("--time-limit", "--save-every"):
        assert option in refusal("spectrum", "absent.pt", option, "soon", code=ExitCode.USAGE)
    assert "0" in refusal("spectrum", "absent.pt", "--time-limit", "0", code=ExitCode.USAGE)
