"""The report of a density run: counts, functions of the spectrum, and their picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from curvtool.report import numbers
from curvtool.report.columns import Column, Drawing, omitted, rows_shown, table
from curvtool.report.ending import ending
from curvtool.report.evidence import Cost, how
from curvtool.report.heights import beyond_picture
from curvtool.report.layout import INDENT, assembled, indented, page_of, paragraph
from curvtool.report.problem import operator_name, problem_facts, title
from curvtool.report.spark import spark
from curvtool.report.style import BAD, FAINT, GOOD, TITLE, WARNING, Page
from curvtool.report.table import UNCONVERGED
from curvtool.report.verdicts import density_sentence
from curvtool.report.words import clean, joined
from curvtool.results import DensityEstimate, DensityRun, Outcome, SpectralFunction
from curvtool.results.density import NEGATIVE, POSITIVE, UNDETERMINED

_LETTERS = {"effective dimension": "a", "log-determinant": "a", "schatten norm": "p"}
# An upper limit so many times the lower one tells a factor, not a figure.
_FACTOR = 3.0
# Sums of parts of one sign, where a factor means something.
_POSITIVE_SUMS = {"Schatten norm", "effective dimension"}


def density_report(
    run: DensityRun, *, width: int, unicode: bool, plain: bool, verbose: bool = False
) -> RenderableType:
    """Build the report of a run, the same after it and from its file.

    Args:
        run: what to show.
        width: cells of a line; between 60 and 120 are used.
        unicode: whether more than ASCII may be printed.
        plain: whether to write lines of text only, without colours and drawings.
        verbose: whether to show the functions of every layer, and every layer; otherwise at most
            40 layers.

    Returns:
        A group of lines, none wider than `width` where that is at least 60. Print it with
        `soft_wrap=True`, so that nothing is cut off on a narrower terminal.
    """
    page = page_of(width, unicode=unicode, plain=plain)
    cost = Cost(
        hvps=run.hvps,
        by_stage={clean(stage, page): n for stage, n in run.hvps_by_stage.items()},
        solving=run.solve_seconds,
        seconds=run.seconds,
    )
    by_layer = len(run.estimates) > 1 or any(found.layer for found in run.estimates)
    parts = [
        title(f"{operator_name(run.config, page)} density", run.problem, page),
        problem_facts(run.problem, page),
    ]
    if by_layer:
        if verbose:
            for found in run.estimates:
                parts += _whole(found, page)
        parts.append(_layers(run.estimates, page, verbose=verbose))
    else:
        parts += _whole(run.estimates[0], page)
    parts += [_ending(run, page), *how(run, cost, page, verbose=verbose)]
    return assembled(parts, page)


def _whole(found: DensityEstimate, page: Page) -> list[list[Text]]:
    said = [
        Text(f"Eigenvalues of {clean(found.layer, page) or 'the whole'}", TITLE),
        *(Text(part) for part in _means(found)),
        _state(found),
    ]
    parts = [[*joined(said, page.width, page), *_counts(found, page)]]
    parts.append(_functions(found, page))
    if not page.plain and found.proved:
        inner = Page(width=page.width - INDENT, unicode=page.unicode)
        drawn = beyond_picture(found, inner)
        if drawn:
            head = Text().append("How many lie beyond", TITLE)
            head.append("  both scales logarithmic", FAINT)
            parts.append([head, *indented(drawn)])
    return parts


def _means(found: DensityEstimate) -> list[str]:
    """What the figures rest on."""
    if found.method == "dense":
        return [f"all {numbers.count(found.size)} computed"]
    n, k = found.nodes.shape
    taken = [f"{numbers.count(len(found.deflated))} taken out"] if len(found.deflated) else []
    return [*taken, f"{numbers.counted(n, 'probe')} of {numbers.counted(k, 'step')}"]


def _state(found: DensityEstimate) -> Text:
    done = found.outcome is Outcome.CONVERGED
    return Text("all done", GOOD) if done else Text(UNCONVERGED, BAD)


def _counts(found: DensityEstimate, page: Page) -> list[Text]:
    """How many eigenvalues lie below, within and above the zero band, and between which ends."""
    if found.count_interval is None:
        said = "counts of this file's version were not proved, and are not shown"
        return indented(paragraph(said, page.width - INDENT))
    t = numbers.figure(found.zero_band)
    around = f"within {page.glyphs.plus_minus}{t}"
    rows = [
        (f"below -{t}" if found.zero_band else "below 0", NEGATIVE),
        (around if found.zero_band else "zero", UNDETERMINED),
        (f"above {t}", POSITIVE),
    ]
    columns = [
        Column(
            title="eigenvalues",
            texts=[_count(*found.count_interval[side]) for _, side in rows],
            left=True,
        ),
        Column(
            title="",
            texts=["", "sign undetermined" if found.zero_band else "", ""],
            tones=[FAINT] * 3,
            gives_way=1,
            left=True,
        ),
    ]
    lines = table([name for name, _ in rows], columns, page, title="where")
    low, high = found.ends
    ends = f"all eigenvalues between {numbers.below(low)} and {numbers.above(high)}"
    return [*lines, *indented(paragraph(ends, page.width - INDENT))]


def _count(low: float, high: float) -> str:
    """Limits of a whole number."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"between {low} and {high}"
    low, high = math.floor(low), math.ceil(high)
    if low == high:
        return numbers.count(low)
    return f"between {numbers.count(low)} and {numbers.count(high)}"


