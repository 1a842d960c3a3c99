"""The report of a sweep: a line for each checkpoint, and what could not be analysed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from curvtool.report import numbers
from curvtool.report.columns import Column, bars, measured, omitted, rows_shown, table
from curvtool.report.completeness import counted_parts
from curvtool.report.ending import ending
from curvtool.report.layout import INDENT, assembled, fact, hanging, heading, indented, page_of
from curvtool.report.met import AT_FLOOR, UNCONVERGED, asked_below_floor, floor_is_failure
from curvtool.report.problem import operator_name
from curvtool.report.style import BAD, FAINT, GOOD, TITLE, WARNING, Page
from curvtool.report.verdicts import track_sentence
from curvtool.report.words import clean, joined, shortened
from curvtool.results import FloatArray, Outcome, Tracked, TrackRun

_WHICH = {
    "LM": "largest in magnitude",
    "LA": "largest",
    "SA": "smallest",
    "BE": "from both ends",
}
_OVERLAP = (
    "overlap: mean squared cosine of the principal angles between the subspace of the listed "
    "eigenvectors and that of the checkpoint before (Gur-Ari, Roberts and Dyer 2018); 1 where "
    "they are the same"
)


def track_report(
    run: TrackRun, *, width: int, unicode: bool, plain: bool, verbose: bool = False
) -> RenderableType:
    """Build the report of a sweep, the same after it and from its file.

    Args:
        run: what to show.
        width: cells of a line; between 60 and 120 are used.
        unicode: whether more than ASCII may be printed.
        plain: whether to write lines of text only, without colours and drawings.
        verbose: whether to list every checkpoint with all of its eigenvalues and angles.

    Returns:
        A group of lines, none wider than `width` where that is at least 60. Print it with
        `soft_wrap=True`, so that nothing is cut off on a narrower terminal.
    """
    page = page_of(width, unicode=unicode, plain=plain)
    return assembled(
        [
            _title(run, page),
            _table(run.rows, run, page, verbose=verbose),
            *(_all_pairs(row, page) for row in run.rows if verbose and len(row.eigenvalues)),
            _failures(run, page),
            _ending(run, page),
            _cost(run, page),
        ],
        page,
    )


def _title(run: TrackRun, page: Page) -> list[Text]:
    line = Text().append(f"{operator_name(run.config, page)} spectra along a training", TITLE)
    facts = [numbers.counted(len(run.rows), "checkpoint")]
    problem = run.problem
    if problem is not None:
        facts += [
            shortened(clean(problem.model, page), page.width - 12, page),
            numbers.counted(problem.num_parameters, "parameter"),
            numbers.counted(problem.num_examples, "example"),
            clean(problem.loss, page),
        ]
    return [line, *joined(facts, page.width, page)]


def _table(rows: Sequence[Tracked], run: TrackRun, page: Page, *, verbose: bool) -> list[Text]:
    largest = np.array([_largest(row) for row in rows])
    errors = np.array([_error(row) for row in rows])
    shown = rows_shown(largest, verbose=verbose)
    dash = page.glyphs.unknown
    kept = [rows[i] for i in shown]
    states = [_state(row, page) for row in kept]
    known = [tone in {GOOD, WARNING} for _, _, tone in states]
    loss = [dash if np.isnan(row.loss) else numbers.figure(row.loss) for row in kept]
    overlap = [dash if np.isnan(row.overlap) else f"{row.overlap:.3f}" for row in kept]
    spent = [numbers.count(row.hvps) if len(row.eigenvalues) else dash for row in kept]
    columns = [
        Column(title="loss", texts=loss, gives_way=3),
        measured(
            f"{'smallest' if run.which == 'SA' else 'largest'} {page.glyphs.plus_minus} error",
            largest[shown],
            errors[shown],
            page,
            tones=["" if met else BAD for met in known],
        ),
        Column(title="overlap", texts=overlap, gives_way=1),
        Column(title="products", texts=spent, gives_way=2),
    ]
    said = [word for _, word, _ in states]
    if any(said):
        tones = [tone for _, _, tone in states]
        columns.append(Column(title="", texts=said, tones=tones, left=True))
    k = max((len(row.eigenvalues) for row in rows), default=0)
    which = _WHICH.get(run.which, clean(run.which, page))
    head: list[str | Text] = [Text(f"{numbers.counted(k, 'eigenvalue')} each", TITLE), which]
    marks = [Text(mark, tone) for mark, _, tone in states]
    lines = table(
        [row.name for row in kept],
        columns,
        page,
        drawing=bars(largest[shown], errors[shown], page, known),
        marks=marks,
        title="checkpoint",
    )
    return [
        *joined(head, page.width, page),
        *lines,
        *omitted(len(rows) - len(kept), "of smaller curvature", page),
    ]


def _state(row: Tracked, page: Page) -> tuple[str, str, str]:
    """Mark, word and tone of a checkpoint."""
    glyphs = page.glyphs
    if row.outcome is Outcome.INTERRUPTED:
        return glyphs.unknown, "to come", FAINT
    if row.outcome is Outcome.FAILED:
        return glyphs.failed, "FAILED", BAD
    if not (row.converged | row.at_floor).all():
        return glyphs.failed, UNCONVERGED, BAD
    if row.outcome not in {Outcome.CONVERGED, Outcome.FLOOR}:
        return glyphs.failed, "NOT FINISHED", BAD
    if row.at_floor.any():
        return glyphs.limited, AT_FLOOR, WARNING
    return glyphs.passed, "", GOOD


def _largest(row: Tracked) -> float:
    return float(row.eigenvalues[0]) if len(row.eigenvalues) else float("nan")


def _error(row: Tracked) -> float:
    return float(row.eigenvalue_errors[0]) if len(row.eigenvalues) else float("nan")


def _all_pairs(row: Tracked, page: Page) -> list[Text]:
    """Every eigenvalue of a checkpoint with its bound, and the angles' cosines."""
    sign = page.glyphs.plus_minus
    values = [
        numbers.plus_minus(float(value), float(error), sign)
        + ("" if met else f" {AT_FLOOR}" if stopped else f" {UNCONVERGED}")
        for value, error, met, stopped in zip(
            row.eigenvalues, row.eigenvalue_errors, row.converged, row.at_floor, strict=True
        )
    ]
    lines = [heading(shortened(clean(row.name, page), page.width, page))]
    lines += indented(joined(values, page.width - INDENT, page))
    if len(row.cosines):
        cosines = [f"{cosine:.3f}" for cosine in row.cosines]
        said = "cosines of the angles to the subspace of "
        room = page.width - INDENT - len(said)
        before = shortened(clean(row.compared_with, page), room, page)
        lines += indented([Text(said + before, FAINT)])
        lines += indented(joined(cosines, page.width - INDENT, page))
    return lines


