"""Calling the command line as a user does: inside this process where that is enough."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from curvtool.cli.app import run
from curvtool.errors import ExitCode

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
MLP = CHECKPOINTS / "digits_mlp.pt"
# More parameters than products: Lanczos runs.
QUICK = (str(MLP), "--max-examples", "100", "-k", "2")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The last thing said on stderr, from the program's name on."""
        _, _, last = self.err.rpartition("curvtool: ")
        return last


def call(*arguments: str | Path) -> Ended:
    """Run the command line in this process; off a terminal."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([str(argument) for argument in arguments])
    return Ended(code, out.getvalue(), err.getvalue())


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """Of a process of its own: one thread, and nothing of the caller's terminal."""
    dropped = ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "LC_ALL", "PYTHONIOENCODING", "PYTHONUTF8")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return kept | {"OMP_NUM_THREADS": "1"} | dict(changes or {})


def command(*arguments: str | Path) -> list[str]:
    """The command line of a process of its own."""
    return [sys.executable, "-m", "curvtool", *map(str, arguments)]


def module(
    name: str, *arguments: str, cwd: Path, timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run a module of these tests in a process of its own, from the root of the project."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", name, *arguments],
        cwd=cwd,
        env=environment({"PYTHONPATH": str(Path(__file__).parents[2])}),
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


def spawn(
    *arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run the command line as a process of its own."""
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(env),
        capture_output=True,
        check=False,
        timeout=120,
    )


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` with its content, but what a run says of itself."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and "__pycache__" not in path.parts
        and not path.name.endswith(".status.json")
    }


def left(folder: Path) -> list[str]:
    """Names of what lies in `folder`, but the status of runs."""
    names = sorted(path.name for path in folder.iterdir())
    return [name for name in names if not name.endswith(".status.json")]


def refused(*arguments: str | Path, code: ExitCode = ExitCode.UNUSABLE_INPUT) -> Ended:
    """Run a command that must be refused in the working directory, leaving it as it was."""
    before = tree(Path.cwd())
    ended = call(*arguments, "-q")
    assert ended.code == code, ended.err
    assert not ended.out
    assert tree(Path.cwd()) == before
    return ended


def refusal(*arguments: str | Path, code: ExitCode = ExitCode.UNUSABLE_INPUT) -> str:
    """The sentence of a refusal that needs no traceback."""
    ended = refused(*arguments, code=code)
    assert "Traceback" not in ended.err
    assert ended.err.startswith("curvtool: ")
    assert ended.err.count("curvtool: ") == 1
    return ended.sentence
