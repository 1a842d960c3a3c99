"""A spectral density in one line: the smoothed curve, which is for display alone.

The scale is logarithmic since the bulk of a trained network's spectrum is a spike at zero that
holds nearly all of it. It ends at a tenth of one eigenvalue: less than that is no part of a
spectrum, but a tail of the Gaussians that it is drawn with.
"""

from __future__ import annotations

import math

import numpy as np
from rich.text import Text

from curvtool.report.style import NEGATIVE, POSITIVE, Glyphs
from curvtool.results import DensityEstimate, FloatArray

_MOST_DECADES = 14
_LEVELS = 8  # of one cell


def spark(found: DensityEstimate, width: int, glyphs: Glyphs) -> Text:
    """Draw a density in one line, over its own range.

    Args:
        found: the density.
        width: cells.
        glyphs: to draw with.

    Returns:
        Exactly `width` cells.
    """
    grid = np.asarray(found.grid, dtype=np.float64)
    if len(grid) < 2 or not np.isfinite(grid).all() or not np.isfinite(found.density).all():
        return Text(" " * width)
    low, high = float(grid[0]), float(grid[-1])
    if not 1e-300 < high - low < 1e300:
        return Text(" " * width)
    per_cell = (high - low) / width
    # A Gaussian narrower than a cell fills the cell with its mean, not with its peak.
    least = 0.1 / (found.size * max(per_cell, found.sigma * math.sqrt(2 * math.pi)))
    mean = _means(grid, found.density, width)
    if not mean.max() > least > 0:
        return Text(" " * width)
    top = math.log10(float(mean.max()))
    bottom = max(math.log10(least), top - _MOST_DECADES)
    line = Text()
    for at, height in enumerate(mean.tolist()):
        share = (math.log10(height) - bottom) / (top - bottom) if height > 0 else 0.0
        tone = NEGATIVE if low + (at + 0.5) * per_cell < 0 else POSITIVE
        line.append(glyphs.levels[math.ceil(min(max(share, 0.0), 1.0) * _LEVELS)], tone)
    return line


def _means(grid: FloatArray, curve: FloatArray, width: int) -> FloatArray:
    """Means of a piecewise linear curve over equal cells, which keep its area."""
    areas = np.concatenate([[0.0], np.cumsum(np.diff(grid) * (curve[1:] + curve[:-1]) / 2)])
    edges = np.linspace(grid[0], grid[-1], width + 1)
    means: FloatArray = np.diff(np.interp(edges, grid, areas)) / np.diff(edges)
    return means
