"""The spectrum on one line: where the eigenvalues lie, and where zero is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from curvtool.report.axis import axis_lines
from curvtool.report.style import FAINT, NEGATIVE, POSITIVE, Glyphs
from curvtool.results import FloatArray


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

    return [
        _marks(values, converged, [column(value) for value in values], width, glyphs),
        *axis_lines(low, high, column, width, glyphs),
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