def _functions(found: DensityEstimate, page: Page) -> list[Text]:
    functions = found.functions
    if not functions:
        return []
    texts = [_function_text(f, page) for f in functions]
    names = [_name(f) for f in functions]
    column = Column(title="value", texts=texts, left=True)
    rows = table(names, [column], page, title="function", widest=2 / 5)
    start = max(row.cell_len for row in rows) + 2
    details = [clean(f.detail, page) for f in functions]
    level = "" if found.method == "dense" else f"  {100 * found.confidence:.3g} % each"
    note = level if found.proved else "  of an earlier version: not proved"
    lines = [Text().append("Functions of the spectrum", TITLE).append(note, FAINT), rows[0]]
    for row, detail, function in zip(rows[1:], details, functions, strict=True):
        tone = WARNING if function.value is None else FAINT
        if start + len(detail) <= page.width:
            row.append(" " * (start - row.cell_len)).append(detail, tone)
            lines.append(row)
        elif function.value is not None:  # a formula gives way to figures
            lines.append(row)
        else:
            under = paragraph(detail, page.width - 2 * INDENT)
            lines += [row, *(Text(" " * 2 * INDENT).append(line.plain, tone) for line in under)]
    return lines


def _function_text(function: SpectralFunction, page: Page) -> str:
    if function.value is None:
        return page.glyphs.unknown
    if function.interval is None:
        return f"{numbers.figure(function.value)} (not proved)"
    low, high = numbers.limits(*function.interval)
    return low if low == high else f"between {low} and {high}"


def _name(function: SpectralFunction) -> str:
    if function.parameter is None:
        return function.name
    letter = _LETTERS.get(function.name.lower(), "at")
    value = numbers.figure(function.parameter)
    equals = " " if letter == "at" else " = "
    return f"{function.name}, {letter}{equals}{value}"


