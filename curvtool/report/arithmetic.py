"""What the arithmetic adds to an interval, in words."""

from __future__ import annotations

import math

from curvtool.report import numbers
from curvtool.report.style import Page
from curvtool.results import DiagonalEstimate, TraceEstimate


def arithmetic_said(
    found: TraceEstimate | DiagonalEstimate, size: float, page: Page, *, unit: str = ""
) -> list[str]:
    """Say what the arithmetic adds, and how that is known.

    Args:
        found: an estimate.
        size: of what it adds.
        page: to be printed on.
        unit: `%` for a share.

    Returns:
        Parts of a line.
    """
    if found.float64_samples is None:
        return ["not in the interval: the file is of an earlier version"]
    size = size if math.isfinite(size) else math.nan
    said = f"{page.glyphs.plus_minus} {numbers.bound(size, unit)} of it"
    if not found.float64_samples:
        return [said, "by the rounding of a few examples only"]
    products = numbers.counted(found.float64_samples, "product")
    return [said, f"by {products} held against float64 over all examples"]


def longer_side(value: float, low: float, high: float) -> float:
    """The longer side of an interval; NaN where it is not known."""
    return max(high - value, value - low) if math.isfinite(high - low) else math.nan
