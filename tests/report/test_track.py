"""The report of a sweep."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from curvtool.cli.show import print_run
from curvtool.report.json import track_json
from curvtool.report.track import track_report
from curvtool.results import Outcome, Tracked, TrackRun
from tests import runs, sweeps
from tests.report.drawn import ERRORS, FIGURES, FINITE, FOREIGN, OUTCOMES, arrays


def render(run: TrackRun, *, width: int = 80, **more: Any) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None, _environ={})
    page = {"unicode": True, "plain": False, "verbose": False} | more
    console.print(track_report(run, width=width, **page), soft_wrap=True)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@st.composite
def any_row(draw: st.DrawFn) -> Tracked:
    k = draw(st.integers(0, 3))
    return Tracked(
        name=draw(FOREIGN),
        checkpoint=draw(FOREIGN),
        file=draw(FOREIGN),
        outcome=draw(OUTCOMES),
        message=draw(FOREIGN),
        loss=draw(FIGURES),
        gradient_norm=draw(FIGURES),
        hvps=draw(st.integers(0, 10**9)),
        seconds=draw(st.floats(0, 1e9)),
        eigenvalues=draw(arrays(k, FINITE)),
        eigenvalue_errors=draw(arrays(k, ERRORS)),
        converged=draw(arrays(k, st.sampled_from([0.0, 1.0]))).astype(np.bool_),
        at_floor=draw(arrays(k, st.sampled_from([0.0, 1.0]))).astype(np.bool_),
        complete=draw(st.booleans()),
        proved_rank=draw(st.integers(0, 3)),
        started_from=draw(FOREIGN),
        compared_with=draw(FOREIGN),
        cosines=draw(arrays(draw(st.integers(0, 3)), st.floats(0, 1))),
    )


@settings(max_examples=40)
@given(
    st.lists(any_row(), max_size=5),
    st.integers(60, 140),
    *(st.booleans() for _ in range(4)),
    FOREIGN,
)
def test_every_line_fits_and_holds_only_what_the_terminal_shows(
    rows: list[Tracked],
    width: int,
    unicode: bool,
    plain: bool,
    verbose: bool,
    solved: bool,
    text: str,
) -> None:
    problem = runs.problem(model=text, loss=text) if solved else None
    run = sweeps.sweep(rows=rows, problem=problem, which=text, accuracy=text)
    report = render(run, width=width, unicode=unicode, plain=plain, verbose=verbose)
    for line in report.splitlines():
        assert cell_len(line) <= width
        assert line.isprintable()
        assert line == line.rstrip()
        assert unicode or line.isascii()
    if plain:
        assert not re.search(r"[\u2500-\u259f]", report)
    json.dumps(track_json(run), allow_nan=False)


def test_a_row_says_what_is_known() -> None:
    report = render(sweeps.sweep(), plain=True)
    assert "2 checkpoints · torchvision:resnet18 · 11,173,962 parameters" in report
    assert re.search(r"step_100 +0\.2394 +12\.8034 ± 0\.0002 +– +31$", report, re.M)
    # (0.99^2 + 0.9^2 + 0.5^2) / 3
    assert re.search(r"step_200 +0\.2394 +12\.8034 ± 0\.0002 +0\.680 +24$", report, re.M)
    words = " ".join(report.split())
    assert "Every pair of every checkpoint met the tolerance" in words
    assert "Gur-Ari, Roberts and Dyer 2018" in words
    assert "1 solve began from the eigenvectors" in words
    assert "55 in all · 24 to 31 a checkpoint" in words


def test_nothing_unconverged_passes_for_converged() -> None:
    early = sweeps.row(
        "step_200", outcome=Outcome.MAX_HVPS, converged=np.array([True, False, False])
    )
    unproved = sweeps.row("step_250", outcome=Outcome.MAX_HVPS)
    run = sweeps.sweep(sweeps.row(), early, unproved, sweeps.FAILED, sweeps.TO_COME)
    for plain in (False, True):
        report = render(run, plain=plain)
        lines = {
            name: line for line in report.splitlines() for name in re.findall(r"step_\d+", line)[:1]
        }
        assert "NOT CONVERGED" in lines["step_200"]
        assert "NOT FINISHED" in lines["step_250"]
        assert "to come" in lines["step_400"]
        assert re.search(r"step_300 .*FAILED", report)
        assert "step_300: run/step_300.pt: expected a checkpoint" in report
        words = " ".join(report.split())
        assert "1 of 5 checkpoints failed; 1 of 5 checkpoints not analysed yet; 2 of 5" in words
        assert "Every pair" not in words
    marked = render(run)
    assert marked.count("✓") == 1
    assert run.outcome is Outcome.INTERRUPTED
    assert sweeps.sweep(sweeps.row(), early, sweeps.FAILED).outcome is Outcome.FAILED


def test_verbose_lists_every_pair_and_angle() -> None:
    report = render(sweeps.sweep(), verbose=True)
    assert report.count("12.8034 ± 0.0002 · 9.12 ± 0.03 · -0.5100 ± 0.0010") == 2
    assert "cosines of the angles to the subspace of step_100" in report
    assert "0.990 · 0.900 · 0.500" in report


def test_json_has_every_figure() -> None:
    console = Console(file=io.StringIO(), width=80, _environ={})
    run = sweeps.sweep(sweeps.row(), sweeps.LATER, sweeps.FAILED)
    print_run(run, as_json=True, verbose=False, console=console)
    assert isinstance(console.file, io.StringIO)
    found = json.loads(console.file.getvalue())
    assert found["kind"] == "track"
    assert found["outcome"] == "failed"
    assert [row["name"] for row in found["checkpoints"]] == ["step_100", "step_200", "step_300"]
    assert found["checkpoints"][1]["cosines"] == [0.99, 0.9, 0.5]
    assert found["checkpoints"][1]["eigenvalues"] == [12.8034, 9.12, -0.51]
    assert found["checkpoints"][0]["overlap"] is None
    assert found["checkpoints"][2]["loss"] is None
    assert found["hvps"] == 55