def _layers(estimates: Sequence[DensityEstimate], page: Page, *, verbose: bool) -> list[Text]:
    rows = rows_shown(np.array([float(found.size) for found in estimates]), verbose=verbose)
    shown = [estimates[i] for i in rows]
    dash = page.glyphs.unknown
    columns = [
        Column(title="size", texts=[numbers.count(f.size) for f in shown], gives_way=3),
        Column(title="negative", texts=[_short(f, NEGATIVE, dash) for f in shown]),
        Column(title="positive", texts=[_short(f, POSITIVE, dash) for f in shown], gives_way=1),
        Column(title="band", texts=[f"{f.zero_band:.1e}" for f in shown], gives_way=5),
        Column(
            title="from", texts=[_end(f.ends[0], numbers.below, dash) for f in shown], gives_way=4
        ),
        Column(
            title="to", texts=[_end(f.ends[1], numbers.above, dash) for f in shown], gives_way=2
        ),
    ]
    done = [found.outcome is Outcome.CONVERGED for found in shown]
    if not all(done):
        texts = ["" if is_done else UNCONVERGED for is_done in done]
        columns.append(Column(title="", texts=texts, tones=[BAD] * len(texts), left=True))
    drawing = Drawing(
        draw=lambda cells: ("log height", [spark(f, cells, page.glyphs) for f in shown]), least=12
    )
    open_ones = done.count(False)
    said = [
        Text(f"Eigenvalues by layer, {numbers.counted(len(estimates), 'layer')}", TITLE),
        Text(f"{open_ones} {UNCONVERGED}", BAD) if open_ones else Text("all done", GOOD),
    ]
    names = [found.layer for found in shown]
    marks = [
        Text(page.glyphs.passed, GOOD) if is_done else Text(page.glyphs.failed, BAD)
        for is_done in done
    ]
    return [
        *joined(said, page.width, page),
        *table(names, columns, page, drawing=drawing, marks=marks),
        *omitted(len(estimates) - len(rows), "of fewer parameters", page),
    ]


def _short(found: DensityEstimate, side: int, dash: str) -> str:
    """Limits of a count in a table's cell."""
    if found.count_interval is None:
        return dash
    return _count(*found.count_interval[side]).replace("between ", "").replace(" and ", " to ")


def _end(value: float, rounded: Callable[[float], str], dash: str) -> str:
    return rounded(value) if math.isfinite(value) else dash


def _ending(run: DensityRun, page: Page) -> list[Text]:
    estimates = run.estimates
    probed = [found for found in estimates if found.method != "dense"]
    loose = [found for found in probed if not found.reorthogonalized]
    basis = ""
    if loose:
        where = f" of {numbers.counted(len(loose), 'layer')}" if len(estimates) > 1 else ""
        asked = run.config.get("reorthogonalize") is False
        why = "as asked" if asked else "for want of memory"
        basis = (
            f"the Krylov bases{where} were NOT kept orthogonal, {why}: intervals hold, and are "
            "wider, since copies of eigenvalues cannot be counted"
        )
    proved = all(found.proved for found in estimates)
    drawn = [found for found in probed if found.proved]
    remarks = [
        (_taken_out(run, drawn), ""),
        (
            ""
            if proved
            else "this file is of an earlier version, whose intervals of densities were not "
            "proved: compute it again with --force",
            WARNING,
        ),
        (basis, WARNING),
        (_factors(estimates) if len(estimates) == 1 else "", WARNING),
        (
            "gaussian probes: each interval holds with its own probability, not all of them at once"
            if drawn
            else "",
            "",
        ),
    ]
    done = run.outcome is Outcome.CONVERGED
    return ending(density_sentence(run), remarks, page, done=done)


def _taken_out(run: DensityRun, probed: Sequence[DensityEstimate]) -> str:
    """Where fewer pairs were taken out than were asked for, and why."""
    asked = run.config.get("deflate")
    if len(probed) != 1 or not isinstance(asked, int) or len(probed[0].deflated) >= asked:
        return ""
    number = len(probed[0].deflated)
    if number:
        return f"{number} of {asked} pairs were sharp enough to be taken out"
    return (
        "no pairs were taken out: none was sharp after as many products as the probes take, or "
        "memory had no room for them"
    )


def _factors(estimates: Sequence[DensityEstimate]) -> str:
    """Which figures are known within a factor only, and what cures it."""
    found = [
        _name(function)
        for estimate in estimates
        for function in estimate.functions
        if function.interval is not None
        and function.name in _POSITIVE_SUMS
        and function.interval[1] > 0
        and function.interval[1] > _FACTOR * function.interval[0]
    ]
    if not found:
        return ""
    which = found[0] if len(found) == 1 else f"{found[0]} and {len(found) - 1} more"
    return (
        f"known within a factor only: {which}; take more pairs out (--deflate), then more "
        "--num-probes, or --dtype float64 where the noise of the product is above what is asked"
    )
