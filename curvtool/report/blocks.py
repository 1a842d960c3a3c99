"""The report of `spectrum --per-layer`: every block's ends, in one table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from curvtool.report import numbers
from curvtool.report.columns import Column, bars, measured, omitted, rows_shown, table
from curvtool.report.ending import ending
from curvtool.report.evidence import Cost, how
from curvtool.report.layout import INDENT, assembled, indented, page_of
from curvtool.report.problem import operator_name, problem_facts, title
from curvtool.report.style import BAD, GOOD, TITLE, WARNING, Page
from curvtool.report.table import UNCONVERGED, pair_table
from curvtool.report.verdicts import blocks_sentence
from curvtool.report.words import clean, joined, wrapped
from curvtool.results import (
    BlockSpectra,
    Certification,
    Completeness,
    EigenPairs,
    FloatArray,
    Outcome,
    SpectrumBlocksRun,
)

_SURE = {Completeness.EXHAUSTIVE, Completeness.PROBED}


def spectrum_layers_report(
    run: SpectrumBlocksRun, *, width: int, unicode: bool, plain: bool, verbose: bool = False
) -> RenderableType:
    """Build the report of a run, the same after it and from its file.

    Args:
        run: what to show.
        width: cells of a line; between 60 and 120 are used.
        unicode: whether more than ASCII may be printed.
        plain: whether to write lines of text only, without colours and drawings.
        verbose: whether to list the pairs of every layer first, and every layer; otherwise at
            most 40.

    Returns:
        A group of lines, none wider than `width` where that is at least 60. Print it with
        `soft_wrap=True`, so that nothing is cut off on a narrower terminal.
    """
    page = page_of(width, unicode=unicode, plain=plain)
    blocks = run.blocks
    cost = Cost(
        hvps=blocks.hvps,
        by_stage=blocks.hvps_by_stage,
        solving=blocks.seconds,
        seconds=run.seconds,
    )
    parts = [
        title(f"{operator_name(run.config, page)} spectra by layer", run.problem, page),
        problem_facts(run.problem, page),
    ]
    if verbose:
        inner = Page(width=page.width - INDENT, unicode=unicode, plain=plain)
        for name, pairs in zip(blocks.names, blocks.pairs, strict=True):
            head = [Text(line, TITLE) for line in wrapped(clean(name, page), page.width)]
            parts.append([*head, *indented(pair_table(pairs, inner, verbose=True))])
    parts += [
        _table(blocks, page, verbose=verbose),
        _ending(blocks, page),
        *how(run, cost, page, verbose=verbose),
    ]
    return assembled(parts, page)


def _table(blocks: BlockSpectra, page: Page, *, verbose: bool) -> list[Text]:
    number = len(blocks.names)
    if not number:
        return [Text("No layer was reached before the run ended.", BAD)]
    # Of the smallest eigenvalues the smallest is what was asked for; else the largest.
    ends = [("largest listed", np.argmax), ("smallest listed", np.argmin)]
    if all(pairs.which == "SA" for pairs in blocks.pairs):
        ends.reverse()
    (first, values, errors), (second, others, bounds) = (
        (name, *_extreme(blocks.pairs, choose)) for name, choose in ends
    )
    rows = rows_shown(values, verbose=verbose)
    shown = [blocks.pairs[i] for i in rows]
    done = [_done(pairs) for pairs in shown]
    counts = [f"{int(pairs.converged.sum())}/{len(pairs.converged)}" for pairs in shown]
    tones = ["" if is_done else BAD for is_done in done]
    columns = [
        Column(title="size", texts=[numbers.count(blocks.sizes[i]) for i in rows], gives_way=2),
        measured(first, values[rows], errors[rows], page, tones=tones),
        measured(second, others[rows], bounds[rows], page, gives_way=3, tones=tones),
        Column(title="converged", texts=counts, tones=tones, gives_way=1),
    ]
    if page.plain or not all(done):
        words = ["converged" if is_done else UNCONVERGED for is_done in done]
        if not page.plain:
            words = ["" if is_done else UNCONVERGED for is_done in done]
        columns.append(Column(title="", texts=words, tones=tones, left=True))
    marks = [
        Text(page.glyphs.passed, GOOD) if is_done else Text(page.glyphs.failed, BAD)
        for is_done in done
    ]
    open_ones = sum(not _done(pairs) for pairs in blocks.pairs)
    said = [
        Text(f"{numbers.counted(number, 'layer')}, each with its diagonal block", TITLE),
        Text(f"{open_ones} {UNCONVERGED}", BAD) if open_ones else Text("all converged", GOOD),
    ]
    return [
        *joined(said, page.width, page),
        *table(
            [blocks.names[i] for i in rows],
            columns,
            page,
            drawing=bars(values[rows], errors[rows], page, done),
            marks=marks,
        ),
        *omitted(number - len(rows), "with smaller eigenvalues", page),
    ]


def _done(pairs: EigenPairs) -> bool:
    return pairs.outcome is Outcome.CONVERGED and bool(pairs.converged.all())


def _extreme(
    each: Sequence[EigenPairs], choose: Callable[[FloatArray], np.intp]
) -> tuple[FloatArray, FloatArray]:
    """One eigenvalue of each block and its bound; NaN where a block has none."""
    values, bounds = np.full(len(each), np.nan), np.full(len(each), np.nan)
    for i, pairs in enumerate(each):
        if len(pairs.eigenvalues):
            at = choose(pairs.eigenvalues)
            values[i], bounds[i] = pairs.eigenvalues[at], pairs.eigenvalue_errors[at]
    return values, bounds


def _ending(blocks: BlockSpectra, page: Page) -> list[Text]:
    unsure = sum(pairs.completeness not in _SURE for pairs in blocks.pairs)
    loose = sum(pairs.certification is Certification.NONE for pairs in blocks.pairs)
    remarks = [
        (
            f"completeness is not assured in {numbers.counted(unsure, 'layer')}: an eigenvalue "
            "may be missing there"
            if unsure
            else "completeness probed in every layer: a fresh random start found none missing",
            WARNING if unsure else "",
        ),
        (
            f"residuals not certified in {numbers.counted(loose, 'layer')}" if loose else "",
            WARNING,
        ),
        ("each block stands alone: couplings between layers are not in these spectra", ""),
    ]
    return ending(blocks_sentence(blocks), remarks, page, done=blocks.converged)
