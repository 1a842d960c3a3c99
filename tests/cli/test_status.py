"""`curvtool status`: how the runs of a folder stand."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import textwrap
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from curvtool.errors import ExitCode
from curvtool.report.status import status_report
from curvtool.results import RunStatus, Standing
from curvtool.storage.spectrum import write_spectrum
from curvtool.storage.status import Status
from tests import runs
from tests.cli.calls import call
from tests.report.drawn import FOREIGN

HERE = socket.gethostname()


def tell(output: Path, **changes: Any) -> None:
    """A status file, as a run writes it."""
    Status(output).tell("running")
    path = output.with_name(output.name + ".status.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def gone() -> int:
    """The id of a process that is no more."""
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Runs of every state, two of them without a status file or without a run file."""
    deep = tmp_path / "deep"
    deep.mkdir()
    write_spectrum(tmp_path / "step_200.spectrum.h5", runs.run())
    tell(tmp_path / "step_200.spectrum.h5", state="done", hvps=5.0)
    early = runs.run(runs.pairs([2.0, 1.0], unconverged=[1]))
    write_spectrum(tmp_path / "old.h5", early)
    tell(tmp_path / "step_1000.spectrum.h5", pid=os.getppid(), host=HERE, hvps=17.0)
    tell(tmp_path / "far.h5", pid=1, host="another")
    tell(tmp_path / "dead.h5", pid=gone(), host=HERE)
    tell(deep / "stopped.h5", state="interrupted", message="Interrupted by SIGTERM. Go on.")
    tell(deep / "failed.h5", state="failed", message="net.pt: cut short.")
    tell(deep / "lost.h5", state="done")
    # What is none of ours.
    (tmp_path / "other.h5").write_text("no HDF5")
    (tmp_path / "other.status.json").write_text('{"state": "done"}')
    (tmp_path / "x.h5.state").mkdir()
    (tmp_path / "x.h5.state" / "y.h5.status.json").write_text('{"schema": "curvtool-status/1"}')
    return tmp_path


def states(folder: Path) -> dict[str, str]:
    found = json.loads(call("status", folder, "--json").out)["runs"]
    return {os.path.relpath(run["run"], folder): run["state"] for run in found}


def test_every_run_has_its_state(folder: Path) -> None:
    assert states(folder) == {
        "step_200.spectrum.h5": "done",
        "old.h5": "done",
        "step_1000.spectrum.h5": "running",
        "far.h5": "running",
        "dead.h5": "stale",
        "deep/stopped.h5": "interrupted",
        "deep/failed.h5": "failed",
        "deep/lost.h5": "stale",
    }
    order = [name for name in states(folder) if name.startswith("step")]
    assert order == ["step_200.spectrum.h5", "step_1000.spectrum.h5"]


def test_json_has_what_a_scheduler_asks(folder: Path) -> None:
    ended = call("status", folder, "--json")
    assert ended.code == ExitCode.DONE
    found = json.loads(ended.out)
    assert found["counts"] == {
        "running": 2,
        "stale": 2,
        "interrupted": 1,
        "failed": 1,
        "done": 2,
    }
    by_name = {Path(run["run"]).name: run for run in found["runs"]}
    whole = by_name["step_200.spectrum.h5"]
    assert (whole["kind"], whole["outcome"], whole["hvps"]) == ("spectrum", "converged", 214)
    assert by_name["old.h5"]["outcome"] == "max_hvps"
    assert by_name["step_1000.spectrum.h5"]["hvps"] == 17.0
    assert by_name["failed.h5"]["message"] == "net.pt: cut short."


def test_the_report_names_all_and_says_what_asks_for_something(folder: Path) -> None:
    ended = call("status", folder)
    assert ended.code == ExitCode.DONE
    assert not ended.err
    assert "8 runs in " in ended.out
    assert "2 running · 2 stale · 1 interrupted · 1 failed · 2 done" in ended.out
    words = " ".join(ended.out.split())
    assert "deep/failed.h5: net.pt: cut short." in words
    assert "is gone; the same command continues." in words
    assert "Interrupted by SIGTERM" not in words
    assert "Interrupted by SIGTERM" in call("status", folder, "-v").out


@pytest.mark.parametrize("name", ["failed.h5", "failed.h5.status.json"])
def test_one_run(folder: Path, name: str) -> None:
    ended = call("status", folder / "deep" / name)
    assert ended.code == ExitCode.DONE
    assert "1 run in " in ended.out
    assert "net.pt: cut short." in ended.out


def test_a_folder_without_runs_has_none(tmp_path: Path) -> None:
    ended = call("status", tmp_path)
    assert ended.code == ExitCode.DONE
    assert ended.out.startswith("0 runs in ")


def test_what_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("absent", "absent.h5", "absent.h5.status.json"):
        before = call("status", name)
        assert before.code == ExitCode.UNUSABLE_INPUT
        assert f"Cannot tell how {name} stands" in before.err


def test_it_needs_no_torch(folder: Path) -> None:
    code = textwrap.dedent("""
        import sys
        from curvtool.cli.app import run
        assert run(["status", sys.argv[1]]) == 0
        assert "torch" not in sys.modules
        """)
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, capture_output=True)


NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
AGES = st.integers(-10, 10**8).map(lambda s: (NOW - timedelta(seconds=s)).isoformat())


@settings(max_examples=40)
@given(
    st.lists(
        st.builds(
            RunStatus,
            output=FOREIGN,
            standing=st.sampled_from(Standing),
            kind=FOREIGN,
            outcome=FOREIGN.map(lambda text: text[:12]),
            hvps=st.floats(0, 1e9),
            updated=AGES | st.sampled_from(["", "soon", "2026-01-31T12:00:00"]),
            message=FOREIGN,
        ),
        max_size=5,
    ),
    FOREIGN,
    st.integers(60, 140),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_every_line_fits_and_holds_only_what_the_terminal_shows(
    found: list[RunStatus], folder: str, width: int, unicode: bool, plain: bool, verbose: bool
) -> None:
    made = status_report(
        found,
        folder=folder,
        now=NOW,
        width=width,
        unicode=unicode,
        plain=plain,
        verbose=verbose,
    )
    console = Console(width=width, file=io.StringIO(), color_system=None, _environ={})
    console.print(made, soft_wrap=True)
    assert isinstance(console.file, io.StringIO)
    for line in console.file.getvalue().splitlines():
        assert cell_len(line) <= width
        assert line.isprintable()
        assert line == line.rstrip()
        assert unicode or line.isascii()
