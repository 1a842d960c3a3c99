"""Which Ritz values are wanted, and how far from eigenvalues they seem to be.

Letters: n Ritz values, k wanted, theta a Ritz value, rho its residual norm.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from curvtool.algorithms.settings import Which
from curvtool.results import FloatArray

Indices = NDArray[np.intp]


def wanted(theta_n: FloatArray, which: Which, count: int) -> Indices:
    """Indices of `count` Ritz values, the most wanted first in the order of results.

    Args:
        theta_n: Ritz values in any order.
        which: the end of the spectrum.
        count: how many; all of them where there are fewer.

    Returns:
        Indices. LM by decreasing magnitude, LA decreasing, SA increasing; BE takes ceil(count/2)
        from the top and floor(count/2) from the bottom and lists them decreasing.
    """
    count = min(count, len(theta_n))
    rising = np.argsort(theta_n, kind="stable")
    if which == "LM":
        return np.argsort(-np.abs(theta_n), kind="stable")[:count]
    if which == "LA":
        return rising[::-1][:count]
    if which == "SA":
        return rising[:count]
    top = (count + 1) // 2
    bottom = count - top
    return np.concatenate([rising[::-1][:top], rising[:bottom][::-1]])


def gaps(theta_n: FloatArray, rho_n: FloatArray) -> FloatArray:
    """Distance of each Ritz value to where the others' eigenvalues can be.

    Args:
        theta_n: Ritz values.
        rho_n: their residual norms.

    Returns:
        gap_i = min over j != i of |theta_i - theta_j| - rho_j, shape (n,); infinite for a single
        value, negative where nothing is known.
    """
    if len(theta_n) < 2:
        return np.full(len(theta_n), np.inf)
    distance = np.abs(theta_n[:, None] - theta_n[None, :]) - rho_n[None, :]
    np.fill_diagonal(distance, np.inf)
    return np.asarray(distance.min(axis=1), dtype=np.float64)


def value_bounds(r_n: FloatArray, gap_n: FloatArray) -> FloatArray:
    """min(r, r^2 / gap): how far each Ritz value is from an eigenvalue if the gaps are true.

    Args:
        r_n: residual norms.
        gap_n: from `gaps`; r alone is used where a gap is not positive.

    Returns:
        Absolute bounds, shape (n,): a forecast, since nobody has proved the gaps.

    References:
        Kato (1949) and Temple (1928); Parlett, The Symmetric Eigenvalue Problem, 10.4.
    """
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        quadratic = np.where(gap_n > 0, r_n * (r_n / gap_n), np.inf)
    return np.asarray(np.minimum(r_n, quadratic), dtype=np.float64)


def beyond(theta_k: FloatArray, which: Which, *, margin: FloatArray) -> tuple[float, float]:
    """The interval outside which a further eigenvalue would belong among the wanted ones.

    Args:
        theta_k: the found values in the order of `wanted`.
        which: the end of the spectrum asked for.
        margin: error bounds of the found values, shape (k,): no closer than these counts.

    Returns:
        (low, high): below low or above high is beyond. Infinite where that end is not asked for.
    """
    if which == "LM":
        edge = float(np.abs(theta_k[-1]) + margin[-1])
        return -edge, edge
    if which == "LA":
        return -np.inf, float(theta_k[-1] + margin[-1])
    if which == "SA":
        return float(theta_k[-1] - margin[-1]), np.inf
    top = (len(theta_k) + 1) // 2
    high = float(theta_k[top - 1] + margin[top - 1])
    low = float(theta_k[top] - margin[top]) if top < len(theta_k) else -np.inf
    return low, high
