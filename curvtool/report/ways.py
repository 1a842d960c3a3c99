"""The table of ways to make a product: seconds, price, memory, error, verdict, a bar each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from rich.cells import cell_len, set_cell_size
from rich.text import Text

from curvtool.report import numbers
from curvtool.report.bars import BarScale, bar, bar_scale
from curvtool.report.layout import INDENT, paragraph
from curvtool.report.style import BAD, FAINT, GOOD, WARNING, Page
from curvtool.report.words import clean, shortened
from curvtool.results import Verdict, WayTrial

_GAP = "  "
_SMALLEST_BAR, _LONGEST_BAR = 8, 40
_LONGEST_NAME = 24
_WORDS = {
    Verdict.RIGHT: "exact",
    Verdict.INEXACT: "inexact",
    Verdict.WRONG: "WRONG",
    Verdict.REFUSED: "refused",
    Verdict.NOT_TRIED: "not tried",
}
_TONES = {
    Verdict.CHOSEN: GOOD,
    Verdict.RIGHT: GOOD,
    Verdict.INEXACT: WARNING,
    Verdict.WRONG: BAD,
    Verdict.REFUSED: FAINT,
    Verdict.NOT_TRIED: FAINT,
}


@dataclass(frozen=True, kw_only=True)
class _Column:
    """Texts of one column, all of one width, the title first."""

    texts: list[str]
    faint: bool = False

    @property
    def width(self) -> int:
        return len(self.texts[0])


def way_table(
    trials: Sequence[WayTrial], page: Page, *, verbose: bool, chosen: str = "fastest"
) -> list[Text]:
    """Draw the table of ways.

    Args:
        trials: a row each.
        page: to be drawn on. Bars, errors and memory are left out, in this order, where its
            width has no room; so is a column that no row has a figure for.
        verbose: whether every row says its detail; otherwise those that did not run or are wrong.
        chosen: the verdict on the way that was chosen, in a word.

    Returns:
        A heading and a line per way, details beneath. None where there are no ways.
    """
    if not trials:
        return []
    names = [shortened(clean(trial.way, page), _LONGEST_NAME, page) for trial in trials]
    name = _left(["way", *names])
    said = _WORDS | {Verdict.CHOSEN: chosen}
    words = _left(["verdict", *(said[trial.verdict] for trial in trials)])
    columns, scale = _fitting(trials, page, name.width + words.width)
    mark = "" if page.plain else "  "
    titles = [name.texts[0], *(column.texts[0] for column in columns), words.texts[0]]
    lines = [Text(mark + _GAP.join(titles), FAINT)]
    if scale is not None and scale.logarithmic:
        lines[0].append(_GAP + "log scale")
    for i, trial in enumerate(trials, start=1):
        tone = _TONES[trial.verdict]
        line = Text()
        if not page.plain:
            line.append(_mark(trial, page).ljust(2), tone)
        line.append(name.texts[i])
        for column in columns:
            line.append(_GAP).append(column.texts[i], FAINT if column.faint else "")
        line.append(_GAP).append(words.texts[i], tone)
        if scale is not None and trial.gradients is not None:
            known = trial.verdict not in {Verdict.INEXACT, Verdict.WRONG}
            line.append(_GAP).append(bar(trial.gradients, scale, page.glyphs, known=known))
        line.rstrip()
        lines += [line, *_detail(trial, page, verbose=verbose)]
    return lines


def _fitting(
    trials: Sequence[WayTrial], page: Page, taken: int
) -> tuple[list[_Column], BarScale | None]:
    """The columns between name and verdict that have figures and room, and what is left."""
    room = page.width - (0 if page.plain else 2) - taken - len(_GAP)
    dash = page.glyphs.unknown
    times = _column("ms", [t.seconds for t in trials], lambda s: _milliseconds(s * 1e3), dash)
    prices = _column("gradients", [t.gradients for t in trials], lambda g: f"{g:.2f}", dash)
    peaks = _column(
        "memory", [t.bytes_peak for t in trials], lambda b: numbers.memory(int(b)), dash
    )
    errors = _column("error", [t.error for t in trials], numbers.upper, dash)
    chosen: list[_Column | None] = []
    for column in (times, prices, peaks, errors):
        needed = len(_GAP) + column.width if column else 0
        fits = column is not None and needed <= room
        chosen.append(column if fits else None)
        room -= needed if fits else 0
    scale = None
    drawn = [t.gradients for t in trials if t.gradients is not None]
    if drawn and not page.plain and room >= len(_GAP) + _SMALLEST_BAR:
        values = np.array(drawn)
        scale = bar_scale(values, np.zeros_like(values), min(room - len(_GAP), _LONGEST_BAR))
    return [column for column in chosen if column is not None], scale


def _column(
    head: str, values: Sequence[float | None], text: Callable[[float], str], dash: str
) -> _Column | None:
    if all(value is None for value in values):
        return None
    shown = [dash if value is None else text(value) for value in values]
    aligned = numbers.align(shown) if head in {"ms", "gradients"} else shown
    width = max(map(len, [head, *aligned]))
    return _Column(texts=[t.rjust(width) for t in [head, *aligned]], faint=head != "gradients")


def _left(texts: list[str]) -> _Column:
    width = max(map(cell_len, texts))
    return _Column(texts=[set_cell_size(text, width) for text in texts])


def _milliseconds(number: float) -> str:
    return f"{number:,.0f}" if number >= 99.95 else f"{number:.3g}"


def _mark(trial: WayTrial, page: Page) -> str:
    glyphs = page.glyphs
    if trial.verdict in {Verdict.CHOSEN, Verdict.RIGHT}:
        return glyphs.passed
    return glyphs.failed if trial.verdict is Verdict.WRONG else glyphs.unknown


def _detail(trial: WayTrial, page: Page, *, verbose: bool) -> list[Text]:
    loud = trial.verdict in {Verdict.WRONG, Verdict.REFUSED, Verdict.NOT_TRIED}
    said = trial.detail or (trial.verdict.sentence if trial.verdict is Verdict.WRONG else "")
    if not said or not (verbose or loud):
        return []
    margin = INDENT if page.plain else 2 * INDENT
    lines = paragraph(clean(said, page), page.width - margin)
    return [Text(" " * margin).append(line.plain, FAINT) for line in lines]
