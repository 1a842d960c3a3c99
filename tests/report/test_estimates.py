"""The reports of trace, density, diag and spectra by layer."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from curvtool.cli.show import print_run, show_run
from curvtool.report.blocks import spectrum_layers_report
from curvtool.report.density import density_report
from curvtool.report.diag import diag_report
from curvtool.report.trace import trace_report
from curvtool.results import (
    BlockSpectra,
    DensityRun,
    DiagRun,
    Outcome,
    SpectrumBlocksRun,
    TraceRun,
    unproved,
)
from curvtool.storage.density import write_density
from curvtool.storage.diag import write_diag
from curvtool.storage.spectrum_layers import write_spectrum_layers
from curvtool.storage.trace import write_trace
from tests import estimates, runs
from tests.report.drawn import ANY

REPORTS: dict[type, Any] = {
    TraceRun: trace_report,
    DensityRun: density_report,
    DiagRun: diag_report,
    SpectrumBlocksRun: spectrum_layers_report,
}
WRITERS: dict[type, Any] = {
    TraceRun: write_trace,
    DensityRun: write_density,
    DiagRun: write_diag,
    SpectrumBlocksRun: write_spectrum_layers,
}
RUNS: dict[str, Any] = {
    "trace": estimates.trace_run(),
    "density": estimates.density_run(estimates.density(outliers=runs.spectrum(9))),
    "density by layer": estimates.density_run(*estimates.layer_densities()),
    "diag": estimates.diag_run(),
    "spectra by layer": estimates.blocks_run(),
}
OPEN: dict[str, Any] = {
    "trace": estimates.trace_run(estimates.trace(outcome=Outcome.MAX_HVPS)),
    "trace too wide": estimates.trace_run(estimates.trace(interval=(1100.0, 1390.0))),
    "trace of one pass": estimates.trace_run(
        estimates.trace(stderr=np.nan, interval=(-np.inf, np.inf), degrees_of_freedom=0.0)
    ),
    "trace that is nan": estimates.trace_run(
        estimates.trace(trace=np.nan, interval=(np.nan, np.nan), rel_err=None)
    ),
    "density": estimates.density_run(estimates.density(outcome=Outcome.INTERRUPTED)),
    "density by layer": estimates.density_run(
        *estimates.layer_densities()[:2],
        estimates.density(layer="fc", outcome=Outcome.MAX_HVPS),
    ),
    "diag": estimates.diag_run(estimates.diagonal(outcome=Outcome.STAGNATED)),
    "diag too wide": estimates.diag_run(estimates.diagonal(rel_err=0.06)),
    "spectra by layer": estimates.blocks_run(estimates.blocks([2])),
}


def render(run: Any, *, width: int = 80, **options: Any) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None, _environ={})
    shown = {"unicode": True, "plain": False, **options}
    console.print(REPORTS[type(run)](run, width=width, **shown), soft_wrap=True)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@settings(max_examples=25, deadline=None)
@given(ANY, st.integers(60, 140), st.booleans(), st.booleans(), st.booleans())
def test_every_line_fits_and_holds_only_what_the_terminal_shows(
    run: Any, width: int, unicode: bool, plain: bool, verbose: bool
) -> None:
    report = render(run, width=width, unicode=unicode, plain=plain, verbose=verbose)
    for line in report.splitlines():
        assert cell_len(line) <= width
        assert line.isprintable()
        assert line == line.rstrip()
        assert unicode or line.isascii()
    if plain:
        assert not re.search(r"[\u2500-\u25ff]", report)
    assert len(report.split("\n")) == len(report.splitlines()) + 1


@settings(max_examples=60, deadline=None)
@given(ANY)
def test_json_is_finite_and_plain(run: Any) -> None:
    console = Console(width=80, file=io.StringIO(), color_system=None, _environ={})
    print_run(run, as_json=True, verbose=False, console=console)
    assert isinstance(console.file, io.StringIO)
    json.loads(console.file.getvalue(), parse_constant=pytest.fail)


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_stored_run_is_shown_as_it_was_after_its_computation(
    name: str, as_json: bool, tmp_path: Path
) -> None:
    run = RUNS[name]
    WRITERS[type(run)](tmp_path / "run.h5", run)
    texts = []
    for stored in (False, True):
        console = Console(width=100, file=io.StringIO(), color_system=None, _environ={})
        options: dict[str, Any] = {"as_json": as_json, "verbose": True, "console": console}
        if stored:
            show_run(tmp_path / "run.h5", **options)
        else:
            print_run(run, **options)
        assert isinstance(console.file, io.StringIO)
        texts.append(console.file.getvalue())
    assert texts[0] == texts[1]
    if as_json:
        assert json.loads(texts[0])["kind"] in {"trace", "density", "diag", "spectrum-layers"}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("form", ["unicode", "ascii", "plain"])
def test_reports_are_as_they_were(name: str, width: int, form: str) -> None:
    stem = f"{name.replace(' ', '_')}_{width}_{form}.txt"
    report = render(RUNS[name], width=width, unicode=form != "ascii", plain=form == "plain")
    pinned = Path(__file__).parent / "pinned" / stem
    assert report == pinned.read_text()


@pytest.mark.parametrize("name", OPEN)
@pytest.mark.parametrize("plain", [False, True])
def test_what_is_not_converged_is_told_twice(name: str, plain: bool) -> None:
    report = render(OPEN[name], plain=plain)
    assert "NOT CONVERGED" in report
    assert not re.search(r"(?<!NOT )\ball (done|converged)", report)
    if not plain:
        ending = [line for line in report.splitlines() if re.match("[✓✗] ", line)]
        assert [line[0] for line in ending] == ["✗"]


@pytest.mark.parametrize("name", RUNS)
def test_what_is_converged_has_no_red_mark(name: str) -> None:
    report = render(RUNS[name])
    assert "NOT" not in report.replace("NOTE", "")
    assert "✗" not in report


def test_a_trace_says_what_matters() -> None:
    report = render(RUNS["trace"], width=100)
    for words in (
        "Hessian trace  runs/cifar10/resnet18-sgd-lr0.1/epoch_090.pt",
        "Trace 1,241 ± 11 · converged · asked for ± 1 % of it",
        "1,231 to 1,252 · 95 % confidence · ± 0.81 % of the trace",
        "standard error of the probes 5.0 · 93.4 degrees of freedom",
        "± 0.021 of it · by 2 products held against float64 over all examples",
        # Of ends 38,600 and 41,900 about 40,211.7: the roots lie 4.1 and 4.2 from 200.5.
        "Frobenius norm 201 ± 5 · its square 40,200 ± 1,800 · 95 % each",
        "✓ The interval is as narrow as asked",
        "rademacher probes, one for each batch",
        "8 directions taken out exactly hold 702.1 of the trace",
        "A probe for every batch has 11.7 times less variance",
        "36.5: pilot 4, deflate 28.5, probe 4",
    ):
        assert words in report
    # The longer sides of the intervals, not the standard errors.
    assert re.search(r"fc +703 ± 3 +56\.6 % +111 +± 6 +│━", report)


def test_a_dense_trace_has_the_error_of_its_arithmetic() -> None:
    found = estimates.trace(
        trace=2.5,
        stderr=0.0,
        interval=(2.5 - 3e-9, 2.5 + 3e-9),
        arithmetic=3e-9,
        degrees_of_freedom=np.inf,
        method="dense",
        probes="",
        sharing="",
        deflated=0,
    )
    report = render(estimates.trace_run(found))
    assert "Trace 2.500000000 ± 0.000000003 · converged" in report
    assert "no probes: what the arithmetic leaves open" in " ".join(report.split())
    assert "standard error of the probes" not in report
    assert "✓ The trace is that of the whole diagonal" in report


def test_only_a_zero_matrix_has_no_interval() -> None:
    nothing = estimates.trace(trace=0.0, stderr=0.0, interval=(0.0, 0.0), arithmetic=0.0)
    assert "none: H is zero" in render(estimates.trace_run(nothing))


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (None, ("earlier version", "no bound")),
        (0, ("by the rounding of a few examples only",) * 2),
        (1, ("by 1 product held against float64",) * 2),
    ],
)
def test_how_the_arithmetic_is_known_is_said(samples: int | None, words: tuple[str, str]) -> None:
    shown = (
        estimates.trace_run(estimates.trace(float64_samples=samples)),
        estimates.diag_run(estimates.diagonal(float64_samples=samples)),
    )
    for run, said in zip(shown, words, strict=True):
        assert said in " ".join(render(run, width=100).split())


def test_the_floor_of_the_arithmetic_is_named() -> None:
    for run in (
        estimates.trace_run(estimates.trace(outcome=Outcome.FLOOR)),
        estimates.diag_run(estimates.diagonal(outcome=Outcome.FLOOR)),
    ):
        report = " ".join(render(run).split())
        assert "topped at the floor of the arithmetic before" in report
        assert "✗" in report


def test_a_diagonal_that_may_be_zero_has_no_relative_error() -> None:
    report = render(estimates.diag_run(estimates.diagonal(rel_err=np.inf)))
    assert "unknown: the diagonal may be zero" in " ".join(report.split())
    assert "NOT CONVERGED" in report


def test_an_estimated_error_is_not_called_an_interval() -> None:
    report = render(estimates.trace_run(estimates.trace(method="xtrace", is_interval=False)))
    assert "estimated only" in report
    assert "confidence" not in report
    assert "its error is an estimate without coverage" in " ".join(report.split())
    assert "✓ The estimated error is as small as asked" in report


def test_a_trace_whose_interval_holds_zero_has_no_sign() -> None:
    found = estimates.trace(trace=0.1, interval=(-0.9, 1.1), rel_err=None, abs_err=2.0)
    report = render(estimates.trace_run(found))
    assert "✓ The interval is as narrow as asked" in report
    assert "sign of the trace is not known" in report
    assert "asked for ± 2" in report


def test_a_density_says_what_matters() -> None:
    report = render(RUNS["density"], width=100)
    for words in (
        "12 taken out · 4 probes of 40 steps · all done",
        "sign undetermined",
        "How many lie beyond",
        "▼ taken out, or of a spectrum run",
        "each interval holds with its own probability",
        "sum log(l + a) has no meaning here",
        "215: deflate 55, probe 160",
    ):
        assert words in report
    assert re.search(r"trace +between 1,255 and 1,349 +sum l", report)
    assert re.search(r"log-determinant, a = 0\.1 +–", report)
    assert "Known within a factor only: effective dimension, a = 0.1" in report


@pytest.mark.parametrize("name", ["density", "density by layer"])
@pytest.mark.parametrize("verbose", [False, True])
def test_no_figure_of_a_density_has_a_symmetric_error(name: str, verbose: bool) -> None:
    report = render(RUNS[name], plain=True, verbose=verbose)
    figures, _, _ = report.partition("How it was computed")
    assert set(re.findall(r"(\S*) ?±", figures)) <= {"within"}  # of the zero band alone


@given(st.floats(-1e12, 1e12), st.floats(0, 1e12))
def test_printed_limits_hold_what_they_were_made_of(low: float, width: float) -> None:
    function = dataclasses.replace(estimates.FUNCTIONS[0], interval=(low, low + width), value=low)
    found = estimates.density(functions=[function], ends=(low, low + width))
    report = render(estimates.density_run(found), plain=True)
    if low + width > low:
        printed = re.search(r"trace +between (\S+) and (\S+)", report)
        assert printed
        least, most = (float(text.replace(",", "")) for text in printed.groups())
        assert least <= low <= low + width <= most
    ends = re.search(r"all eigenvalues between (\S+) and (\S+)", report)
    assert ends
    assert float(ends[1]) <= low <= low + width <= float(ends[2])


def test_counts_are_three_with_the_band() -> None:
    found = RUNS["density"].estimates[0]
    report = render(RUNS["density"], plain=True)
    rows = re.findall(r"^  (?:below -|within ±|above )(\S+) +(?:between )?([\d,]+)", report, re.M)
    assert [float(t) for t, _ in rows] == pytest.approx([found.zero_band] * 3, rel=1e-3)
    assert [int(low.replace(",", "")) for _, low in rows] == found.count_interval[:3, 0].tolist()


def test_a_density_of_an_earlier_version_is_marked() -> None:
    report = render(estimates.density_run(estimates.of_an_earlier_version()))
    said = " ".join(report.split())
    assert "1301 (not proved)" in said
    assert "of an earlier version: not proved" in said
    assert "counts of this file's version were not proved" in said
    assert "between 1" not in said
    assert "How many lie beyond" not in said
    layers = [estimates.of_an_earlier_version(layer=name) for name in ("a", "b")]
    said = " ".join(render(estimates.density_run(*layers)).split())
    assert "intervals of densities were not proved" in said


def test_a_density_without_orthogonal_bases_is_told_so() -> None:
    report = render(estimates.density_run(estimates.density(reorthogonalized=False)))
    assert "were NOT kept orthogonal" in report
    assert "intervals hold, and are wider" in " ".join(report.split())


def test_a_matrix_that_was_written_out_has_no_probes() -> None:
    nothing = np.zeros(0)
    found = estimates.density(
        method="dense", deflated=nothing, deflated_errors=nothing, functions=estimates.FUNCTIONS[:2]
    )
    report = render(estimates.density_run(found))
    assert "all 11,173,962 computed" in report
    assert "robes" not in report.partition("How it was computed")[0]
    assert "✓ Every eigenvalue was computed" in report


def test_fewer_pairs_than_asked_are_told() -> None:
    config = {**dict(estimates.density_run().config), "deflate": 20}
    report = render(estimates.density_run(config=config))
    assert "12 of 20 pairs were sharp enough" in report


def test_each_layer_has_a_row_with_its_ends_and_its_shape() -> None:
    report = render(RUNS["density by layer"], width=100)
    for found in RUNS["density by layer"].estimates:
        [row] = [line for line in report.splitlines() if f"✓ {found.layer} " in line]
        low, high = found.count_interval[2]
        assert f"{low:,.0f} to {high:,.0f}" in row
        assert re.search(r" -?\d\S* +-?\d\S* +\S*█", row)


def test_quantiles_stay_where_there_is_room() -> None:
    assert re.search(r"5 % +25 % +50 % +75 % +95 %", render(RUNS["diag"], width=120))
    assert re.search(r"mean +50 % ", render(RUNS["diag"], width=80))
    assert "50 %" not in render(RUNS["diag"], width=60)


def test_only_the_largest_of_many_layers_are_listed() -> None:
    L = 300
    found = estimates.trace(
        layers=[f"layer{i}" for i in range(L)],
        layer_trace=np.arange(L, dtype=np.float64),
        layer_stderr=np.ones(L),
        layer_interval=np.arange(L, dtype=np.float64)[:, None] + [-2.0, 2.0],
        layer_frobenius_squared=None,
        layer_frobenius_squared_stderr=None,
        layer_frobenius_squared_interval=None,
    )
    report = render(estimates.trace_run(found))
    assert "… 260 more with smaller traces (-v shows all)" in report
    assert re.findall(r"^  layer(\d+) ", report, re.M) == [str(i) for i in range(260, L)]
    assert (
        len(re.findall(r"^  layer(\d+) ", render(estimates.trace_run(found), verbose=True), re.M))
        == L
    )


def test_spectra_by_layer_name_the_open_block() -> None:
    report = render(OPEN["spectra by layer"])
    assert "1 NOT CONVERGED" in report
    assert re.search(r"✗ layer1\.0\.conv2 .* 4/5 +NOT CONVERGED", report)
    assert re.search(r"✓ fc .* 5/5", report)
    assert "in at least one layer" in " ".join(report.split())
    listed = render(OPEN["spectra by layer"], verbose=True)
    assert len(re.findall(r"^  [✓✗] +\d+  ", listed, re.M)) == 30
    assert listed.index("each with its diagonal block") > max(
        m.end() for m in re.finditer(r"^  [✓✗] +5  ", listed, re.M)
    )


def test_a_layer_at_the_floor_is_no_failure_and_no_success() -> None:
    layers = list(estimates.blocks().pairs)
    layers[2] = runs.pairs(runs.spectrum(5, seed=2), at_floor=[3, 4])
    found = BlockSpectra(names=estimates.LAYERS, sizes=estimates.SIZES, pairs=layers)
    report = render(estimates.blocks_run(found), width=100)
    assert re.search(r"≈ layer1\.0\.conv2 .* 3/5 +all +at the limit", report)
    words = " ".join(report.split())
    assert "28 met the tolerance, 2 stopped at float32's limit (± " in words
    assert "≈ Every pair met the tolerance or stopped at the floor of the arithmetic, in" in report
    assert not found.converged
    for word in ("all converged", "NOT", "✗"):
        assert word not in report


def test_layers_that_are_not_proved_are_counted_and_told() -> None:
    layers = list(estimates.blocks().pairs)
    layers[1] = runs.pairs(
        layers[1].eigenvalues, completeness=runs.proved(layers[1].eigenvalues, all_of_it=False)
    )
    layers[2] = runs.pairs(layers[2].eigenvalues, completeness=unproved("no probe was made"))
    found = BlockSpectra(names=estimates.LAYERS, sizes=estimates.SIZES, pairs=layers)
    said = "Complete in 4 of 6 layers, each with probability 99.9 %; proved in part in 1; nothing"
    assert said in " ".join(render(estimates.blocks_run(found)).split())
    listed = " ".join(render(estimates.blocks_run(found), verbose=True).split())
    assert "Nothing is proved: no probe was made" in listed
    assert (
        "Upper end, rank 1 of 4: at most 1 eigenvalue exceeds 0.07194, and it is listed" in listed
    )
    wide = render(estimates.blocks_run(found), width=120)
    assert re.search(r"✓ layer1\.0\.conv1 .* 5/5 +1/5 ", wide)
    assert re.search(r"✓ layer1\.0\.conv2 .* 5/5 +– ", wide)


def test_of_smallest_eigenvalues_the_smallest_comes_first() -> None:
    pairs = [runs.pairs([-3.0, -1.0], which="SA"), runs.pairs([-2.0, 4.0], which="SA")]
    run = estimates.blocks_run(BlockSpectra(names=("a", "b"), sizes=(9, 9), pairs=pairs))
    report = render(run, width=120)
    assert re.search(r"smallest listed +largest listed", report)
    assert re.search(r"✓ a +9 +-3\.0\d* ± \S+ +-1\.0", report)


def test_a_run_that_reached_no_layer_says_so() -> None:
    empty = estimates.blocks_run(BlockSpectra(names=(), sizes=(), pairs=()))
    assert "No layer was reached" in render(empty)


def test_json_holds_every_figure_but_the_long_vectors() -> None:
    from curvtool.report.json import density_json, diag_json, spectrum_layers_json, trace_json

    trace = trace_json(RUNS["trace"])
    assert trace["interval"] == [1231.4, 1251.3]
    assert trace["met"] is True
    assert trace["layers"] == list(estimates.LAYERS)
    assert "samples" not in trace
    density = density_json(RUNS["density"])
    assert len(density["estimates"][0]["nodes"]) == 4
    [estimate] = density["estimates"]
    assert estimate["functions"][3]["value"] is None
    assert estimate["functions"][0]["interval"] == [1255.2, 1349.0]
    assert estimate["proved"] is True
    assert set(estimate["counts"]) == {"negative", "undetermined", "positive", "rank"}
    earlier = density_json(estimates.density_run(estimates.of_an_earlier_version()))
    assert earlier["estimates"][0]["proved"] is False
    assert earlier["estimates"][0]["counts"] is None
    diag = diag_json(RUNS["diag"])
    assert "diagonal" not in diag
    assert diag["layer_quantiles"][5][2] == 1.37e-3 * 0.3
    blocks = spectrum_layers_json(RUNS["spectra by layer"])
    assert [layer["layer"] for layer in blocks["layers"]] == list(estimates.LAYERS)
    assert blocks["all_converged"] is True
    assert blocks["met_tolerance"] == 30
    assert blocks["completeness_sentence"].startswith("Complete in 6 of 6 layers")
    assert all(layer["completeness"]["complete"] for layer in blocks["layers"])


def test_the_whole_ends_as_its_worst_block() -> None:
    pairs = [
        runs.pairs([1.0], outcome=outcome)
        for outcome in (Outcome.CONVERGED, Outcome.MAX_HVPS, Outcome.INTERRUPTED)
    ]
    found = BlockSpectra(names="abc", sizes=(1, 1, 1), pairs=pairs)
    assert found.outcome is Outcome.INTERRUPTED
    assert dataclasses.replace(found, pairs=pairs[:1]).converged
    assert found.hvps == 3 * 214
    assert found.hvps_by_stage == {"solve": 582, "certify": 24, "probe": 36}
