"""Signals, kills and readers that go away: an orderly end, and never half a file."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from curvtool.cli import guard
from curvtool.errors import ExitCode, Interrupted
from curvtool.results import Outcome
from curvtool.storage.spectrum import read_spectrum, write_spectrum
from tests import runs
from tests.cli.calls import CHECKPOINTS, QUICK, command, environment, left

# Far more products than anybody will wait for.
LONG = (
    *(str(CHECKPOINTS / "digits_cnn.pt"), "-k", "60", "--dtype", "float64"),
    *("--tol", "1e-12", "--max-hvps", "100000"),
)


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("spectrum", *arguments),
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process: subprocess.Popen[str], word: str) -> str:
    """Read stderr up to the line that holds `word`."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if word in line:
            return said
    raise AssertionError(f"{word!r} was never said, but: {said}")


@pytest.mark.parametrize(
    ("stage", "number"),
    [
        ("loading", signal.SIGTERM),
        ("loading", signal.SIGUSR1),
        ("solving", signal.SIGINT),
        ("solving", signal.SIGUSR2),
        ("solving", signal.SIGTERM),
    ],
)
def test_a_signal_ends_a_run_in_good_order(
    tmp_path: Path, stage: str, number: signal.Signals
) -> None:
    process = start(*LONG, cwd=tmp_path)
    wait_for(process, stage)
    time.sleep(0.2)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == ExitCode.INTERRUPTED
    assert err.splitlines()[-1].startswith(f"curvtool: Interrupted by {number.name}.")
    assert "Traceback" not in err
    assert not out
    saved = "digits_cnn.spectrum.h5.state"
    assert left(tmp_path) == ([saved] if stage == "solving" else [])
    assert ("saved in" in err) is (stage == "solving")


def test_a_second_signal_ends_a_process_that_hangs() -> None:
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        guard.catch_signals()
        with pytest.raises(Interrupted, match="SIGTERM"):
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
        # Whoever swallowed the exception meets it again at the next step.
        with pytest.raises(Interrupted, match="SIGTERM"):
            guard.end_if_interrupted()
    finally:
        guard._received.clear()
        for number, handler in handlers.items():
            signal.signal(number, handler)
    guard.end_if_interrupted()


SWALLOWED = """
import os, signal, sys, time, weakref
from curvtool.cli.guard import catch_signals, finishing, guarded, ignore_late_signals
from curvtool.errors import ExitCode

class Thing:
    pass

def ask(_):
    os.kill(os.getpid(), signal.SIGTERM)

catch_signals()
thing = Thing()
reference = weakref.ref(thing, ask)
try:
    with guarded():
        WORK
        time.sleep(30)
except BaseException as error:
    ignore_late_signals()
    os.kill(os.getpid(), signal.SIGTERM)
    sys.exit(getattr(error, "exit_code", 1))
"""


@pytest.mark.parametrize(
    ("work", "said"),
    [
        ("del thing", ""),
        # HDF5 does not survive an exception: none while something is finished.
        (
            "with finishing():\n            del thing; time.sleep(0.1); print('finished')",
            "finished\n",
        ),
    ],
)
def test_a_signal_that_a_finaliser_swallows_ends_the_run_all_the_same(work: str, said: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SWALLOWED.replace("WORK", work)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (ExitCode.INTERRUPTED, said), ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stderr.startswith("curvtool: Interrupted by SIGTERM.")


def test_a_signal_while_the_file_is_written_waits_for_its_end() -> None:
    before = signal.getsignal(signal.SIGTERM)
    done = []

    def work() -> None:
        with guard.finishing():
            signal.raise_signal(signal.SIGTERM)
            done.append("the work")

    try:
        with pytest.raises(Interrupted, match="SIGTERM"):
            work()
        assert done == ["the work"]
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        guard._received.clear()


def test_signals_wait_for_a_boundary_and_a_second_interrupt_does_not() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    handlers = {n: signal.getsignal(n) for n in numbers}
    try:
        guard.catch_signals()
        with guard.waiting(lambda: True):
            assert guard.received() is None
            for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM):
                signal.raise_signal(number)
            guard.end_if_interrupted()
            assert guard.received() == "SIGUSR1"
            assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        with pytest.raises(Interrupted, match="SIGUSR1"):
            guard.end_if_interrupted()
    finally:
        guard._received.clear()
        for number, handler in handlers.items():
            signal.signal(number, handler)


