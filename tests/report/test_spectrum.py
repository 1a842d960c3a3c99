from __future__ import annotations

import dataclasses
import io
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from curvtool.report.json import spectrum_json
from curvtool.report.spectrum import spectrum_report
from curvtool.results import Certification, Check, Outcome, SpectrumRun
from tests import runs
from tests.report.drawn import STATES, any_proof


def render(
    run: SpectrumRun,
    *,
    width: int = 80,
    unicode: bool = True,
    plain: bool = False,
    verbose: bool = False,
) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None, _environ={})
    console.print(
        spectrum_report(run, width=width, unicode=unicode, plain=plain, verbose=verbose),
        soft_wrap=True,
    )
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@st.composite
def any_run(draw: st.DrawFn) -> SpectrumRun:
    """Runs with every text and figure that may appear in a report drawn freely."""
    finite = st.floats(allow_nan=False, allow_infinity=False)
    values = draw(st.lists(finite, max_size=8))
    errors = [draw(st.floats(min_value=0)) for _ in values]
    states = [draw(st.sampled_from(STATES)) for _ in values]
    pairs = runs.pairs(
        values,
        errors=errors,
        unconverged=[i for i, state in enumerate(states) if state == "open"],
        at_floor=[i for i, state in enumerate(states) if state == "floor"],
    )
    # Names may hold box characters of their own; without them, any that appear are ours.
    foreign = st.characters().filter(lambda char: not "\u2500" <= char <= "\u259f")
    texts = st.text(foreign, max_size=70)
    pairs = dataclasses.replace(
        pairs,
        outcome=draw(st.sampled_from(Outcome)),
        completeness=draw(any_proof()),
        certification=draw(st.sampled_from(Certification)),
        method=draw(texts),
        hvps_by_stage=draw(st.dictionaries(texts, st.integers(0, 10**9), max_size=3)),
        seconds=draw(st.floats(min_value=0, max_value=1e9)),
    )
    check = Check(
        name=draw(texts),
        defect=draw(st.none() | st.floats(min_value=0)),
        allowed=1e-4,
        passed=draw(st.none() | st.booleans()),
        detail=draw(texts),
    )
    problem = runs.problem(
        checkpoint=draw(texts),
        model=draw(texts),
        data=draw(texts),
        loss=draw(texts),
        loss_value=draw(st.floats()),
        accuracy=draw(st.none() | st.floats(0, 1)),
        rmse=draw(st.none() | st.floats(min_value=0)),
        target_std=draw(st.none() | st.floats(min_value=0)),
        notes=(draw(texts),),
        train_mode=draw(st.booleans()),
    )
    return runs.run(pairs, problem=problem, preflight=runs.preflight(check))


@settings(max_examples=60)
@given(any_run(), st.integers(60, 140), st.booleans(), st.booleans(), st.booleans())
def test_every_line_fits_and_holds_only_what_the_terminal_shows(
    run: SpectrumRun, width: int, unicode: bool, plain: bool, verbose: bool
) -> None:
    report = render(run, width=width, unicode=unicode, plain=plain, verbose=verbose)
    for line in report.splitlines():
        assert cell_len(line) <= width
        assert line.isprintable()
        assert line == line.rstrip()
        assert unicode or line.isascii()
    if plain:
        assert not re.search(r"[\u2500-\u259f]", report)
    assert len(report.split("\n")) == len(report.splitlines()) + 1


@settings(max_examples=60)
@given(any_run(), st.integers(60, 140), st.booleans())
def test_a_row_says_what_became_of_the_pair(run: SpectrumRun, width: int, plain: bool) -> None:
    report = render(run, width=width, plain=plain)
    met, stopped = {}, {}
    for line in report.splitlines():
        if match := re.match(r"  (?:[✓≈✗] )? *(\d+)  .*±", line):
            met[int(match[1]) - 1] = not re.search(r"NOT CONVERGED$|at the limit$", line)
            stopped[int(match[1]) - 1] = line.endswith("at the limit")
    assert met == dict(enumerate(run.pairs.converged.tolist()))
    assert stopped == dict(enumerate(run.pairs.at_floor.tolist()))


def test_rows_off_a_terminal_name_every_state() -> None:
    pairs = runs.pairs([12.8034, 9.1, 8.0], errors=[2e-4, 0.4, 0.1], unconverged=[1], at_floor=[2])
    report = render(runs.run(pairs), plain=True)
    assert re.search(r"3 +8\.00* +± 0\.10* .* at the limit$", report, re.M)
    assert re.search(r"1 +12\.8034 ± 0\.0002 .* converged$", report, re.M)
    assert re.search(r"2 +9\.1 +± 0\.4 .* NOT CONVERGED$", report, re.M)


