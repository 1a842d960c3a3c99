"""A table of named rows: figures in columns, and a drawing in what room is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from rich.cells import cell_len, set_cell_size
from rich.text import Text

from curvtool.report import numbers
from curvtool.report.bars import bar, bar_scale
from curvtool.report.layout import INDENT
from curvtool.report.style import FAINT, Page
from curvtool.report.words import clean, shortened
from curvtool.results import FloatArray

_GAP = "  "
_MOST_ROWS = 40
_NAME = "layer"


@dataclass(frozen=True, kw_only=True)
class Column:
    """Texts of one column.

    Attributes:
        title: at its head.
        texts: one for each row.
        tones: styles of the texts; empty for plain ones.
        gives_way: 0 for a column that is always shown; of the others, those with the highest
            number are left out first where there is no room.
        left: whether texts stand at the left.
    """

    title: str
    texts: Sequence[str]
    tones: Sequence[str] = ()
    gives_way: int = 0
    left: bool = False

    @property
    def width(self) -> int:
        """Cells that it takes."""
        return max(map(cell_len, [self.title, *self.texts]))


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What is drawn at the end of every row.

    Attributes:
        draw: of so many cells: a title, and a text for each row.
        least: cells without which nothing is drawn.
        most: cells that are enough.
    """

    draw: Callable[[int], tuple[str, Sequence[Text]]]
    least: int = 8
    most: int = 40


def table(
    names: Sequence[str],
    columns: Sequence[Column],
    page: Page,
    *,
    drawing: Drawing | None = None,
    marks: Sequence[Text] = (),
    title: str = _NAME,
    widest: float = 1 / 3,
) -> list[Text]:
    """Draw a table.

    Args:
        names: of the rows.
        columns: after the names.
        page: to be drawn on; no drawing on a plain one.
        drawing: at the end of each row.
        marks: of one cell, before each row; none on a plain page.
        title: over the names.
        widest: share of the page that names may take.

    Returns:
        A heading and a line per row, indented; none wider than the page. None without rows.
    """
    if not names:
        return []
    marked = bool(marks) and not page.plain
    room = page.width - INDENT - (2 if marked else 0)
    said = [clean(name, page) for name in names]
    drawn = None if page.plain else drawing
    longest = min(max(map(cell_len, [title, *said])), max(16, int(page.width * widest)))
    kept = _fitting(columns, room - longest, drawn.least if drawn else 0)
    # A column that must be shown may need a part of the names' room.
    longest = max(min(longest, room - sum(len(_GAP) + column.width for column in kept)), 8)
    shown = [shortened(name, longest, page) for name in said]
    first = Column(title=shortened(title, longest, page), texts=shown, left=True)
    left = room - first.width - sum(len(_GAP) + column.width for column in kept) - len(_GAP)
    head, pictures = "", [Text()] * len(names)
    if drawn is not None and left >= drawn.least:
        head, found = drawn.draw(min(left, drawn.most))
        head = shortened(head, left, page)
        pictures = list(found)
    margin = " " * (INDENT + (2 if marked else 0))
    heading = Text(margin).append(_padded(first, first.title))
    for column in kept:
        heading.append(_GAP).append(_padded(column, column.title))
    heading.append(_GAP).append(head)
    heading.stylize(FAINT)
    lines = [heading]
    for i, picture in enumerate(pictures):
        line = Text(" " * INDENT)
        if marked:
            line.append(marks[i]).append(" ")
        line.append(_padded(first, shown[i]))
        for column in kept:
            tone = column.tones[i] if column.tones else ""
            line.append(_GAP).append(_padded(column, column.texts[i]), tone)
        line.append(_GAP).append(picture)
        lines.append(line)
    for line in lines:
        line.rstrip()
    return lines


def measured(
    title: str,
    values: FloatArray,
    errors: FloatArray,
    page: Page,
    *,
    gives_way: int = 0,
    tones: Sequence[str] = (),
    widest: int = 18,
) -> Column:
    """Make a column of values with their errors.

    Args:
        title: at its head.
        values: NaN where there is none.
        errors: one per value.
        page: to be printed on.
        gives_way: as of `Column`.
        tones: as of `Column`.
        widest: cells of a number in plain notation; scientific ones where more were needed.

    Returns:
        The column, aligned on the decimal points.
    """
    pairs = numbers.measured_or_dash(values.tolist(), errors.tolist(), page.glyphs.unknown, widest)
    texts = [f"{v} {page.glyphs.plus_minus} {e}" if e else v for v, e in pairs]
    width = max((cell_len(text) for text in texts), default=0)
    texts = [
        text.ljust(width) if error else text for text, (_, error) in zip(texts, pairs, strict=True)
    ]
    return Column(title=title, texts=texts, gives_way=gives_way, tones=tones)


def bars(values: FloatArray, errors: FloatArray, page: Page, known: Sequence[bool]) -> Drawing:
    """Draw a bar for each value, from a common zero.

    Args:
        values: not finite where there is no bar.
        errors: their bounds.
        page: to be drawn on.
        known: whether each is converged; the bars of others are hollow.

    Returns:
        The drawing.
    """
    finite = np.isfinite(values)
    safe = np.where(finite, values, 0.0)
    bounds = np.where(np.isfinite(errors), errors, np.abs(safe))

    def draw(width: int) -> tuple[str, Sequence[Text]]:
        scale = bar_scale(safe, bounds, width)
        drawn = [
            bar(float(value), scale, page.glyphs, known=is_known)
            for value, is_known in zip(safe, known, strict=True)
        ]
        return "log scale" if scale.logarithmic else "", drawn

    return Drawing(draw=draw)


def rows_shown(sizes: FloatArray, *, verbose: bool) -> list[int]:
    """Choose the rows of a long table: those that count most, in their own order.

    Args:
        sizes: what a row counts; one that is not finite counts most.
        verbose: whether to show all.

    Returns:
        Places of at most 40 rows, or of all.
    """
    if verbose or len(sizes) <= _MOST_ROWS:
        return list(range(len(sizes)))
    weight = np.where(np.isfinite(sizes), np.abs(sizes), np.inf)
    return sorted(np.argsort(-weight, kind="stable")[:_MOST_ROWS].tolist())


def omitted(number: int, what: str, page: Page) -> list[Text]:
    """Count the rows that a table leaves out.

    Args:
        number: of them.
        what: they are fewer of, e.g. `with smaller traces`.
        page: to be printed on.

    Returns:
        One line; none where none were left out.
    """
    if not number:
        return []
    said = f"{page.glyphs.ellipsis} {numbers.count(number)} more {what} (-v shows all)"
    return [Text(" " * INDENT).append(said, FAINT)]


def _fitting(columns: Sequence[Column], room: int, drawing: int) -> list[Column]:
    """Leave columns out, last in rank first, until a drawing of the least width has room too."""
    kept = list(columns)
    needed = len(_GAP) + drawing if drawing else 0
    while sum(len(_GAP) + column.width for column in kept) + needed > room:
        worst = max(kept, key=lambda column: column.gives_way, default=None)
        if worst is None or worst.gives_way == 0:
            break
        kept.remove(worst)
    return kept


def _padded(column: Column, text: str) -> str:
    if column.left:
        return set_cell_size(text, column.width)
    return " " * (column.width - cell_len(text)) + text
