"""The spectrum on one line: where the eigenvalues lie, and where zero is."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from curvtool.report.style import FAINT, NEGATIVE, POSITIVE, TITLE, Glyphs
from curvtool.results import FloatArray

_CELLS_PER_TICK = 9


def strip(
    values: FloatArray, converged: NDArray[np.bool_], width: int, glyphs: Glyphs
) -> list[Text]:
    """Draw the eigenvalues as marks over a linear axis that includes zero.

    Args:
        values: the eigenvalues.
        converged: whether each met the tolerance; a mark that stands for one that did not is
            dashed.
        width: cells of a line, at least 20.
        glyphs: to draw with.

    Returns:
        Three lines: marks, axis, labels. None where all values are zero or none are given.
    """
    low, high = (float(edge(values, initial=0.0)) for edge in (np.min, np.max))
    if not 1e-300 < high - low < 1e300:
        return []

    def column(value: float) -> int:
        return round((value - low) / (high - low) * (width - 1))

    ticks = _ticks(low, high, max(width // _CELLS_PER_TICK, 2))
    zero = column(0.0)
    return [
        _marks(values, converged, [column(value) for value in values], width, glyphs),
        _axis({column(tick) for tick in ticks}, zero, width, glyphs),
        _labels(ticks, [column(tick) for tick in ticks], width),
    ]


def legend(values: FloatArray, converged: NDArray[np.bool_], width: int, glyphs: Glyphs) -> Text:
    """Explain the marks that `strip` draws for these values.

    Args:
        values: as for `strip`.
        converged: as for `strip`.
        width: as for `strip`.
        glyphs: as for `strip`.

    Returns:
        One short line; empty where every mark is a plain one.
    """
    drawn = strip(values, converged, width, glyphs)
    marks = drawn[0].plain if drawn else ""
    meanings = (
        (glyphs.mark, "one"),
        (glyphs.marks, "several"),
        (glyphs.open_mark, "not converged"),
    )
    if glyphs.marks not in marks and glyphs.open_mark not in marks:
        return Text()
    said = [f"{mark} {meaning}" for mark, meaning in meanings if mark in marks]
    return Text("   ".join(said), FAINT)


def _marks(
    values: FloatArray,
    converged: NDArray[np.bool_],
    columns: list[int],
    width: int,
    glyphs: Glyphs,
) -> Text:
    cells: dict[int, tuple[int, bool, float]] = {}
    for value, known, at in zip(values, converged, columns, strict=True):
        number, all_known, _ = cells.get(at, (0, True, 0.0))
        cells[at] = (number + 1, all_known and bool(known), float(value))
    line = Text()
    for at in range(width):
        number, all_known, value = cells.get(at, (0, True, 0.0))
        glyph = glyphs.mark if number == 1 else glyphs.marks
        if not all_known:
            glyph = glyphs.open_mark
        line.append(glyph if number else " ", NEGATIVE if value < 0 else POSITIVE)
    return line


def _axis(ticks: set[int], zero: int, width: int, glyphs: Glyphs) -> Text:
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
