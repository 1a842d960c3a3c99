"""Help: whole, quick, and with an example for every command."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import textwrap
from importlib.metadata import version
from pathlib import Path

import pytest
import typer

from curvtool.cli.app import app
from curvtool.errors import ExitCode
from tests.cli.calls import call, spawn

COMMANDS = {info.callback.__name__: info for info in app.registered_commands if info.callback}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_help(name: str) -> None:
    callback = COMMANDS[name].callback
    assert callback is not None
    for parameter in inspect.signature(callback, eval_str=True).parameters.values():
        (info,) = parameter.annotation.__metadata__
        assert isinstance(info, typer.models.ParameterInfo), parameter.name
        assert info.help, parameter.name
        assert info.help.endswith("."), parameter.name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_on_one_line(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    ended = call(name, "--help")
    assert ended.code == ExitCode.DONE
    examples = re.findall(rf"^ +(curvtool {name} .*?) *$", ended.out, re.MULTILINE)
    assert examples
    callback = COMMANDS[name].callback
    assert callback is not None
    written = re.findall(r"^ *(curvtool .*)$", callback.__doc__ or "", re.MULTILINE)
    assert examples == written  # none was broken over two lines
    assert max(map(len, ended.out.splitlines())) <= 80


def test_the_help_lists_every_command() -> None:
    ended = call("--help")
    assert ended.code == ExitCode.DONE
    for name in COMMANDS:
        assert re.search(rf"\b{name}\b", ended.out)
    assert call("-h").out == ended.out
    assert not ended.err


def test_no_arguments_show_the_help() -> None:
    ended = call()
    assert ended.code == ExitCode.USAGE
    assert ended.out.strip() == call("--help").out.strip()
    assert not ended.err


def test_the_version() -> None:
    assert call("--version").out == f"curvtool {version('curvtool')}\n"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["spectrum", "--help"], ["show", "--help"], ["spectrum", "--wrong"]]
)
def test_help_imports_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    code = textwrap.dedent(f"""
        import sys
        sys.argv[1:] = {arguments}
        from curvtool.__main__ import main
        try:
            main()
        except SystemExit as end:
            assert end.code in (0, 2), end.code
        heavy = {{"torch", "numpy", "h5py", "scipy"}} & sys.modules.keys()
        assert not heavy, heavy
        """)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)


def test_help_off_a_terminal_has_no_escapes(tmp_path: Path) -> None:
    shown = spawn("spectrum", "--help", cwd=tmp_path)
    assert shown.returncode == ExitCode.DONE
    assert b"\x1b" not in shown.stdout
    assert not shown.stderr