def test_errors_of_real_predictions_stand_beside_the_spread_of_their_targets() -> None:
    problem = runs.problem(accuracy=None, loss="mse", rmse=0.08412, target_std=0.29)
    report = " ".join(render(runs.run(problem=problem)).split())
    assert "RMSE 0.08412" in report
    assert "targets' standard deviation 0.29" in report
    assert "accuracy" not in report


def test_the_report_says_what_matters() -> None:
    report = render(runs.run())
    for words in (
        "Hessian spectrum  runs/cifar10/resnet18-sgd-lr0.1/epoch_090.pt",
        "11,173,962 parameters",
        "50,000 examples",
        "cross_entropy",
        "accuracy 99.31 %",
        "Training regularisation is not included",
        "20 eigenvalues, largest in magnitude",
        "all converged",
        "All requested pairs met the tolerance",
        "20 eigenvalues, largest in magnitude · complete",
        "Complete: with probability 99.9 % the list holds the 20 eigenvalues of largest",
        "Bounds from float64 products of random combinations (99.9 % for each value)",
        "retained-graph · float32 · cuda:0 · 466 ms per product",
        "61 of 98 graphs kept, 5.3 GiB",
        "214: solve 194, certify 8, probe 12",
        "2.14 products per second",
        "against float64 on the preflight batch",
    ):
        assert words in report
    assert "NOT CONVERGED" not in report


@pytest.mark.parametrize("outcome", Outcome)
def test_the_ending_says_how_it_ended(outcome: Outcome) -> None:
    report = render(runs.run(runs.pairs([2.0, 1.0], unconverged=[1], outcome=outcome)))
    words = outcome.sentence[0].upper() + outcome.sentence[1:]
    assert words in " ".join(report.split())
    assert f"✓ {words[0]}" not in report  # a pair is open, whatever it says


def test_a_list_that_had_to_be_proved_and_was_not_ends_in_red() -> None:
    values = np.array([3.0, 2.0, 1.0, 0.5])
    pairs = runs.pairs(
        values, outcome=Outcome.INCOMPLETE, completeness=runs.proved(values, all_of_it=False)
    )
    words = " ".join(render(runs.run(pairs)).split())
    assert "✗ The pairs are as exact as asked, but the list was not proved complete" in words
    assert "proved to rank 1 of 4" in words


def test_weight_decay_and_train_mode_are_told() -> None:
    run = runs.run(problem=runs.problem(weight_decay=5e-4, train_mode=True, notes=("one tied",)))
    report = render(run)
    assert "Weight decay 0.0005: H includes it" in report
    assert "regularisation" not in report
    assert "train mode" in report
    assert "One tied." in report


def test_signs_are_counted_only_where_the_bound_leaves_no_doubt() -> None:
    run = runs.run(runs.pairs([3.0, -2.0, -0.1, 0.1], errors=[0.1, 0.1, 0.2, 0.05]))
    assert "1 negative · 1 of unknown sign" in render(run)


def test_long_tables_show_both_ends_and_count_the_rest() -> None:
    run = runs.run(runs.pairs(runs.spectrum(500), unconverged=range(480, 500)))
    report = render(run)
    assert "… 460 more in the run file, 10 of them NOT CONVERGED (-v shows all)" in report
    assert len(re.findall(r"^  [✓✗] ", report, re.M)) == 40 + len(run.preflight.checks)
    assert len(re.findall(r"^  [✓✗] +\d+ ", render(run, verbose=True), re.M)) == 500


@pytest.mark.parametrize(
    "values", [[0.0, 0.0], [0.37], [-3.0, -1.0], [1e-30, -2e-31], [1e30, 1e3], []]
)
@pytest.mark.parametrize("width", [60, 80, 120])
def test_odd_spectra_are_drawn(values: list[float], width: int) -> None:
    report = render(runs.run(runs.pairs(values)), width=width)
    assert ("Where they lie" in report) == any(values)


def test_a_zero_hessian_has_neither_signs_nor_relative_errors() -> None:
    report = render(runs.run(runs.pairs([0.0], errors=[1e-9])))
    assert "0 negative · 1 of unknown sign" in report
    assert re.search(r"1 +0 ± 1\.0e-09 +–", report)


