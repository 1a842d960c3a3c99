"""Ends of the spectrum: beyond them lies an eigenvalue with small probability only.

The Lanczos polynomial p of a probe v of unit length satisfies |p(C) v| = beta_1 ... beta_k, so that
an eigenvalue y outside the Ritz values with share w of the probe has

    sqrt(w) prod |y - theta_i| <= prod beta_i.

A Gaussian probe has w = g^2 / |v|^2 with g standard normal, and |g| < t with probability at most
t sqrt(2 / pi). That every one of n independent probes has |g| sqrt(2 / pi) <= miss^(1/n) has
probability `miss` at most; the end is where all of them would have to.

Letters: n probes, k steps.

References:
    van Dorsselaer, Hochstenbach, van der Vorst (2000): bounds from the actual coefficients, which
    are tighter than those of Kuczynski and Wozniakowski (1992), that hold for any.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from curvtool.algorithms.density.rules import Recurrence
from curvtool.results import FloatArray

MISS = 1e-3
_HALVINGS = 60


def spectrum_ends(
    recurrences: Sequence[Recurrence],
    squared_lengths: FloatArray,
    *,
    noise: float,
    limit: float = math.inf,
    miss: float = MISS,
) -> tuple[float, float]:
    """An interval that holds the spectrum but for a probability of 2 `miss`.

    Args:
        recurrences: of n independent Gaussian probes.
        squared_lengths: |v|^2 of each, shape (n,).
        noise: error of a node, which is added at both ends.
        limit: no eigenvalue exceeds it in magnitude, as far as is known from elsewhere; it counts
            where no Ritz value contradicts it.
        miss: probability at each end.

    Returns:
        Both ends.
    """
    reach = [
        _reach(recurrence, math.sqrt(square), miss ** (1 / len(recurrences)))
        for recurrence, square in zip(recurrences, squared_lengths, strict=True)
    ]
    lowest = min(float(r.gauss[0][0]) for r in recurrences)
    highest = max(float(r.gauss[0][-1]) for r in recurrences)
    low = min(lowest, min(low for low, _ in reach)) - noise
    high = max(highest, max(high for _, high in reach)) + noise
    bounded = limit + noise
    return (
        max(low, -bounded) if lowest >= -bounded else low,
        min(high, bounded) if highest <= bounded else high,
    )


def _reach(recurrence: Recurrence, length: float, level: float) -> tuple[float, float]:
    """How far beyond its Ritz values an eigenvalue may lie whose share is not too improbable."""
    ritz, _ = recurrence.gauss
    if not recurrence.beta_k.all():
        return float(ritz[0]), float(ritz[-1])  # the probe saw all that it has a share of
    # log prod |y - theta_i| at the end; beyond, |g| sqrt(2 / pi) would be below the level.
    share = math.log(length / level * math.sqrt(2 / math.pi))
    wanted = float(np.log(recurrence.beta_k).sum()) + share

    def distance(theta: FloatArray) -> float:
        """How far above the largest of theta the product reaches what is wanted."""
        gaps = theta.max() - theta
        near = 0.0
        # One gap is at least the distance d, all are at least: k log d <= wanted.
        far = math.exp(wanted / len(theta)) * (1 + 1e-9)
        for _ in range(_HALVINGS):
            middle = (near + far) / 2
            if middle <= 0 or float(np.log(gaps + middle).sum()) < wanted:
                near = middle
            else:
                far = middle
        return far

    return float(ritz[0]) - distance(-ritz), float(ritz[-1]) + distance(ritz)
