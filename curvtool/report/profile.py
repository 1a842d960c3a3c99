"""A spectral density as a picture: height on a logarithmic scale over a linear axis.

The scale is logarithmic since the bulk of a trained network's spectrum is a spike at zero that
holds nearly all of it. It ends at a tenth of one eigenvalue: less than that is no part of a
spectrum, but a tail of the Gaussians that it is drawn with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from rich.text import Text

from curvtool.report.axis import axis_lines
from curvtool.report.style import FAINT, NEGATIVE, POSITIVE, TITLE, WARNING, Glyphs, Page
from curvtool.report.words import joined
from curvtool.results import DensityEstimate, FloatArray

_ROWS = 12
_MOST_DECADES = 14
_LEVELS = 8  # of one cell


@dataclass(frozen=True, kw_only=True)
class _Cells:
    """The density over every cell of a line.

    Attributes:
        low: value at the left end of the line.
        high: value at its right end.
        mean: of the density over each cell.
        error: of its standard error, which bounds that of `mean`; NaN where unknown.
        least: density of a tenth of one eigenvalue.
    """

    low: float
    high: float
    mean: FloatArray
    error: FloatArray
    least: float

    @property
    def tones(self) -> list[str]:
        """Colour of each cell, by its sign."""
        edges = np.linspace(self.low, self.high, len(self.mean) + 1)
        middles = (edges[1:] + edges[:-1]) / 2
        return [NEGATIVE if middle < 0 else POSITIVE for middle in middles]


def profile(found: DensityEstimate, page: Page) -> list[Text]:
    """Draw a density with its band, and the eigenvalues of a spectrum run over it.

    Args:
        found: the density.
        page: to be drawn on, at least 40 cells wide.

    Returns:
        Lines, a legend last where there is more than the density. None where the density has no
        extent, or is nowhere above its least.
    """
    margin = 6  # the widest label of a power, and the upright
    width, glyphs = page.width - margin, page.glyphs
    cells = _cells(found, width)
    if cells is None:
        return []
    top = math.ceil(math.log10(float(cells.mean.max())))
    bottom = max(math.floor(math.log10(cells.least)), top - _MOST_DECADES)
    decades = max(top - bottom, 1)
    rows_each = max(1, round(_ROWS / decades))
    rows = decades * rows_each

    def level(height: float) -> int:
        if not height > 0:
            return 0
        share = (math.log10(height) - bottom) / decades
        return round(min(max(share, 0.0), 1.0) * rows * _LEVELS)

    sure = cells.mean - np.where(np.isfinite(cells.error), cells.error, 0.0)
    most = cells.mean + np.where(np.isfinite(cells.error), cells.error, 0.0)
    solid = [level(float(height)) for height in sure]
    band = [level(float(height)) for height in most]
    tones = cells.tones
    lines = _outliers(found, cells, margin, glyphs)
    step = max(1, math.ceil(decades / (_ROWS / 2)))
    tallest = -(-max(band) // _LEVELS)
    for row in range(max(tallest, 1) - 1, -1, -1):
        power, within = divmod(row, rows_each)
        named = within == 0 and power % step == 0
        label = f"1e{bottom + power}" if named else ""
        line = Text(label.rjust(margin - 1), FAINT)
        line.append(glyphs.upright if named else glyphs.origin, FAINT)
        for at, tone in enumerate(tones):
            line.append(*_cell(solid[at], band[at], row * _LEVELS, tone, glyphs))
        line.rstrip()
        lines.append(line)
    below = axis_lines(cells.low, cells.high, lambda x: _column(x, cells), width, glyphs)
    lines += [Text(" " * margin).append(line) for line in below]
    banded = any(glyphs.band in line.plain for line in lines)
    return [*lines, *_legend(found, cells, banded, page)]


def spark(found: DensityEstimate, width: int, glyphs: Glyphs) -> Text:
    """Draw a density in one line, over its own range.

    Args:
        found: the density.
        width: cells.
        glyphs: to draw with.

    Returns:
        Exactly `width` cells.
    """
    cells = _cells(found, width)
    if cells is None:
        return Text(" " * width)
    top = math.log10(float(cells.mean.max()))
    bottom = max(math.log10(cells.least), top - _MOST_DECADES)
    line = Text()
    for height, tone in zip(cells.mean.tolist(), cells.tones, strict=True):
        share = (math.log10(height) - bottom) / (top - bottom) if height > 0 else 0.0
        line.append(glyphs.levels[math.ceil(min(max(share, 0.0), 1.0) * _LEVELS)], tone)
    return line


def _cells(found: DensityEstimate, width: int) -> _Cells | None:
    grid = np.asarray(found.grid, dtype=np.float64)
    if len(grid) < 2 or not np.isfinite(grid).all() or not np.isfinite(found.density).all():
        return None
    low, high = float(grid[0]), float(grid[-1])
    if not 1e-300 < high - low < 1e300:
        return None
    per_cell = (high - low) / width
    # A Gaussian narrower than a cell fills the cell with its mean, not with its peak.
    one = 1 / (found.size * max(per_cell, found.sigma * math.sqrt(2 * math.pi)))
    cells = _Cells(
        low=low,
        high=high,
        mean=_means(grid, found.density, width),
        error=_means(grid, found.density_stderr, width),
        least=one / 10,
    )
    return cells if cells.mean.max() > cells.least > 0 else None


def _means(grid: FloatArray, curve: FloatArray, width: int) -> FloatArray:
    """Means of a piecewise linear curve over equal cells, which keep its area."""
    areas = np.concatenate([[0.0], np.cumsum(np.diff(grid) * (curve[1:] + curve[:-1]) / 2)])
    edges = np.linspace(grid[0], grid[-1], width + 1)
    means: FloatArray = np.diff(np.interp(edges, grid, areas)) / np.diff(edges)
    return means


def _column(value: float, cells: _Cells) -> int:
    share = (value - cells.low) / (cells.high - cells.low)
    return min(int(share * len(cells.mean)), len(cells.mean) - 1)


def _cell(solid: int, band: int, base: int, tone: str, glyphs: Glyphs) -> tuple[str, str]:
    """The character of one cell of a column, and its style."""
    filled = solid - base
    if filled >= _LEVELS:
        return glyphs.levels[_LEVELS], tone
    if filled > 0:
        return glyphs.levels[filled], tone
    if band - base >= _LEVELS / 2:
        return glyphs.band, tone
    return " ", ""


def _outliers(found: DensityEstimate, cells: _Cells, margin: int, glyphs: Glyphs) -> list[Text]:
    places = {_column(float(v), cells) for v in found.outliers if cells.low <= v <= cells.high}
    if not places:
        return []
    marks = "".join(glyphs.pointer if at in places else " " for at in range(len(cells.mean)))
    return [Text(" " * margin).append(marks, TITLE)]


def _legend(found: DensityEstimate, cells: _Cells, banded: bool, page: Page) -> list[Text]:
    glyphs = page.glyphs
    full = glyphs.levels[_LEVELS]
    said = [Text(f"{full} density" + (" less its standard error" if banded else ""), FAINT)]
    if banded:
        said.append(Text(f"{glyphs.band} up to one more", FAINT))
    if found.outliers.size:
        said.append(Text(f"{glyphs.pointer} of a spectrum run", FAINT))
        beyond = sum(not cells.low <= value <= cells.high for value in found.outliers)
        if beyond:
            said.append(Text(f"{beyond} of them beyond the axis", WARNING))
    return joined(said, page.width, page) if len(said) > 1 else []
