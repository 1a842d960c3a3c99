"""The report of how runs stand: a line for each, and the messages that ask for something."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from curvtool.report import numbers
from curvtool.report.columns import Column, omitted, rows_shown, table
from curvtool.report.layout import assembled, hanging, heading, page_of
from curvtool.report.style import BAD, FAINT, GOOD, TITLE, WARNING, Page
from curvtool.report.words import clean, joined, shortened
from curvtool.results import RunStatus, Standing

_TONE = {
    Standing.RUNNING: "",
    Standing.STALE: WARNING,
    Standing.INTERRUPTED: WARNING,
    Standing.FAILED: BAD,
    Standing.DONE: GOOD,
}
# Of a long table, those that ask for something are shown first.
_WEIGHT = {standing: float(len(_TONE) - i) for i, standing in enumerate(Standing)}
_WEIGHT |= {Standing.FAILED: 9.0, Standing.STALE: 8.0}
_TONES = {"converged": "", "floor": WARNING}


def status_report(
    found: Sequence[RunStatus],
    *,
    folder: str,
    now: datetime,
    width: int,
    unicode: bool,
    plain: bool,
    verbose: bool = False,
) -> RenderableType:
    """Build the report of how runs stand.

    Args:
        found: one for each run, paths relative to the folder.
        folder: that was looked through.
        now: what ages are counted from.
        width: cells of a line; between 60 and 120 are used.
        unicode: whether more than ASCII may be printed.
        plain: whether to write lines of text only, without colours.
        verbose: whether to list every run and every message; otherwise at most 40 runs, and the
            messages of those that ask for something.

    Returns:
        A group of lines, none wider than `width` where that is at least 60. Print it with
        `soft_wrap=True`, so that nothing is cut off on a narrower terminal.
    """
    page = page_of(width, unicode=unicode, plain=plain)
    return assembled(
        [
            _title(found, folder, page),
            _table(found, now, page, verbose=verbose),
            _messages(found, page, verbose=verbose),
        ],
        page,
    )


def _title(found: Sequence[RunStatus], folder: str, page: Page) -> list[Text]:
    line = Text().append(numbers.counted(len(found), "run"), TITLE).append(" in ")
    line.append(shortened(clean(folder, page), page.width - line.cell_len, page), FAINT)
    counts = {each: sum(status.standing is each for status in found) for each in Standing}
    said = [
        Text(f"{numbers.count(number)} {each.value}", _TONE[each])
        for each, number in counts.items()
        if number
    ]
    return [line, *(joined(said, page.width, page) if said else [])]


def _table(found: Sequence[RunStatus], now: datetime, page: Page, *, verbose: bool) -> list[Text]:
    shown = rows_shown(
        np.array([_WEIGHT[status.standing] for status in found], dtype=np.float64), verbose=verbose
    )
    rows = [found[i] for i in shown]
    columns = [
        Column(
            title="state",
            texts=[row.standing.value for row in rows],
            tones=[_TONE[row.standing] for row in rows],
            left=True,
        ),
        Column(title="products", texts=[numbers.products(row.hvps) for row in rows], gives_way=3),
        Column(title="updated", texts=[_age(row.updated, now, page) for row in rows], gives_way=1),
        Column(
            title="outcome",
            texts=[clean(row.outcome, page) for row in rows],
            tones=[_TONES.get(row.outcome, BAD) for row in rows],
            gives_way=2,
            left=True,
        ),
    ]
    lines = table([row.output for row in rows], columns, page, title="run", widest=1 / 2)
    return [*lines, *omitted(len(found) - len(rows), "that are further on", page)]


def _messages(found: Sequence[RunStatus], page: Page, *, verbose: bool) -> list[Text]:
    asking = {Standing.FAILED, Standing.STALE}
    told = [row for row in found if row.message and (verbose or row.standing in asking)]
    if not told:
        return []
    lines = [heading("What they say")]
    for row in told:
        lines += hanging(f"{clean(row.output, page)}: {clean(row.message, page)}", page)
    return lines


def _age(updated: str, now: datetime, page: Page) -> str:
    try:
        seconds = (now - datetime.fromisoformat(updated)).total_seconds()
    except (ValueError, TypeError):  # no time, or one without a zone
        return page.glyphs.unknown
    return f"{numbers.duration(round(max(0.0, seconds)))} ago" if seconds >= 1 else "now"
