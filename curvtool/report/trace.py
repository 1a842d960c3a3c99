"""The report of a trace run: the trace with its interval, by layer, and how it was estimated."""

from __future__ import annotations

import math

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from curvtool.report import numbers
from curvtool.report.arithmetic import arithmetic_said, longer_side
from curvtool.report.columns import Column, bars, measured, omitted, rows_shown, table
from curvtool.report.ending import ending
from curvtool.report.evidence import Cost, how
from curvtool.report.layout import assembled, fact, page_of
from curvtool.report.problem import operator_name, problem_facts, title
from curvtool.report.style import BAD, FAINT, GOOD, TITLE, WARNING, Page
from curvtool.report.table import UNCONVERGED
from curvtool.report.verdicts import half_width, trace_met, trace_sentence
from curvtool.report.words import clean, joined
from curvtool.results import FloatArray, TraceEstimate, TraceRun

_SHARING = {"per-batch": "one for each batch", "shared": "shared by all batches"}


def trace_report(
    run: TraceRun, *, width: int, unicode: bool, plain: bool, verbose: bool = False
) -> RenderableType:
    """Build the report of a run, the same after it and from its file.

    Args:
        run: what to show.
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
    cost = Cost(
        hvps=found.hvps,
        by_stage=found.hvps_by_stage,
        solving=found.seconds,
        seconds=run.seconds,
    )
    parts = [
        title(f"{operator_name(run.config, page)} trace", run.problem, page),
        problem_facts(run.problem, page),
        _figures(found, run.problem.num_parameters, page),
        _layers(found, page, verbose=verbose),
        _ending(found, page),
        *how(run, cost, page, verbose=verbose),
    ]
    return assembled(parts, page)


def _figures(found: TraceEstimate, size: int, page: Page) -> list[Text]:
    met = trace_met(found)
    sign = page.glyphs.plus_minus
    # The longer side, so that the interval lies in what is printed.
    side = max(found.interval[1] - found.trace, found.trace - found.interval[0])
    trace = numbers.plus_minus(found.trace, side, sign)
    said = [Text(f"Trace {trace}", TITLE if met else BAD)]
    said.append(Text("converged", GOOD) if met else Text(UNCONVERGED, BAD))
    asked = []
    if found.rel_err is not None:
        asked.append(f"{100 * found.rel_err:.3g} % of it")
    if found.abs_err is not None:
        asked.append(f"{found.abs_err:.3g}")
    if asked:
        said.append(Text(f"asked for {page.glyphs.plus_minus} {' or '.join(asked)}", FAINT))
    lines = joined(said, page.width, page)
    lines += fact("interval", _interval(found, page), page)
    if found.stderr > 0 or math.isnan(found.stderr):
        error = [f"standard error of the probes {_bound(found.stderr)}"]
        if math.isfinite(found.degrees_of_freedom):
            error.append(f"{found.degrees_of_freedom:.3g} degrees of freedom")
        lines += fact("error", error, page)
    lines += fact("rounding", arithmetic_said(found, found.arithmetic, page), page)
    mean = numbers.plus_minus(found.trace / size, side / size, sign)
    lines += fact("mean", [f"{mean} for each of {numbers.counted(size, 'eigenvalue')}"], page)
    return lines + _norm(found, page)


def _interval(found: TraceEstimate, page: Page) -> list[str]:
    low, high = numbers.interval(*found.interval)
    if half_width(found) == 0 and found.trace == 0:
        return ["none: H is zero"]
    if not math.isfinite(half_width(found)):
        return ["unknown: too few samples for one"]
    kind = f"{100 * found.confidence:.4g} % confidence" if found.is_interval else "estimated only"
    if found.method == "dense":
        kind = "no probes: what the arithmetic leaves open"
    parts = [f"{low} to {high}", kind]
    if found.trace:
        relative = half_width(found) / abs(found.trace)
        parts.append(f"{page.glyphs.plus_minus} {numbers.bound(relative, '%')} of the trace")
    return parts


def _norm(found: TraceEstimate, page: Page) -> list[Text]:
    squared = found.frobenius_squared
    if squared is None:
        return []
    low, high = found.frobenius_squared_interval or (math.nan, math.nan)
    sign = page.glyphs.plus_minus
    parts = []
    if squared > 0:  # an unbiased estimate of a small square may be negative
        ends = [math.sqrt(end) if end >= 0 else math.nan for end in (low, high)]
        root = math.sqrt(squared)
        parts.append(f"Frobenius norm {numbers.plus_minus(root, longer_side(root, *ends), sign)}")
    parts.append(f"its square {numbers.plus_minus(squared, longer_side(squared, low, high), sign)}")
    return fact("norm", [*parts, f"{100 * found.confidence:.4g} % each"], page)


def _layers(found: TraceEstimate, page: Page, *, verbose: bool) -> list[Text]:
    if found.layer_trace is None or not found.layers:
        return []
    rows = rows_shown(found.layer_trace, verbose=verbose)
    values = found.layer_trace[rows]
    errors = _sides(found.layer_trace, found.layer_interval)[rows]
    columns = [measured("trace", values, errors, page), _shares(values, found.trace, page)]
    if found.layer_frobenius_squared is not None:
        squared = found.layer_frobenius_squared
        ends = found.layer_frobenius_squared_interval
        root = np.sqrt(np.where(squared > 0, squared, np.nan))
        roots = None if ends is None else np.sqrt(np.where(ends >= 0, ends, np.nan))
        errors_of_root = _sides(root, roots)[rows]
        root = root[rows]
        columns.append(measured("norm of rows", root, errors_of_root, page, gives_way=2))
    known = [trace_met(found)] * len(rows)
    names = [found.layers[i] for i in rows]
    sign = page.glyphs.plus_minus
    return [
        Text()
        .append("By layer", TITLE)
        .append(f"  {sign} at {100 * found.confidence:.4g} % each", FAINT),
        *table(names, columns, page, drawing=bars(values, errors, page, known)),
        *omitted(len(found.layers) - len(rows), "with smaller traces", page),
    ]


def _shares(values: FloatArray, trace: float, page: Page) -> Column:
    dash = page.glyphs.unknown
    known = math.isfinite(trace) and trace != 0
    texts = [
        f"{100 * value / trace:.1f} %" if known and math.isfinite(value) else dash
        for value in values.tolist()
    ]
    if max(map(len, texts), default=0) > 9:  # parts that nearly cancel have no shares
        texts = [dash] * len(texts)
    return Column(title="share", texts=texts, tones=[FAINT] * len(texts), gives_way=1)


def _ending(found: TraceEstimate, page: Page) -> list[Text]:
    method = clean(found.method, page)
    if found.probes:
        method += f", {clean(found.probes, page)} probes"
    if found.sharing:
        method += f", {clean(_SHARING.get(found.sharing, found.sharing), page)}"
    deflated = ""
    if found.deflated:
        part = numbers.figure(found.deflated_trace)
        directions = numbers.counted(found.deflated, "direction")
        deflated = f"{directions} taken out exactly hold {part} of the trace"
    doubt = "" if found.is_interval else f"{method}: its error is an estimate without coverage"
    low, high = found.interval
    unsigned = (
        "the sign of the trace is not known: the interval holds zero" if low < 0 < high else ""
    )
    remarks = [
        (doubt, WARNING),
        (
            "the sign of the trace is not known: the interval holds zero" if unsigned else "",
            WARNING,
        ),
        (method if found.is_interval else "", ""),
        (deflated, ""),
        (clean(found.reason, page), ""),
    ]
    return ending(trace_sentence(found), remarks, page, done=trace_met(found))


def _sides(values: FloatArray, ends: FloatArray | None) -> FloatArray:
    """The longer sides of intervals; NaN where there are none."""
    if ends is None:
        return np.full(len(values), np.nan)
    with np.errstate(invalid="ignore"):  # infinity less infinity is unknown
        return np.asarray(np.maximum(ends[:, 1] - values, values - ends[:, 0]))


def _bound(error: float) -> str:
    return numbers.bound(error) if math.isfinite(error) else "unknown"
