"""The picture of a density: how many eigenvalues lie beyond each point, on either side of zero.

Both scales are logarithmic: a trained network has nearly all of its spectrum at zero, and a few
large eigenvalues that matter. What is filled is certain, what is shaded above it possible; nothing
here is smoothed.
"""

from __future__ import annotations

import math

import numpy as np
from rich.text import Text

from curvtool.report.style import FAINT, NEGATIVE, POSITIVE, TITLE, Glyphs, Page
from curvtool.report.words import joined
from curvtool.results import DensityEstimate, FloatArray

_ROWS = 8
_LEVELS = 8  # of one cell
_MARGIN = 6  # the widest label of a count, and the upright
_MOST_DECADES = 12


def beyond_picture(found: DensityEstimate, page: Page) -> list[Text]:
    """Draw how many eigenvalues lie beyond each point.

    Args:
        found: the density, whose counts are intervals.
        page: to be drawn on, at least 40 cells wide.

    Returns:
        Lines, a legend last. None where nothing lies beyond any level.
    """
    counts = np.asarray(found.beyond_interval, dtype=np.float64)
    levels = np.asarray(found.levels, dtype=np.float64)
    if counts.size == 0 or not np.isfinite(counts).all() or len(levels) < 2:
        return []
    if not (0 < levels[0] < levels[-1] < math.inf) or counts[:, :, 1].max() < 1:
        return []
    lowest = max(math.log10(levels[0]), math.log10(levels[-1]) - _MOST_DECADES)
    span = (lowest, math.log10(levels[-1]))
    shown = [side for side in (0, 1) if counts[side, :, 1].max() >= 1]
    room = page.width - _MARGIN
    cells = (room - 1) // 2 if len(shown) == 2 else room - 1
    columns = {side: _columns(counts[side], levels, span, cells) for side in shown}
    tallest = max(float(columns[side][:, 1].max()) for side in shown)
    decades = max(1, math.ceil(math.log10(tallest) + 1e-9))
    rows_each = max(1, _ROWS // decades)
    marks = _marks(found, span, cells, shown, page.glyphs)
    lines = [Text(" " * _MARGIN).append(marks, TITLE)] if marks.strip() else []
    for row in range(decades * rows_each - 1, -1, -1):
        power, within = divmod(row, rows_each)
        label = f"{10**power:,}" if power < 4 else f"1e{power}"
        named = within == 0
        line = Text((label if named else "").rjust(_MARGIN - 1), FAINT)
        line.append(page.glyphs.upright if named else page.glyphs.origin, FAINT)
        for side in (0, 1):
            if side in columns:
                drawn = columns[side][::-1] if side == 0 else columns[side]
                tone = NEGATIVE if side == 0 else POSITIVE
                for least, most in drawn:
                    line.append(
                        *_cell(_height(least, rows_each), _height(most, rows_each), row, tone, page)
                    )
            if side == 0:
                line.append(" ")
        line.rstrip()
        lines.append(line)
    lines += _axis(span, cells, shown, page.glyphs)
    return [*lines, *_legend(found, bool(marks.strip()), page)]


def _columns(
    counts: FloatArray, levels: FloatArray, span: tuple[float, float], cells: int
) -> FloatArray:
    """Least and most count beyond the middle of every cell, from zero outward: (cells, 2)."""
    points = 10 ** (span[0] + (np.arange(cells) + 0.5) / cells * (span[1] - span[0]))
    above = np.searchsorted(levels, points, side="left")
    below = np.maximum(np.searchsorted(levels, points, side="right") - 1, 0)
    # A count falls outward: the next level out has the certain part, the next one in the possible.
    return np.stack([counts[above, 0], counts[below, 1]], axis=1)


def _height(number: float, rows_each: int) -> int:
    """Eighths of a cell: a row's width for one eigenvalue, then as many rows as decades."""
    if number < 1:
        return 0
    return max(1, round(math.log10(number) * rows_each * _LEVELS) + 1)


def _cell(solid: int, most: int, row: int, tone: str, page: Page) -> tuple[str, str]:
    filled = solid - row * _LEVELS
    if filled >= _LEVELS:
        return page.glyphs.levels[_LEVELS], tone
    if filled > 0:
        return page.glyphs.levels[filled], tone
    if most > row * _LEVELS:
        return page.glyphs.band, tone
    return " ", ""


def _place(value: float, span: tuple[float, float], cells: int) -> int | None:
    """The cell of a magnitude, from zero outward; none within the innermost."""
    if not value > 0 or math.log10(value) < span[0]:
        return None
    share = (math.log10(value) - span[0]) / (span[1] - span[0])
    return min(int(share * cells), cells - 1)


def _column(value: float, span: tuple[float, float], cells: int, shown: list[int]) -> int | None:
    """The column of a value on the whole axis."""
    side = 0 if value < 0 else 1
    at = _place(abs(value), span, cells)
    if at is None or side not in shown:
        return None
    if side == 0:
        return cells - 1 - at
    return at + 1 + (cells if 0 in shown else 0)


def _marks(
    found: DensityEstimate, span: tuple[float, float], cells: int, shown: list[int], glyphs: Glyphs
) -> str:
    width = cells * len(shown) + 1
    line = [" "] * width
    for value in [*found.deflated, *found.outliers]:
        if math.isfinite(value):
            at = _column(float(value), span, cells, shown)
            if at is not None:
                line[at] = glyphs.pointer
    return "".join(line)


def _axis(span: tuple[float, float], cells: int, shown: list[int], glyphs: Glyphs) -> list[Text]:
    """Axis and labels: a tick at each power of ten."""
    width = cells * len(shown) + 1
    zero = cells if 0 in shown else 0
    every = max(1, math.ceil(9 * (span[1] - span[0]) / cells))
    powers = [p for p in range(math.ceil(span[0]), math.floor(span[1]) + 1) if p % every == 0]
    ticks = {zero: "0"}
    for power in powers:
        for sign in (-1, 1):
            at = _column(sign * 10.0**power, span, cells, shown)
            if at is not None:
                ticks[at] = f"{'-' if sign < 0 else ''}{_power(power)}"
    axis, labels = Text(" " * _MARGIN), Text(" " * _MARGIN)
    for at in range(width):
        glyph = glyphs.zero if at == zero else glyphs.tick if at in ticks else glyphs.axis
        axis.append(glyph, TITLE if at == zero else FAINT)
    for at in sorted(ticks):
        label = ticks[at]
        start = min(max(at - len(label) // 2, 0), width - len(label))
        used = labels.cell_len - _MARGIN
        if used and start < used + 1:
            continue
        labels.append(" " * (start - used)).append(label, TITLE if at == zero else FAINT)
    return [axis, labels]


def _power(power: int) -> str:
    return f"{10.0**power:g}" if -3 <= power <= 3 else f"1e{power}"


def _legend(found: DensityEstimate, marked: bool, page: Page) -> list[Text]:
    glyphs = page.glyphs
    said = [
        Text(f"{glyphs.levels[_LEVELS]} certain", FAINT),
        Text(f"{glyphs.band} possible, {100 * found.confidence:.3g} %", FAINT),
    ]
    if marked:
        what = "taken out" if len(found.deflated) else "of a spectrum run"
        if len(found.deflated) and len(found.outliers):
            what = "taken out, or of a spectrum run"
        said.append(Text(f"{glyphs.pointer} {what}", FAINT))
    return [Text(" " * _MARGIN).append(line) for line in joined(said, page.width - _MARGIN, page)]
