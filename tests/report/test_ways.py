"""The reports of `bench` and `check`: every line fits, every figure is a row's."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, RenderableType

from curvtool.report.bench import bench_report
from curvtool.report.check import check_report
from curvtool.report.json import bench_json, check_json, spectrum_json
from curvtool.report.spectrum import spectrum_report
from curvtool.results import BenchRun, Check, CheckRun, Outcome, SpectrumRun, Verdict, WayTrial
from tests import runs

FOREIGN = st.text(
    st.characters().filter(lambda char: not "\u2500" <= char <= "\u259f"), max_size=70
)
FIGURES = st.none() | st.floats(0, 1e12)
TRIALS = st.builds(
    WayTrial,
    way=FOREIGN,
    verdict=st.sampled_from(Verdict),
    exact=st.booleans(),
    seconds=FIGURES,
    spread=st.none() | st.floats(0, 10),
    setup_seconds=FIGURES,
    gradients=FIGURES,
    bytes_kept=st.none() | st.integers(0, 2**60),
    bytes_peak=st.none() | st.integers(0, 2**60),
    error=st.none() | st.floats(0),
    detail=FOREIGN,
)
REPORTS: dict[type, Callable[..., RenderableType]] = {
    BenchRun: bench_report,
    CheckRun: check_report,
    SpectrumRun: spectrum_report,
}


def render(run: Any, *, width: int = 80, **options: Any) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None, _environ={})
    shown = {"unicode": True, "plain": False, **options}
    console.print(REPORTS[type(run)](run, width=width, **shown), soft_wrap=True)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def planned(run: CheckRun) -> SpectrumRun:
    return runs.run(plan=run.plan)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(TRIALS, max_size=6),
    st.lists(FOREIGN, max_size=2),
    st.sampled_from(["bench", "check", "spectrum"]),
    st.integers(60, 140),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_every_line_fits_and_holds_only_what_the_terminal_shows(
    trials: list[WayTrial],
    texts: list[str],
    kind: str,
    width: int,
    unicode: bool,
    plain: bool,
    verbose: bool,
) -> None:
    plan = runs.plan(
        trials=trials,
        reason="".join(texts),
        adjustments=texts,
        way_of_rest="".join(texts),
        forecast=runs.FORECAST,
        seconds_per_product=None,
    )
    run: Any = {
        "bench": runs.bench_run(*trials),
        "check": runs.check_run(plan=plan),
        "spectrum": runs.run(plan=plan),
    }[kind]
    report = render(run, width=width, unicode=unicode, plain=plain, verbose=verbose)
    for line in report.splitlines():
        assert cell_len(line) <= width
        assert line.isprintable()
        assert line == line.rstrip()
        assert unicode or line.isascii()
    if plain:
        assert not re.search(r"[\u2500-\u259f]", report)
    assert len(report.split("\n")) == len(report.splitlines()) + 1


def test_bench_has_a_row_for_every_way() -> None:
    report = render(runs.bench_run(), width=100)
    assert re.search(r"✓ retained-graph +43\.7 +1\.57 +80\.4 MiB +5\.1e-07 +exact +│━+", report)
    assert re.search(r"✓ compiled +32\.8 +1\.18 .* fastest +│━+", report)
    assert re.search(r"✗ reverse-over-forward .* 7\.0e-02 +WRONG +│╌+", report)
    assert re.search(r"– finite-difference +56\.1 +2\.01 .* 2\.4e-04 +inexact +│╌+", report)
    assert re.search(r"– linearized [ –]+refused\n +NotImplementedError: no rule", report)


def test_bench_draws_its_conclusion_from_the_rows() -> None:
    report = " ".join(render(runs.bench_run()).split())
    assert "An exact product costs 1.18 gradients with compiled" in report
    assert "a difference of gradients costs 2.01 and is wrong by 2.4e-04" in report
    # 36.2 s of compiling over 98 batches that each save 43.7 - 32.8 ms: 33.9 products.
    assert "compiling took 36.2 s: it pays after some 34 products" in report.lower()
    assert "retained-graph before" in report
    assert "refused by --hvp here: reverse-over-forward" in report
    assert "medians of 7 products" in report
    assert "2 threads" in report


@pytest.mark.parametrize(
    ("trials", "said"),
    [
        ((runs.trial(verdict=Verdict.WRONG),), "No exact way gave the right product here"),
        (
            (
                runs.trial(verdict=Verdict.CHOSEN),
                runs.trial("finite-difference", verdict=Verdict.INEXACT, error=1.3),
            ),
            "has no right digit here",
        ),
        (
            (runs.trial(verdict=Verdict.CHOSEN),),
            "An exact product costs 1.57 gradients with retained-graph.",
        ),
    ],
)
def test_bench_says_no_more_than_it_knows(trials: tuple[WayTrial, ...], said: str) -> None:
    report = " ".join(render(runs.bench_run(*trials)).split())
    assert said in report
    assert "pays after" not in report


def test_a_comparison_that_ended_early_says_so() -> None:
    report = render(runs.bench_run(outcome=Outcome.INTERRUPTED))
    assert "The comparison ended early: interrupted." in report


def test_check_says_what_a_solve_will_cost() -> None:
    report = " ".join(render(runs.check_run()).split())
    for words in (
        "Hessian check runs/cifar10",
        "61 of 98 graphs kept, 5.3 GiB, the rest by reverse-over-reverse",
        "1.27 times as fast as retained-graph on the first batch",
        "450 ms per product · 1 min 43 s for 221 products · at most 8.5 GiB",
        "The product is that of the Hessian; one is right to 2.4e-07.",
        "A solve of 221 products will take about 1 min 43 s and 8.5 GiB",
        "Checked and planned in 4.2 s.",
    ):
        assert words in report
    assert re.search(r"compiled +32\.8 .* chosen", report)


def test_a_failed_check_is_no_passed_one() -> None:
    failed = Check(name="symmetry", defect=0.3, allowed=1e-3, passed=False, detail="u'Hv, v'Hu")
    run = runs.check_run(preflight=runs.preflight(failed))
    assert "NOT to be trusted" in render(run)
    assert check_json(run)["passed"] is False
    assert check_json(runs.check_run())["passed"] is True


def test_what_was_given_up_is_told() -> None:
    run = runs.run(plan=runs.plan(adjustments=("batches of 64 examples instead of 128", "second")))
    report = render(run)
    assert re.search(r"gave up +batches of 64 examples instead of 128\n +second", report)


@pytest.mark.parametrize(
    ("make", "run"),
    [
        (bench_json, runs.bench_run()),
        (check_json, runs.check_run()),
        (spectrum_json, planned(runs.check_run())),
    ],
)
def test_json_holds_every_way(make: Callable[[Any], dict[str, Any]], run: Any) -> None:
    shown = json.loads(json.dumps(make(run), allow_nan=False))
    trials = shown["trials"] if isinstance(run, BenchRun) else shown["plan"]["trials"]
    assert [t["way"] for t in trials] == [t.way for t in runs.TRIALS]
    assert [t["verdict"] for t in trials] == [t.verdict.value for t in runs.TRIALS]
    assert trials[1]["gradients"] == 1.18
    assert trials[-1]["seconds"] is None
    assert shown["curvtool_version"] == "0.1.0"
    if not isinstance(run, BenchRun):
        assert shown["plan"]["forecast"]["products"] == 221
