"""The report of `spectrum --per-layer`: every block's ends, in one table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from curvtool.report import numbers
from curvtool.report.columns import Column, bars, measured, omitted, rows_shown, table
from curvtool.report.completeness import completeness_sentences, proved_of_layers
from curvtool.report.ending import ending
from curvtool.report.evidence import Cost, how
from curvtool.report.layout import INDENT, assembled, indented, page_of, paragraph
from curvtool.report.met import (
    AT_FLOOR,
    UNCONVERGED,
    asked_below_floor,
    met_by,
    met_facts,
    reached,
)
from curvtool.report.problem import operator_name, problem_facts, title
from curvtool.report.style import BAD, GOOD, TITLE, WARNING, Page
from curvtool.report.table import pair_table
from curvtool.report.verdicts import blocks_sentence
from curvtool.report.words import clean, joined, sentence, wrapped
from curvtool.results import (
    Certification,
    Completeness,
    EigenPairs,
    FloatArray,
    Outcome,
    SpectrumBlocksRun,
)


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
            listed = pair_table(pairs, inner, verbose=True)
            parts.append([*head, *indented([*listed, *_proof(pairs, inner)])])
    parts += [
        _table(run, page, verbose=verbose),
        _ending(run, page),
        *how(run, cost, page, verbose=verbose),
    ]
    return assembled(parts, page)


def _proof(pairs: EigenPairs, page: Page) -> list[Text]:
    """What is proved of a layer's list."""
    said = completeness_sentences(pairs, page.glyphs.at_most)
    tone = "" if pairs.completeness.complete else WARNING
    lines = [line for text in said for line in paragraph(sentence(clean(text, page)), page.width)]
    for line in lines:
        line.stylize(tone)
    return lines


def _table(run: SpectrumBlocksRun, page: Page, *, verbose: bool) -> list[Text]:
    blocks = run.blocks
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
    states = [_state(pairs, page) for pairs in shown]
    done = [tone != BAD for _, _, tone in states]
    counts = [f"{int(pairs.converged.sum())}/{len(pairs.converged)}" for pairs in shown]
    tones = ["" if is_done else BAD for is_done in done]
    proofs = [pairs.completeness for pairs in shown]
    columns = [
        Column(title="size", texts=[numbers.count(blocks.sizes[i]) for i in rows], gives_way=3),
        measured(first, values[rows], errors[rows], page, tones=tones),
        measured(second, others[rows], bounds[rows], page, gives_way=4, tones=tones),
        Column(title="converged", texts=counts, tones=tones, gives_way=1),
        Column(
            title="proved",
            texts=[_share_proved(proof, page) for proof in proofs],
            tones=["" if proof.complete else WARNING for proof in proofs],
            gives_way=2,
        ),
    ]
    words = [word for _, word, _ in states]
    if any(words):
        columns.append(
            Column(title="", texts=words, tones=[tone for _, _, tone in states], left=True)
        )
    marks = [Text(mark, tone) for mark, _, tone in states]
    said = [
        Text(f"{numbers.counted(number, 'layer')}, each with its diagonal block", TITLE),
        *met_facts(met_by(blocks.pairs), run, page),
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


def _state(pairs: EigenPairs, page: Page) -> tuple[str, str, str]:
    """Mark, word and tone of a layer."""
    glyphs = page.glyphs
    found = met_by([pairs])
    if pairs.outcome not in {Outcome.CONVERGED, Outcome.FLOOR} or found.unfinished:
        return glyphs.failed, UNCONVERGED, BAD
    if found.at_floor:
        return glyphs.limited, AT_FLOOR, WARNING
    return glyphs.passed, "converged" if page.plain else "", GOOD


def _share_proved(proof: Completeness, page: Page) -> str:
    """Of the list, in numbers."""
    if proof.complete:
        return "all"
    return f"{proof.proved_rank}/{proof.listed}" if proof.listed else page.glyphs.unknown


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


def _ending(run: SpectrumBlocksRun, page: Page) -> list[Text]:
    blocks = run.blocks
    loose = sum(pairs.certification is Certification.NONE for pairs in blocks.pairs)
    proved = all(pairs.completeness.complete for pairs in blocks.pairs)
    found = met_by(blocks.pairs)
    remarks = [
        (asked_below_floor(blocks.outcome, run.config), BAD),
        (proved_of_layers(blocks.pairs) if blocks.pairs else "", "" if proved else WARNING),
        (
            f"residuals not certified in {numbers.counted(loose, 'layer')}" if loose else "",
            WARNING,
        ),
        ("each block stands alone: couplings between layers are not in these spectra", ""),
    ]
    return ending(
        blocks_sentence(blocks),
        remarks,
        page,
        done=reached(blocks.outcome, found, run.config),
        limited=found.at_floor > 0,
    )