def _failures(run: TrackRun, page: Page) -> list[Text]:
    failed = [row for row in run.rows if row.outcome is Outcome.FAILED]
    if not failed:
        return []
    lines = [heading("What failed")]
    for row in failed:
        lines += hanging(f"{clean(row.name, page)}: {clean(row.message, page)}", page)
    return lines


def _ending(run: TrackRun, page: Page) -> list[Text]:
    compared = any(len(row.cosines) for row in run.rows)
    warm = sum(bool(row.started_from) for row in run.rows)
    begun = f"{numbers.counted(warm, 'solve')} began from the eigenvectors of the checkpoint before"
    asked = f"tolerance {run.tol:.3g} on {clean(run.accuracy, page)}"
    remarks = [
        (asked_below_floor(run.outcome, run.config), BAD),
        *_proved(run),
        (_OVERLAP if compared else "", ""),
        (begun if warm else "", ""),
        (asked, ""),
    ]
    limited = run.outcome is Outcome.FLOOR
    done = run.outcome is Outcome.CONVERGED or (limited and not floor_is_failure(run.config))
    return ending(track_sentence(run), remarks, page, done=done, limited=limited)


def _proved(run: TrackRun) -> list[tuple[str, str]]:
    """Of how many checkpoints the list is proved."""
    analysed = [row for row in run.rows if len(row.eigenvalues)]
    if not analysed:
        return []
    total = numbers.counted(len(analysed), "checkpoint")
    whole = sum(row.complete for row in analysed)
    partly = sum(not row.complete and row.proved_rank > 0 for row in analysed)
    parts = (
        (whole, "complete at"),
        (partly, "proved in part at"),
        (len(analysed) - whole - partly, "nothing proved at"),
    )
    said = counted_parts(parts, total)
    return [(f"lists of eigenvalues: {said} (their run files say more)", "")]


def _cost(run: TrackRun, page: Page) -> list[Text]:
    made: FloatArray = np.array([row.hvps for row in run.rows if len(row.eigenvalues)], dtype=float)
    if not len(made):
        return []
    spread = f"{numbers.count(int(made.min()))} to {numbers.count(int(made.max()))} a checkpoint"
    products = [f"{numbers.count(run.hvps)} in all", spread]
    return [
        heading("What it took"),
        *fact("products", products, page),
        *fact("time", [f"{numbers.duration(run.seconds)} of all runs together"], page),
    ]
