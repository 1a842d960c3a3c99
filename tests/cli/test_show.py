from __future__ import annotations

import io
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from rich.console import Console

from curvtool.cli.show import show_run
from curvtool.errors import ExitCode, InputError
from curvtool.storage.spectrum import write_spectrum
from tests import runs


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "run.h5"
    write_spectrum(path, runs.run(runs.pairs([2.0, 1.0], unconverged=[1])))
    return path


def shown(path: Path, *, as_json: bool = False, terminal: bool = False) -> str:
    console = Console(
        width=80,
        file=io.StringIO(),
        force_terminal=terminal,
        color_system="256" if terminal else None,
        _environ={},
    )
    code = show_run(path, as_json=as_json, verbose=False, console=console)
    assert code is ExitCode.DONE  # of a run that did not converge, too: it was shown
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_terminal_gets_colours_and_bars(path: Path) -> None:
    report = shown(path, terminal=True)
    assert "\x1b[" in report
    assert "━" in report


def test_off_a_terminal_there_are_plain_lines(path: Path) -> None:
    report = shown(path)
    assert "\x1b" not in report
    assert "━" not in report
    assert "NOT CONVERGED" in report


def test_json_is_one_object(path: Path) -> None:
    assert json.loads(shown(path, as_json=True))["converged"] == [True, False]


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        shown(tmp_path / "nothing.h5")


def test_showing_needs_no_torch(path: Path) -> None:
    code = textwrap.dedent("""
        import sys
        from pathlib import Path
        from rich.console import Console
        from curvtool.cli.show import show_run
        show_run(Path(sys.argv[1]), as_json=False, verbose=True, console=Console())
        assert "torch" not in sys.modules
        """)
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True)