def test_a_failed_check_is_loud_and_says_why() -> None:
    failed = Check(name="second way", defect=0.3, allowed=1e-4, passed=False, detail="they differ")
    skipped = Check(name="cast", defect=None, allowed=1e-4, passed=None, detail="it will not cast")
    report = render(runs.run(preflight=runs.preflight(failed, skipped)))
    assert re.search(r"✗ second way +3\.0e-01 > 1\.0e-04  FAILED\n +they differ", report)
    assert re.search(r"– cast +not made\n +it will not cast", report)


def test_no_name_can_forge_a_line() -> None:
    problem = runs.problem(checkpoint="x\n✓ forged\x1b[2K.pt", notes=("a\rb",))
    report = render(runs.run(problem=problem))
    assert "\x1b" not in report
    assert "\r" not in report
    assert not re.search(r"^✓ forged", report, re.M)


def test_markup_in_names_is_text() -> None:
    assert "[bold]x[/bold]" in render(runs.run(problem=runs.problem(model="[bold]x[/bold]")))


def test_colours_are_left_out_off_a_terminal() -> None:
    console = Console(
        width=80, file=io.StringIO(), force_terminal=True, color_system="truecolor", _environ={}
    )
    console.print(spectrum_report(runs.run(), width=80, unicode=True, plain=True))
    assert isinstance(console.file, io.StringIO)
    assert "\x1b" not in console.file.getvalue()


def test_json_holds_plain_types_and_every_figure() -> None:
    run = runs.run(runs.pairs(runs.spectrum(5), unconverged=[4]))
    shown = json.loads(json.dumps(spectrum_json(run), allow_nan=False))
    np.testing.assert_array_equal(shown["eigenvalues"], run.pairs.eigenvalues)
    np.testing.assert_array_equal(shown["eigenvalue_errors"], run.pairs.eigenvalue_errors)
    np.testing.assert_array_equal(shown["residual_norms"], run.pairs.residual_norms)
    assert shown["converged"] == [True] * 4 + [False]
    assert shown["outcome"] == "max_hvps"
    assert shown["outcome_sentence"] == Outcome.MAX_HVPS.sentence
    assert shown["all_converged"] is False
    assert shown["problem"]["num_parameters"] == 11_173_962
    assert shown["preflight"]["checks"][0]["name"] == "determinism"
    assert shown["config"] == run.config


def test_json_has_null_for_what_is_not_finite() -> None:
    run = runs.run(problem=runs.problem(loss_value=float("nan")), config={"x": float("inf")})
    shown = spectrum_json(run)
    assert shown["problem"]["loss_value"] is None
    assert shown["config"] == {"x": None}


AT_FLOOR = runs.pairs([3.0, 2.0, -1.0], errors=[2e-4, 9.9e-3, 9.2e-3], at_floor=[1, 2])


def test_pairs_at_the_floor_are_counted_apart() -> None:
    report = render(runs.run(AT_FLOOR))
    words = " ".join(report.split())
    said = "1 met the tolerance, 2 stopped at float32's limit (± 0.0099); --dtype float64 goes on"
    assert said in words
    assert "≈ Every pair met the tolerance or stopped at the floor of the arithmetic" in words
    for word in ("all converged", "NOT CONVERGED", "✗", "All requested pairs met"):
        assert word not in report


def test_the_floor_of_float64_has_no_remedy() -> None:
    words = " ".join(render(runs.run(AT_FLOOR, plan=runs.plan(dtype="float64"))).split())
    assert "2 stopped at float64's limit (± 0.0099) " in words
    assert "goes on" not in words


def test_a_basis_in_bfloat16_is_named_as_the_limit() -> None:
    words = " ".join(render(runs.run(AT_FLOOR, config={"basis_dtype": "bfloat16"})).split())
    assert "stopped at the limit of a basis in bfloat16 (± 0.0099); --basis-dtype auto" in words


def test_the_floor_fails_a_run_whose_tolerance_was_asked_for() -> None:
    report = render(runs.run(AT_FLOOR, config={"tol_given": True}))
    assert "✗ Every pair met the tolerance or stopped at the floor" in report
    assert "The tolerance that was asked for lies below that floor" in report


def test_json_tells_the_floor_apart() -> None:
    shown = spectrum_json(runs.run(AT_FLOOR))
    assert shown["converged"] == [True, False, False]
    assert shown["at_floor"] == [False, True, True]
    assert (shown["met_tolerance"], shown["stopped_at_floor"]) == (1, 2)
    assert shown["largest_floor_error"] == 9.9e-3
    assert shown["all_converged"] is False
    assert shown["outcome"] == "floor"
    assert spectrum_json(runs.run())["largest_floor_error"] is None
