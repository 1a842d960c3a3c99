"""The report of a diag run: what the diagonal is like in every layer."""

from __future__ import annotations

import math

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from curvtool.report import numbers
from curvtool.report.arithmetic import arithmetic_said
from curvtool.report.columns import Column, bars, measured, omitted, rows_shown, table
from curvtool.report.ending import ending
from curvtool.report.evidence import Cost, how
from curvtool.report.layout import assembled, fact, page_of
from curvtool.report.problem import operator_name, problem_facts, title
from curvtool.report.style import BAD, FAINT, GOOD, TITLE, Page
from curvtool.report.table import UNCONVERGED
from curvtool.report.verdicts import diag_met, diag_sentence
from curvtool.report.words import clean, joined
from curvtool.results import DiagonalEstimate, DiagRun, FloatArray

_SHARING = {"per-batch": "one for each batch", "shared": "shared by all batches"}


def diag_report(
    run: DiagRun, *, width: int, unicode: bool, plain: bool, verbose: bool = False
) -> RenderableType:
    """Build the report of a run, the same after it and from its file.

    Args:
        run: what to show; its diagonal is not looked at.
        width: cells of a line; between 60 and 120 are used.
        unicode: whether more than ASCII may be printed.
        plain: whether to write lines of text only, without colours and drawings.
        verbose: whether to list every layer; otherwise at most 40.

    Returns:
        A group of lines, none wider than `width` where that is at least 60. Print it with
        `soft_wrap=True`, so that nothing is cut off on a narrower terminal.
    """
    page = page_of(width, unicode=unicode, plain=plain)
    found = run.estimate
    cost = Cost(hvps=found.hvps, by_stage={}, solving=found.seconds, seconds=run.seconds)
    parts = [
        title(f"{operator_name(run.config, page)} diagonal", run.problem, page),
        problem_facts(run.problem, page),
        _figures(found, page),
        _layers(found, page, verbose=verbose),
        _ending(found, page),
        *how(run, cost, page, verbose=verbose),
    ]
    return assembled(parts, page)


def _figures(found: DiagonalEstimate, page: Page) -> list[Text]:
    met = diag_met(found)
    size = int(found.layer_size.sum())
    said = [
        Text(f"Diagonal of {numbers.counted(size, 'entry')}", TITLE),
        Text("converged", GOOD) if met else Text(UNCONVERGED, BAD),
    ]
    lines = joined(said, page.width, page) + fact("error", _error(found, page), page)
    if found.float64_samples is not None:
        lines += fact("rounding", arithmetic_said(found, found.arithmetic, page, unit="%"), page)
    return lines


def _error(found: DiagonalEstimate, page: Page) -> list[str]:
    of = "of the diagonal, both in 2-norm"
    if found.float64_samples is None:
        error = [f"standard error {numbers.bound(found.rel_err, '%')} {of}: no bound"]
    elif math.isfinite(found.rel_err):
        error = [f"{page.glyphs.plus_minus} {numbers.bound(found.rel_err, '%')} {of}"]
        if found.method != "dense":
            error.append(f"{100 * found.confidence:.4g} % confidence")
    else:
        error = ["unknown: the diagonal may be zero"]
    if math.isfinite(found.degrees_of_freedom):
        error.append(f"{found.degrees_of_freedom:.3g} degrees of freedom")
    if found.asked is not None:
        error.append(f"asked for {100 * found.asked:.3g} %")
    return error


def _layers(found: DiagonalEstimate, page: Page, *, verbose: bool) -> list[Text]:
    if not found.layers:
        return []
    rows = rows_shown(found.layer_size * found.layer_mean, verbose=verbose)
    values, errors = found.layer_mean[rows], _sides(found)[rows]
    sizes = [numbers.count(int(size)) for size in found.layer_size[rows]]
    columns = [
        measured("mean", values, errors, page, widest=9),
        *_quantiles(found, rows, page),
    ]
    columns.insert(0, Column(title="size", texts=sizes, tones=[FAINT] * len(rows), gives_way=1))
    known = [diag_met(found)] * len(rows)
    sign = page.glyphs.plus_minus
    return [
        Text().append("By layer", TITLE).append(f"  {_kind(found, sign)}; quantiles", FAINT),
        *table(
            [found.layers[i] for i in rows],
            columns,
            page,
            drawing=bars(values, errors, page, known),
        ),
        *omitted(len(found.layers) - len(rows), "with smaller sums", page),
    ]


def _kind(found: DiagonalEstimate, sign: str) -> str:
    if found.layer_mean_interval is None:
        return f"{sign} standard error"
    return f"{sign} at {100 * found.confidence:.4g} % each"


def _sides(found: DiagonalEstimate) -> FloatArray:
    """Errors of the layers' means: the longer sides of their intervals, where there are any."""
    ends = found.layer_mean_interval
    if ends is None:
        return found.layer_mean_stderr
    with np.errstate(invalid="ignore"):  # infinity less infinity is unknown
        sides = np.maximum(ends[:, 1] - found.layer_mean, found.layer_mean - ends[:, 0])
    return np.asarray(sides)


def _quantiles(found: DiagonalEstimate, rows: list[int], page: Page) -> list[Column]:
    """A column for each level; where room is short the median stays longest, then the ends."""
    dash = page.glyphs.unknown
    levels = list(found.levels)
    rank = sorted(range(len(levels)), key=lambda j: _weight(levels[j]))
    return [
        Column(
            title=f"{100 * levels[j]:.3g} %",
            texts=[
                f"{value:.1e}" if math.isfinite(value) else dash
                for value in found.layer_quantiles[rows, j].tolist()
            ],
            tones=[FAINT] * len(rows),
            gives_way=2 + rank.index(j),
        )
        for j in range(len(levels))
    ]


def _weight(level: float) -> float:
    return -1.0 if level == 0.5 else -abs(level - 0.5) / 2


def _ending(found: DiagonalEstimate, page: Page) -> list[Text]:
    method = clean(found.method, page)
    if found.probes:
        method += f", {clean(found.probes, page)} probes"
    if found.sharing:
        method += f", {clean(_SHARING.get(found.sharing, found.sharing), page)}"
    remarks = [
        (method, ""),
        (clean(found.reason, page), ""),
        ("the estimates scatter: quantiles lie further out than those of the diagonal", ""),
        ("the diagonal itself, with an error for every entry, is in the run file", ""),
    ]
    if found.method == "dense":
        remarks.pop(2)
    return ending(diag_sentence(found), remarks, page, done=diag_met(found))
