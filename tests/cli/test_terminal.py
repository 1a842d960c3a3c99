"""What a terminal, and an odd environment, get to see."""

from __future__ import annotations

import errno
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Mapping
from dataclasses import replace
from fcntl import ioctl
from pathlib import Path

import pytest

from curvtool.algorithms.settings import Progress
from curvtool.cli.progress import Forecast
from curvtool.errors import ExitCode
from curvtool.storage.spectrum import write_spectrum
from tests import runs
from tests.cli.calls import CHECKPOINTS, QUICK, call, command, environment, left, spawn

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


def on_terminal(
    *arguments: str | Path,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    columns: int = 80,
    meanwhile: Callable[[subprocess.Popen[bytes], str], object] = lambda *_: None,
) -> tuple[int, str]:
    """Run a command with both outputs on a terminal; its exit code and all that was written."""
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    process = subprocess.Popen(
        command(*arguments),
        cwd=cwd,
        env=environment({"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"} | dict(env or {})),
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    written = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            break  # the last writer has closed its end
        if not piece:
            break
        written += piece
        meanwhile(process, written.decode(errors="replace"))
    os.close(master)
    return process.wait(timeout=60), written.decode()


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def left_over(text: str) -> str:
    """What is on the screen in the end: the progress line erases itself."""
    lines = [""]
    for piece in re.split(r"(\r\n|\r|\n|\x1b\[2K|\x1b\[1A)", text):
        if piece in {"\r\n", "\n"}:
            lines.append("")
        elif piece == "\x1b[2K":
            lines[-1] = ""
        elif piece == "\x1b[1A":
            lines.pop()
        elif piece != "\r":
            lines[-1] += plain(piece)
    return "\n".join(lines)


def test_progress_lives_on_a_terminal_and_leaves_no_trace(tmp_path: Path) -> None:
    code, text = on_terminal("spectrum", *QUICK, cwd=tmp_path)
    assert code == ExitCode.DONE
    assert "loading" in plain(text)
    assert re.search(r"\d+ products, 2 of 2 converged", plain(text))
    assert text.count(HIDE) == text.count(SHOW) == 1
    screen = left_over(text)
    assert "loading" not in screen
    assert "products, " not in screen
    assert "Hessian spectrum" in screen
    assert screen.rstrip().endswith("curvtool: written to digits_mlp.spectrum.h5")


def test_progress_cleans_up_after_an_error(tmp_path: Path) -> None:
    code, text = on_terminal("spectrum", "absent.pt", cwd=tmp_path)
    assert code == ExitCode.UNUSABLE_INPUT
    assert text.count(HIDE) == text.count(SHOW) == 1
    assert left_over(text).strip().startswith("curvtool: absent.pt: expected a checkpoint")


def test_progress_cleans_up_after_an_interrupt(tmp_path: Path) -> None:
    sent: list[bool] = []

    def interrupt(process: subprocess.Popen[bytes], text: str) -> None:
        if "products" in text and not sent:
            process.send_signal(signal.SIGINT)
            sent.append(True)

    code, text = on_terminal(
        *("spectrum", CHECKPOINTS / "digits_cnn.pt", "-k", "60", "--tol", "1e-12"),
        *("--dtype", "float64", "--max-hvps", "100000"),
        cwd=tmp_path,
        meanwhile=interrupt,
    )
    assert code == ExitCode.INTERRUPTED
    assert text.count(HIDE) == text.count(SHOW) == 1
    assert left_over(text).strip().startswith("curvtool: Interrupted by SIGINT.")
    assert set(left(tmp_path)) <= {"digits_cnn.spectrum.h5.state"}


def test_a_dumb_terminal_gets_plain_lines(tmp_path: Path) -> None:
    code, text = on_terminal("spectrum", *QUICK, cwd=tmp_path, env={"TERM": "dumb"})
    assert code == ExitCode.DONE
    assert "\x1b" not in text
    assert "curvtool: loading" in text
    assert "━" not in text


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    summary = replace(runs.problem(), checkpoint="modèle/été.pt")
    write_spectrum(tmp_path / "run.h5", runs.run(problem=summary))
    return tmp_path


def test_colours_where_they_are_wanted_only(run_file: Path) -> None:
    _, coloured = on_terminal("show", "run.h5", cwd=run_file)
    _, sober = on_terminal("show", "run.h5", cwd=run_file, env={"NO_COLOR": "1"})
    colours = re.compile(r"\x1b\[[0-9;]*(3[0-7]|38;[0-9;]+|9[0-7])m")
    assert colours.search(coloured)
    assert not colours.search(sober)
    assert plain(sober) == plain(coloured)


@pytest.mark.parametrize("columns", [60, 80, 110])
def test_reports_fit_the_terminal(run_file: Path, columns: int) -> None:
    _, text = on_terminal("show", "run.h5", cwd=run_file, columns=columns)
    assert max(map(len, plain(text).splitlines())) <= columns


@pytest.mark.parametrize("columns", [60, 100])
def test_columns_of_the_environment_hold_off_a_terminal(run_file: Path, columns: int) -> None:
    shown = spawn("show", "run.h5", cwd=run_file, env={"COLUMNS": str(columns)})
    assert max(map(len, shown.stdout.decode().splitlines())) <= columns


@pytest.mark.parametrize(
    "env",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
    ],
)
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_any_encoding_will_do(run_file: Path, env: dict[str, str], form: tuple[str, ...]) -> None:
    shown = spawn("show", "run.h5", *form, cwd=run_file, env=env)
    assert shown.returncode == ExitCode.DONE
    assert not shown.stderr
    assert shown.stdout
    if env.get("PYTHONIOENCODING") == "ascii":
        assert shown.stdout.isascii()


def test_errors_in_any_encoding(tmp_path: Path) -> None:
    ended = spawn("show", "été.h5", cwd=tmp_path, env={"PYTHONIOENCODING": "ascii"})
    assert ended.returncode == ExitCode.UNUSABLE_INPUT
    assert b"expected a run file" in ended.stderr
    assert b"Traceback" not in ended.stderr


def test_names_that_are_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"\xff\xfe.pt")
    Path(name).write_bytes((CHECKPOINTS / "digits_mlp.pt").read_bytes())
    Path("digits.npz").write_bytes((CHECKPOINTS / "digits.npz").read_bytes())
    assert call("spectrum", name, *QUICK[1:], "-o", "run.h5").code == ExitCode.DONE
    for env, form in (({"LC_ALL": "C.UTF-8"}, ()), ({"PYTHONIOENCODING": "ascii"}, ("--json",))):
        shown = spawn("show", "run.h5", *form, cwd=tmp_path, env=env)
        assert shown.returncode == ExitCode.DONE
        assert not shown.stderr


def progress(hvps: int, worst: float) -> Progress:
    return Progress(stage="solve", hvps=hvps, max_hvps=1000, converged=0, wanted=5, worst=worst)


def test_the_time_left_is_read_from_the_fall_of_the_error() -> None:
    forecast = Forecast()
    for hvps in range(20):  # 2 s a product, a tenth of the error each
        forecast.add(progress(hvps, 10.0 ** (25 - hvps)), now=2.0 * hvps)
    left = forecast.seconds_left(progress(19, 1e6))
    assert left == pytest.approx(2.0 * 6)


def test_no_time_is_foretold_from_nothing() -> None:
    forecast = Forecast()
    assert forecast.seconds_left(progress(0, 10.0)) is None
    for hvps in range(20):
        forecast.add(progress(hvps, 10.0), now=2.0 * hvps)
    assert forecast.seconds_left(progress(19, 10.0)) is None
