"""The report of a density run: the picture of the spectrum, and what follows from its nodes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich.console import RenderableType
from rich.text import Text

from curvtool.report import numbers
from curvtool.report.columns import Column, Drawing, measured, omitted, rows_shown, table
from curvtool.report.ending import ending
from curvtool.report.evidence import Cost, how
from curvtool.report.layout import INDENT, assembled, indented, page_of, paragraph
from curvtool.report.problem import operator_name, problem_facts, title
from curvtool.report.profile import profile, spark
from curvtool.report.style import BAD, FAINT, GOOD, TITLE, WARNING, Page
from curvtool.report.table import UNCONVERGED
from curvtool.report.verdicts import density_sentence
from curvtool.report.words import clean, joined
from curvtool.results import DensityEstimate, DensityRun, Outcome, SpectralFunction

_LETTERS = {
    "effective dimension": "a",
    "log-determinant": "a",
    "schatten norm": "p",
    "rank": "above",
}


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
    cost = Cost(hvps=run.hvps, by_stage={}, solving=run.solve_seconds, seconds=run.seconds)
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
    n, m = found.nodes.shape
    said = [
        Text(f"Eigenvalues of {clean(found.layer, page) or 'the whole'}", TITLE),
        Text(f"{numbers.counted(n, 'probe')} of {numbers.counted(m, 'step')}"),
        _state(found),
    ]
    parts = [[*joined(said, page.width, page), *_masses(found, page)]]
    if not page.plain:
        inner = Page(width=page.width - INDENT, unicode=page.unicode)
        drawn = profile(found, inner)
        if drawn:
            head = Text().append("Density", TITLE)
            head.append("  share of the eigenvalues per unit, log scale", FAINT)
            parts.append([head, *indented(drawn)])
    return [*parts, _functions(found.functions, page)]


def _state(found: DensityEstimate) -> Text:
    done = found.outcome is Outcome.CONVERGED
    return Text("all done", GOOD) if done else Text(UNCONVERGED, BAD)


def _masses(found: DensityEstimate, page: Page) -> list[Text]:
    """Where the eigenvalues lie: below, at and above zero, and between which ends."""
    tau = found.tau
    with np.errstate(invalid="ignore"):
        at_zero, above = np.abs(found.nodes) <= tau, found.nodes > tau
    shares = [
        (found.negative_mass, found.negative_mass_stderr),
        _share(found, at_zero),
        _share(found, above),
    ]
    values, errors = (np.array([share[i] for share in shares]) for i in (0, 1))
    size = found.size
    columns = [
        measured("% of all", 100 * values, 100 * errors, page),
        Column(
            title="eigenvalues",
            texts=[
                numbers.plus_minus(size * share, size * error, page.glyphs.plus_minus)
                for share, error in shares
            ],
            gives_way=2,
        ),
        Column(
            title="% that nodes allow",
            texts=[f"{100 * low:.3g} to {100 * high:.3g}" for low, high in found.allowed],
            gives_way=1,
        ),
    ]
    width = numbers.figure(tau)
    names = [f"below {'-' if found.tau else ''}{width}", "near zero", f"above {width}"]
    lines = table(names, columns, page, title="where")
    sign = page.glyphs.plus_minus
    note = f"{sign} is of the probes alone: where between its nodes mass lies, no probe tells"
    lines += indented(paragraph(note, page.width - INDENT))
    finite = found.nodes[np.isfinite(found.nodes)]
    if finite.size:
        ends = f"Ritz values from {numbers.figure(finite.min())} to {numbers.figure(finite.max())}"
        lines += indented(paragraph(ends, page.width - INDENT))
    return lines


def _share(found: DensityEstimate, where: NDArray[np.bool_]) -> tuple[float, float]:
    """Mean over probes of the weight in some place, and its standard error."""
    each = np.where(where, found.weights, 0.0).sum(axis=1)
    n = len(each)
    if n == 0:
        return math.nan, math.nan
    return float(each.mean()), float(each.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan


def _functions(functions: Sequence[SpectralFunction], page: Page) -> list[Text]:
    if not functions:
        return []
    texts = [
        page.glyphs.unknown
        if f.value is None
        else numbers.plus_minus(
            f.value, math.nan if f.stderr is None else f.stderr, page.glyphs.plus_minus
        )
        for f in functions
    ]
    names = [_name(f) for f in functions]
    column = Column(title="value", texts=texts)
    rows = table(names, [column], page, title="function", widest=1 / 2)
    start = max(row.cell_len for row in rows) + 2
    details = [clean(f.detail, page) for f in functions]
    sign = page.glyphs.plus_minus
    lines = [
        Text().append("Functions of the spectrum", TITLE).append(f"  {sign} standard error", FAINT),
        rows[0],
    ]
    for row, detail, function in zip(rows[1:], details, functions, strict=True):
        tone = WARNING if function.value is None else FAINT
        if start + len(detail) <= page.width:
            row.append(" " * (start - row.cell_len)).append(detail, tone)
            lines.append(row)
        else:
            under = paragraph(detail, page.width - 2 * INDENT)
            lines += [row, *(Text(" " * 2 * INDENT).append(line.plain, tone) for line in under)]
    return lines


def _name(function: SpectralFunction) -> str:
    if function.parameter is None:
        return function.name
    letter = _LETTERS.get(function.name.lower(), "at")
    value = numbers.figure(function.parameter)
    return (
        f"{function.name}, {letter} {value}"
        if letter in {"above", "at"}
        else (f"{function.name}, {letter} = {value}")
    )


def _layers(estimates: Sequence[DensityEstimate], page: Page, *, verbose: bool) -> list[Text]:
    rows = rows_shown(np.array([float(found.size) for found in estimates]), verbose=verbose)
    shown = [estimates[i] for i in rows]
    ends = [_ends(found) for found in shown]
    negative = np.array([found.negative_mass for found in shown])
    errors = np.array([found.negative_mass_stderr for found in shown])
    dash = page.glyphs.unknown
    columns = [
        Column(title="size", texts=[numbers.count(f.size) for f in shown], gives_way=1),
        measured("% negative", 100 * negative, 100 * errors, page),
        Column(title="from", texts=[_end(low, dash) for low, _ in ends], gives_way=3),
        Column(title="to", texts=[_end(high, dash) for _, high in ends], gives_way=2),
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


def _ends(found: DensityEstimate) -> tuple[float, float]:
    finite = found.nodes[np.isfinite(found.nodes)]
    return (float(finite.min()), float(finite.max())) if finite.size else (math.nan, math.nan)


def _end(value: float, dash: str) -> str:
    return f"{value:.3g}" if math.isfinite(value) else dash


def _ending(run: DensityRun, page: Page) -> list[Text]:
    estimates = run.estimates
    loose = [found for found in estimates if not found.reorthogonalized]
    if loose:
        where = f" of {numbers.counted(len(loose), 'layer')}" if len(estimates) > 1 else ""
        asked = run.config.get("reorthogonalize") is False
        why = "as asked" if asked else "for want of memory"
        basis = (
            f"the Krylov bases{where} were NOT kept orthogonal, {why}: the distance (W1) to the "
            "true spectrum is 2 to 10 times larger than with orthogonal ones"
        )
    else:
        basis = "the Krylov bases were kept orthogonal"
    single = any(found.nodes.shape[0] == 1 for found in estimates)
    kinds = " and ".join(sorted({clean(found.probes, page) for found in estimates}))
    first = estimates[0]
    sigma = f"sigma {numbers.figure(first.sigma)}" if len(estimates) == 1 else "the width"
    remarks = [
        (basis, WARNING if loose else ""),
        ("one probe only: nothing is known of its errors" if single else "", WARNING),
        (f"{kinds} probes, stochastic Lanczos quadrature", ""),
        (f"{sigma} of the Gaussians is a choice of display: nodes and weights are in the file", ""),
    ]
    done = run.outcome is Outcome.CONVERGED
    return ending(density_sentence(run), remarks, page, done=done)
