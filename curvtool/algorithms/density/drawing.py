"""The curve that is drawn of a density: a choice of display, without a band.

Letters: P size, d deflated, n probes, k steps, g points of the grid.
"""

from __future__ import annotations

import math

import numpy as np

from curvtool.results import FloatArray

# Standard deviations of the Gaussians that the grid goes beyond the outermost nodes.
MARGIN = 5.0


def default_sigma(values: FloatArray, steps: int) -> float:
    """Range of nodes and deflated over 2 k, about the nodes' distance; positive always."""
    low, high = float(values.min()), float(values.max())
    scale = max(abs(low), abs(high)) or 1.0
    return max((high - low) / (2 * steps), 1e-3 * scale)


def default_grid(values: FloatArray, sigma: float, points: int) -> FloatArray:
    """Evenly spaced, and beyond the outermost values by 5 sigma: shape (g,)."""
    margin = MARGIN * sigma
    return np.linspace(float(values.min()) - margin, float(values.max()) + margin, points)


def smoothed(
    nodes: FloatArray,
    weights: FloatArray,
    share_n: FloatArray,
    deflated: FloatArray,
    size: int,
    grid: FloatArray,
    sigma: float,
) -> FloatArray:
    """A Gaussian of width sigma around every node and every deflated eigenvalue.

    Args:
        nodes: of the rest, shape (n, k), NaN where there is none.
        weights: shape (n, k).
        share_n: of every probe in the mean.
        deflated: shape (d,).
        size: P.
        grid: shape (g,).
        sigma: positive.

    Returns:
        Shape (g,); its integral is 1 but for what lies off the grid.
    """
    there = np.isfinite(nodes)
    rest = (size - len(deflated)) / size
    centres = np.concatenate([deflated, nodes[there]])
    masses = np.concatenate([
        np.full(len(deflated), 1 / size),
        (rest * share_n[:, None] * weights)[there],
    ])
    curve = np.zeros(len(grid))
    for centre, mass in zip(centres, masses, strict=True):
        curve += mass * np.exp(-0.5 * ((grid - centre) / sigma) ** 2)
    return curve / (sigma * math.sqrt(2 * math.pi))


def padded(rows: list[FloatArray], fill: float) -> FloatArray:
    """Rows of one length, shape (n, k): filled past the end of a shorter one."""
    found = np.full((len(rows), max(map(len, rows))), fill)
    for row, values in zip(found, rows, strict=True):
        row[: len(values)] = values
    return found
