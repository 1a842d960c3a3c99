"""The table of eigenpairs: value, bound, residual and a bar, one line each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rich.text import Text

from curvtool.report import numbers
from curvtool.report.bars import BarScale, bar, bar_scale
from curvtool.report.met import AT_FLOOR
from curvtool.report.met import UNCONVERGED as UNCONVERGED
from curvtool.report.style import BAD, FAINT, GOOD, WARNING, Page
from curvtool.results import EigenPairs

_HEAD, _TAIL = 30, 10  # of a long table, the rows shown at either end
_GAP = "  "
_SMALLEST_BAR, _LONGEST_BAR = 12, 48


@dataclass(frozen=True, kw_only=True)
class _Columns:
    """The parts of every row, formatted, and what of them the width has room for."""

    index: list[str]
    value: list[str]
    error: list[str]
    relative: list[str]
    residual: list[str]
    scale: BarScale | None


def pair_table(pairs: EigenPairs, page: Page, *, verbose: bool) -> list[Text]:
    """Draw the table of pairs.

    Args:
        pairs: what to show.
        page: to be drawn on. Residuals, relative bounds and bars are left out, in this order,
            where its width has no room.
        verbose: whether to show every row; otherwise at most 40, the rest counted.

    Returns:
        A heading and a line per pair. None where there are no pairs.
    """
    k = len(pairs.eigenvalues)
    if k == 0:
        return []
    rows = list(range(k))
    if not verbose and k > _HEAD + _TAIL:
        rows = [*range(_HEAD), *range(k - _TAIL, k)]
    columns = _columns(pairs, rows, page)
    lines = [_heading(columns, page)]
    for line, i in enumerate(rows):
        if line and i != rows[line - 1] + 1:
            lines.append(_omitted(pairs, rows[line - 1] + 1, i, page))
        lines.append(_row(columns, line, pairs, i, page))
    return lines


def _columns(pairs: EigenPairs, rows: list[int], page: Page) -> _Columns:
    values, errors = pairs.eigenvalues[rows], pairs.eigenvalue_errors[rows]
    measured = numbers.measured_column(values.tolist(), errors.tolist())
    index = numbers.align(["#", *(str(i + 1) for i in rows)])
    value, error = ([pair[i] for pair in measured] for i in (0, 1))
    relative = [
        numbers.upper(error / abs(value)) if value != 0 else page.glyphs.unknown
        for value, error in zip(values.tolist(), errors.tolist(), strict=True)
    ]
    relative = _right("relative", relative)
    residual = _right("residual", [numbers.upper(norm) for norm in pairs.residual_norms[rows]])

    marks = 0 if page.plain else 2
    words = [_status(pairs, i, page)[1] for i in rows]
    status = max((len(_GAP + word) for word in words if word), default=0)
    value_width = max(len(value[0]), len("eigenvalue"))
    error_width = len(page.glyphs.plus_minus) + 1 + max(len(error[0]), len("error"))
    # one cell between value and bound, which belong together
    room = page.width - marks - len(index[0]) - len(_GAP) - value_width - 1 - error_width - status
    smallest = 0 if page.plain else len(_GAP) + _SMALLEST_BAR
    shown = []
    for column in (relative, residual):  # the residual is the first to go
        needed = len(_GAP) + len(column[0])
        shown.append(room - needed >= smallest)
        room -= needed if shown[-1] else 0
    bars = room - len(_GAP)
    # Off the head and tail lie other values: one scale for all, so that `verbose` draws the same.
    scale = (
        bar_scale(pairs.eigenvalues, pairs.eigenvalue_errors, min(bars, _LONGEST_BAR))
        if bars >= 3 and not page.plain
        else None
    )
    return _Columns(
        index=index,
        value=[text.rjust(value_width) for text in ["eigenvalue", *value]],
        error=[text.ljust(error_width) for text in ["error", *error]],
        relative=relative if shown[0] else [],
        residual=residual if shown[1] else [],
        scale=scale,
    )


def _right(title: str, texts: list[str]) -> list[str]:
    width = max(len(text) for text in [title, *texts])
    return [text.rjust(width) for text in [title, *texts]]


def _heading(columns: _Columns, page: Page) -> Text:
    sign = page.glyphs.plus_minus
    line = Text()
    line.append("" if page.plain else "  ")
    width = len(columns.error[0])
    line.append(columns.index[0] + _GAP + columns.value[0] + " ")
    line.append(f"{sign} error".ljust(width))
    for column in (columns.relative, columns.residual):
        if column:
            line.append(_GAP + column[0])
    if columns.scale is not None and columns.scale.logarithmic:
        line.append(_GAP + "log scale")
    line.stylize(FAINT)
    line.rstrip()
    return line


def _row(columns: _Columns, line: int, pairs: EigenPairs, i: int, page: Page) -> Text:
    known = bool(pairs.converged[i] or pairs.at_floor[i])
    glyphs, at = page.glyphs, line + 1
    tone = "" if known else BAD
    mark, word, mark_tone = _status(pairs, i, page)
    text = Text()
    if not page.plain:
        text.append(mark, mark_tone).append(" ")
    width = len(columns.error[at])
    text.append(columns.index[at], FAINT).append(_GAP)
    text.append(columns.value[at], tone).append(" ")
    text.append(f"{glyphs.plus_minus} {columns.error[at].rstrip()}".ljust(width), tone or FAINT)
    for column in (columns.relative, columns.residual):
        if column:
            text.append(_GAP + column[at], FAINT)
    if columns.scale is not None:
        value = float(pairs.eigenvalues[i])
        text.append(_GAP).append(bar(value, columns.scale, glyphs, known=known))
    if word:
        text.append(_GAP + word, mark_tone)
    text.rstrip()
    return text


def _status(pairs: EigenPairs, i: int, page: Page) -> tuple[str, str, str]:
    """Mark, word and tone of a pair; a mark alone says that it met the tolerance."""
    glyphs = page.glyphs
    if pairs.converged[i]:
        return glyphs.passed, "converged" if page.plain else "", GOOD
    if pairs.at_floor[i]:
        return glyphs.limited, AT_FLOOR, WARNING
    return glyphs.failed, UNCONVERGED, BAD


def _omitted(pairs: EigenPairs, start: int, stop: int, page: Page) -> Text:
    number = stop - start
    open_ones = int(np.count_nonzero(~(pairs.converged | pairs.at_floor)[start:stop]))
    stopped = int(np.count_nonzero(pairs.at_floor[start:stop]))
    text = Text("" if page.plain else "  ")
    text.append(f"{page.glyphs.ellipsis} {numbers.count(number)} more in the run file", FAINT)
    if stopped:
        text.append(f", {numbers.count(stopped)} of them {AT_FLOOR}", WARNING)
    if open_ones:
        text.append(f", {numbers.count(open_ones)} of them {UNCONVERGED}", BAD)
    return text.append(" (-v shows all)", FAINT)
