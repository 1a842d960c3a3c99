"""The report of a bench run: every way to make a product, on one model and machine."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from curvtool.report import numbers
from curvtool.report.evidence import preflight_lines
from curvtool.report.layout import (
    INDENT,
    assembled,
    fact,
    heading,
    indented,
    page_of,
    paragraph,
)
from curvtool.report.problem import operator_name, problem_facts, title
from curvtool.report.style import BAD, GOOD, TITLE, Page
from curvtool.report.ways import way_table
from curvtool.report.words import clean
from curvtool.results import BenchRun, Outcome, Verdict, WayTrial

# A compilation serves all batches of a shape; what other ways keep is made for every batch.
_SET_UP_ONCE = "compiled"


def bench_report(
    run: BenchRun, *, width: int, unicode: bool, plain: bool, verbose: bool = False
) -> RenderableType:
    """Build the report of a comparison, the same after it and from its file.

    Args:
        run: what to show.
        width: cells of a line; between 60 and 120 are used.
        unicode: whether more than ASCII may be printed.
        plain: whether to write lines of text only, without colours and drawings.
        verbose: whether every way and every check says its detail.

    Returns:
        A group of lines, none wider than `width` where that is at least 60. Print it with
        `soft_wrap=True`, so that nothing is cut off on a narrower terminal.
    """
    page = page_of(width, unicode=unicode, plain=plain)
    inner = Page(width=page.width - INDENT, unicode=unicode, plain=plain)
    head = Text().append(numbers.counted(len(run.trials), "way"), TITLE)
    head.append(" to multiply by H, one product of one batch each")
    return assembled(
        [
            title(f"{operator_name(run.config, page)} products", run.problem, page),
            problem_facts(run.problem, page),
            [head, *indented(way_table(run.trials, inner, verbose=verbose))],
            _conclusion(run, page),
            [heading("How it was measured"), *_measured(run, page)],
            [heading("Preflight"), *preflight_lines(run.preflight, page, verbose=verbose)],
        ],
        page,
    )


def _conclusion(run: BenchRun, page: Page) -> list[Text]:
    """Say what the rows show; every figure here stands in one of them."""
    lines: list[Text] = []
    if run.outcome is not Outcome.CONVERGED:
        lines += _said(f"the comparison ended early: {run.outcome.value}", BAD, page)
    best = next((t for t in run.trials if t.verdict is Verdict.CHOSEN), None)
    if best is None or best.gradients is None:
        lines += _said("no exact way gave the right product here", BAD, page)
    else:
        lines += _said(_price(best, _named(run.trials, "finite-difference"), page), GOOD, page)
        lines += _said(_break_even(run, best, page), "", page)
    wrong = [clean(t.way, page) for t in run.trials if t.verdict is Verdict.WRONG]
    if wrong:
        named = ", ".join(wrong)
        lines += _said(f"wrong for this model, and refused by --hvp here: {named}", BAD, page)
    return lines


def _price(best: WayTrial, differences: WayTrial | None, page: Page) -> str:
    assert best.gradients is not None
    said = f"an exact product costs {best.gradients:.2f} gradients with {clean(best.way, page)}"
    if differences is None or differences.gradients is None:
        return said
    said += f"; a difference of gradients costs {differences.gradients:.2f}"
    if differences.error is None:
        return said
    if differences.error >= 1:
        return f"{said} and has no right digit here"
    return f"{said} and is wrong by {numbers.upper(differences.error)}"


def _break_even(run: BenchRun, best: WayTrial, page: Page) -> str:
    """After how many products the fastest way has paid for its compilation."""
    others = [
        t
        for t in run.trials
        if t.verdict is Verdict.RIGHT and t.seconds is not None and t.way != _SET_UP_ONCE
    ]
    if best.way != _SET_UP_ONCE or best.seconds is None or not best.setup_seconds or not others:
        return ""
    other = min(others, key=lambda t: t.seconds or math.inf)
    assert other.seconds is not None
    saved = (other.seconds - best.seconds) * run.problem.num_batches / run.batches_timed
    if saved <= 0:
        return ""
    products = math.ceil(best.setup_seconds / saved)
    return (
        f"compiling took {numbers.duration(best.setup_seconds)}: it pays after some "
        f"{numbers.count(products)} products of all batches, {clean(other.way, page)} before"
    )


def _measured(run: BenchRun, page: Page) -> list[Text]:
    spreads = [t.spread for t in run.trials if t.spread is not None]
    where = [
        clean(run.dtype, page),
        clean(run.device, page),
        numbers.counted(run.threads, "thread"),
        f"a gradient takes {numbers.duration(run.gradient_seconds)}",
    ]
    batches = numbers.counted(run.problem.num_batches, "batch")
    how = [
        f"medians of {numbers.counted(run.rounds, 'product')}, all ways in turns",
        f"{numbers.count(run.batches_timed)} of {batches}",
    ]
    if spreads and run.rounds > 1:
        how.append(f"half the middle 50 % spans up to {100 * max(spreads):.0f} %")
    lines = [*fact("on", where, page), *fact("time", how, page)]
    lines += fact("memory", ["the most a product takes above model and data"], page)
    lines += fact("error", ["distance from the product in float64, relative"], page)
    return [*lines, *fact("in all", [numbers.duration(run.seconds)], page)]


def _named(trials: Sequence[WayTrial], way: str) -> WayTrial | None:
    return next((t for t in trials if t.way == way), None)


def _said(text: str, tone: str, page: Page) -> list[Text]:
    if not text:
        return []
    lines = indented(paragraph(text[:1].upper() + text[1:] + ".", page.width - INDENT))
    for line in lines:
        line.stylize(tone)
    return lines
