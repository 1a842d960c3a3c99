"""A bar for each eigenvalue, from a common zero: negative ones to the left."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from rich.text import Text

from curvtool.report.style import FAINT, NEGATIVE, POSITIVE, Glyphs
from curvtool.results import FloatArray

_DECADES_LINEAR = 2.5  # beyond, the small bars of a linear scale are all alike
_DECADES_SHOWN = 12.0


@dataclass(frozen=True, kw_only=True)
class BarScale:
    """How long a bar is for a value.

    Attributes:
        left: cells for negative values.
        right: cells for positive ones; one more cell between them shows zero.
        largest: the magnitude that the scale ends at.
        decades: of a logarithmic scale, 0 for a linear one.
        per_cell: share of the scale that a cell covers.
    """

    left: int
    right: int
    largest: float
    decades: float
    per_cell: float

    @property
    def logarithmic(self) -> bool:
        """Whether lengths grow with the logarithm of the magnitude."""
        return self.decades > 0

    def share(self, value: float) -> float:
        """Length of the bar of `value`, as a share of the longest possible one.

        Args:
            value: within the scale.

        Returns:
            A number in 0..1.
        """
        if value == 0 or self.largest == 0:
            return 0.0
        ratio = abs(value) / self.largest
        if not self.logarithmic:
            return min(ratio, 1.0)
        if ratio == 0:  # a quotient below the smallest double
            return 0.0
        return min(max(1 + math.log10(ratio) / self.decades, 0.0), 1.0)


def bar_scale(values: FloatArray, errors: FloatArray, width: int) -> BarScale:
    """Fit a scale for bars into `width` cells.

    It is logarithmic where the values span more than 2.5 decades. Values within their bounds of
    zero do not count for that: their magnitude is noise.

    Args:
        values: the eigenvalues.
        errors: their bounds.
        width: cells for bars, at least 3.

    Returns:
        The scale.
    """
    magnitudes = np.abs(values)
    largest = float(magnitudes.max(initial=0.0))
    known = magnitudes[(magnitudes > errors) & (magnitudes > 0)]
    span = float(np.log10(largest) - np.log10(known.min())) if known.size else 0.0
    # Half a decade more, so that the smallest value still has a bar.
    decades = min(span + 0.5, _DECADES_SHOWN) if span > _DECADES_LINEAR else 0.0
    whole = BarScale(left=0, right=0, largest=largest, decades=decades, per_cell=1.0)
    below = max((whole.share(v) for v in values if v < 0), default=0.0)
    above = max((whole.share(v) for v in values if v > 0), default=0.0)
    room = width - 1
    left = round(room * below / (below + above)) if below + above > 0 else 0
    if (values < 0).any():  # however small beside the others: it has a side to be drawn on
        left = max(left, 1)
    if (values > 0).any():
        left = min(left, room - 1)
    right = room - left
    per_cell = max(below / left if left else 0.0, above / right if right else 0.0)
    return BarScale(left=left, right=right, largest=largest, decades=decades, per_cell=per_cell)


def bar(value: float, scale: BarScale, glyphs: Glyphs, *, known: bool) -> Text:
    """Draw one bar.

    Args:
        value: within the scale.
        scale: of the whole column.
        glyphs: to draw with.
        known: whether the value is converged; if not, the bar is hollow.

    Returns:
        Exactly `scale.left + 1 + scale.right` cells.
    """
    cells = scale.left if value < 0 else scale.right
    halves = round(2 * scale.share(value) / scale.per_cell) if scale.per_cell else 0
    halves = min(max(halves, 1), 2 * cells) if value != 0 and cells else 0
    if not known:
        body = glyphs.open_bar * ((halves + 1) // 2)
    elif value < 0:
        body = glyphs.bar_right_half * (halves % 2) + glyphs.bar * (halves // 2)
    else:
        body = glyphs.bar * (halves // 2) + glyphs.bar_left_half * (halves % 2)
    left = body if value < 0 else ""
    right = "" if value < 0 else body
    text = Text().append(left.rjust(scale.left), NEGATIVE)
    text.append(glyphs.origin, FAINT)
    return text.append(right.ljust(scale.right), POSITIVE)
