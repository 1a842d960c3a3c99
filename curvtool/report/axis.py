"""A horizontal axis with ticks, labels, and a mark at zero."""

from __future__ import annotations

import math
from collections.abc import Callable

from rich.text import Text

from curvtool.report.style import FAINT, TITLE, Glyphs

_CELLS_PER_TICK = 9


def axis_lines(
    low: float, high: float, column: Callable[[float], int], width: int, glyphs: Glyphs
) -> list[Text]:
    """Draw a linear axis.

    Args:
        low: value at its left end.
        high: value at its right end, above `low`.
        column: the cell of a value.
        width: cells of a line, at least 20.
        glyphs: to draw with.

    Returns:
        Two lines: axis, labels.
    """
    ticks = _ticks(low, high, max(width // _CELLS_PER_TICK, 2))
    zero = column(0.0) if low <= 0 <= high else None
    return [
        _axis({column(tick) for tick in ticks}, zero, width, glyphs),
        _labels(ticks, [column(tick) for tick in ticks], width),
    ]


def _axis(ticks: set[int], zero: int | None, width: int, glyphs: Glyphs) -> Text:
    line = Text()
    for at in range(width):
        if at == zero:
            line.append(glyphs.zero, TITLE)
        else:
            line.append(glyphs.tick if at in ticks else glyphs.axis, FAINT)
    return line


def _labels(ticks: list[float], columns: list[int], width: int) -> Text:
    """Return labels centred under their ticks; one that would touch another is left out."""
    step = ticks[1] - ticks[0] if len(ticks) > 1 else abs(ticks[0]) or 1.0
    line = Text()
    for tick, at in zip(ticks, columns, strict=True):
        label = _label(tick, step)
        start = min(max(at - len(label) // 2, 0), width - len(label))
        if line.cell_len and start < line.cell_len + 2:
            continue
        line.append(" " * (start - line.cell_len))
        line.append(label, TITLE if tick == 0 else FAINT)
    return line


def _ticks(low: float, high: float, number: int) -> list[float]:
    """Return multiples of 1, 2 or 5 times a power of ten, about `number` of them."""
    raw = (high - low) / number
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((m * power for m in (1, 2, 5) if m * power >= raw), 10 * power)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _label(tick: float, step: float) -> str:
    if tick == 0:
        return "0"
    if step >= 1e-3 and abs(tick) < 1e6:
        return f"{tick:.{max(0, -math.floor(math.log10(step)))}f}"
    return f"{tick:.3g}".replace("e-0", "e-").replace("e+0", "e+")
