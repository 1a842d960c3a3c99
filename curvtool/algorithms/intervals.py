"""From samples to an estimate, its standard error and an interval with coverage.

The estimate is a sum over independent terms of the mean of each term's R samples. Its variance is
estimated term by term, so that what differs between terms is not taken for error.

Letters: R passes, B terms.

References:
    Satterthwaite (1946), degrees of freedom of a sum of variances; Hall (1992), removal of
    skewness by a monotone cubic transformation, which agrees with Johnson (1978) to first order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import scipy.special

from curvtool.results import FloatArray

# Above this the third moment is mostly noise at the 30 degrees of freedom that a pilot has.
MOST_SKEW = 1.0


@final
@dataclass(frozen=True, eq=False)
class Estimated:
    """Estimates with what their intervals need; all arrays have the same shape.

    Attributes:
        value: the estimates.
        stderr: their standard errors; NaN for a single pass.
        degrees_of_freedom: of the standard errors, at least R - 1; 0 for a single pass.
        skewness: of the estimates themselves (third cumulant over stderr^3).
    """

    value: FloatArray
    stderr: FloatArray
    degrees_of_freedom: FloatArray
    skewness: FloatArray

    def shifted(self, by: FloatArray | float) -> Estimated:
        """With something exact added."""
        return Estimated(self.value + by, self.stderr, self.degrees_of_freedom, self.skewness)

    def interval(self, confidence: float) -> tuple[FloatArray, FloatArray]:
        """Two-sided intervals: low and high ends; NaN for a single pass.

        Args:
            confidence: in (0, 1).

        Returns:
            Two arrays. Ends are at t quantiles, moved for skewness; equal where stderr is 0.
        """
        known = self.degrees_of_freedom > 0
        df = np.where(known, self.degrees_of_freedom, 1.0)
        t = np.where(known, student_quantile(df, (1 + confidence) / 2), np.nan)
        low = self.value - self.stderr * _unskewed(t, self.skewness)
        high = self.value - self.stderr * _unskewed(-t, self.skewness)
        return low, high


def student_quantile(df: FloatArray | float, level: float) -> FloatArray:
    """Quantile of Student's t; of the normal where df is infinite."""
    df = np.asarray(df, dtype=np.float64)
    finite = np.where(np.isfinite(df), df, 1.0)
    t = np.where(np.isfinite(df), scipy.special.stdtrit(finite, level), scipy.special.ndtri(level))
    return np.asarray(t)


def summarized(samples: FloatArray) -> Estimated:
    """Sum over terms of the means over passes.

    Args:
        samples: shape (R, B, ...), R >= 1; trailing axes are separate quantities.

    Returns:
        Estimates of the trailing shape: stderr = sqrt(sum_b s_b^2 / R), degrees of freedom
        (sum s_b^2)^2 / sum(s_b^4 / (R - 1)).
    """
    R, B = samples.shape[:2]
    means = samples.mean(axis=0)
    value = means.sum(axis=0)
    if R < 2:
        return Estimated(
            value, np.full_like(value, np.nan), np.zeros_like(value), np.zeros_like(value)
        )
    apart = samples - means
    squares = (apart**2).sum(axis=0) / (R - 1)
    total = squares.sum(axis=0)
    # In units of the largest, lest fourth powers vanish or overflow.
    largest = squares.max(axis=0)
    unit = np.where(largest > 0, largest, 1.0)
    fourth = ((squares / unit) ** 2).sum(axis=0)
    # Where nothing varies every term has shown R - 1 times that it does not.
    df = np.where(
        largest > 0,
        (R - 1) * (total / unit) ** 2 / np.where(fourth > 0, fourth, 1.0),
        (R - 1) * B,
    )
    return Estimated(value, np.sqrt(total / R), df, _skewness(apart, total))


def _skewness(apart: FloatArray, total: FloatArray) -> FloatArray:
    """Third cumulant of the estimate over its variance^1.5, from unbiased third cumulants."""
    R = len(apart)
    if R < 3:
        return np.zeros_like(total)
    unit = np.sqrt(np.where(total > 0, total, 1.0))
    third = ((apart / unit) ** 3).sum(axis=(0, 1)) * R / ((R - 1) * (R - 2))
    # Variance total / R, third cumulant third * unit^3 / R^2.
    return np.asarray(np.clip(third / np.sqrt(R), -MOST_SKEW, MOST_SKEW))


def _unskewed(t: FloatArray, skewness: FloatArray) -> FloatArray:
    """Hall's inverse: the studentized error whose transform is t."""
    g = np.where(np.abs(skewness) > 1e-4, skewness, 1e-4)
    curved = (3 / g) * (np.cbrt(1 + g * (t - g / 6)) - 1)
    # To first order in g below that, where the quotient would lose digits.
    flat = t - skewness * (t**2 / 3 + 1 / 6)
    return np.where(np.abs(skewness) > 1e-4, curved, flat)