def test_a_late_warning_does_not_spoil_an_exit_code(tmp_path: Path) -> None:
    # After the last of our own lines, when Python has taken its handlers down.
    late = (
        "import os, sys\n"
        "from curvtool.__main__ import main\n"
        "sys.argv[1:] = ['--version']\n"
        "class Late:\n"
        "    def __del__(self, kill=os.kill, pid=os.getpid()):\n"
        f"        kill(pid, {int(signal.SIGUSR2)})\n"
        "sys.modules['late'] = Late()\n"
        "main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", late],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        check=False,
    )
    assert ended.returncode == ExitCode.DONE


KILLER = """
import os, random, sys, time
from pathlib import Path
# Loaded here, since otherwise imports would take most of the time of every child.
import torch._decomp.decompositions_for_jvp, torch._dynamo
import curvtool.cli.progress, curvtool.cli.show, curvtool.pipeline
from curvtool.cli.app import run
from curvtool.storage.spectrum import read_spectrum

run(["show", "absent.h5"])

path = Path("digits_mlp.spectrum.h5")
partial = Path(f".{path.name}.partial")
state, status_file = Path(f"{path}.state"), Path(f"{path}.status.json")
draw = random.Random(0)

def start():
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(run(["spectrum", *sys.argv[1:], "--force", "-q"]))
    return child

began = time.monotonic()
_, status = os.waitpid(start(), 0)
seconds = time.monotonic() - began
assert status == 0
path.unlink()
found = 0
for _ in range(24):
    child = start()
    time.sleep(draw.uniform(0.3, 1.05) * seconds)
    os.kill(child, 9)
    os.waitpid(child, 0)
    assert set(Path().iterdir()) <= {path, partial, state, status_file}, list(Path().iterdir())
    if path.exists():
        assert read_spectrum(path).pairs.outcome.value == "converged"
        found += 1
        path.unlink()
_, status = os.waitpid(start(), 0)  # what a kill left behind is no obstacle
assert status == 0
assert set(Path().iterdir()) == {path, status_file}
print(found)
"""


def test_kills_leave_a_whole_file_or_none(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLER, *QUICK],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert ended.returncode == 0, ended.stderr
    assert 0 <= int(ended.stdout) <= 24


def closed_pipe() -> int:
    """The end to write to of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def run_into(
    folder: Path, stdout: Any, *words: str, stderr: Any = subprocess.PIPE
) -> subprocess.CompletedProcess[bytes]:
    """Run the command with its output going somewhere."""
    return subprocess.run(
        command(*words),
        cwd=folder,
        env=environment(),
        stdout=stdout,
        stderr=stderr,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_reader_who_stops_reading_is_no_error(tmp_path: Path, form: tuple[str, ...]) -> None:
    write_spectrum(tmp_path / "run.h5", runs.run())
    writer = closed_pipe()
    ended = run_into(tmp_path, writer, "show", "run.h5", *form)
    os.close(writer)
    assert ended.returncode == ExitCode.DONE
    assert not ended.stderr


def test_a_solve_goes_on_when_nobody_reads(tmp_path: Path) -> None:
    writer = closed_pipe()
    ended = run_into(tmp_path, writer, "spectrum", *QUICK, stderr=writer)
    os.close(writer)
    assert ended.returncode == ExitCode.DONE
    assert read_spectrum(tmp_path / "digits_mlp.spectrum.h5").pairs.outcome is Outcome.CONVERGED


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_report_that_finds_no_room_says_so(tmp_path: Path) -> None:
    write_spectrum(tmp_path / "run.h5", runs.run())
    with Path("/dev/full").open("w") as full:
        ended = run_into(tmp_path, full, "show", "run.h5")
    assert ended.returncode == ExitCode.UNUSABLE_INPUT
    assert ended.stderr.startswith(b"curvtool: The report was expected to go to stdout")
    assert b"Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["show", "run.h5"], ExitCode.DONE), (["show", "absent.h5"], ExitCode.UNUSABLE_INPUT)],
)
def test_streams_may_be_closed(tmp_path: Path, arguments: list[str], code: ExitCode) -> None:
    write_spectrum(tmp_path / "run.h5", runs.run())
    words = shlex.join(command(*arguments))
    for closed in (">&-", "2>&-", "<&- >&- 2>&-"):
        ended = subprocess.run(
            ["sh", "-c", f"exec {words} {closed}"],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert ended.returncode == code
        assert b"Traceback" not in ended.stderr


def test_help_may_be_left_unread(tmp_path: Path) -> None:
    writer = closed_pipe()
    ended = run_into(tmp_path, writer, "spectrum", "--help")
    os.close(writer)
    assert ended.returncode == ExitCode.DONE
    assert not ended.stderr
