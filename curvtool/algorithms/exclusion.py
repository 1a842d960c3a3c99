"""What one random vector excludes: bounds of unlisted eigenvalues from its Lanczos coefficients.

Let v be uniform on the unit sphere of N dimensions, B symmetric, and p_i the polynomials of its
Lanczos recurrence: v_(i + 1) = p_i(B) v. For an eigenpair (mu, x) of B, x'v_(i + 1) = p_i(mu) x'v,
and Bessel's inequality gives (x'v)^2 S(mu) <= 1 with S = sum p_i^2. A fixed unit vector has
(x'v)^2 < pi a^2 / (2 N) with probability a at most, so that S(mu) <= 2 N / (pi a^2) with
probability 1 - a. Beyond the largest Ritz value S grows: its root there bounds the largest
eigenvalue of B, whatever the spectrum, whatever its gaps, copies included, after every step.

One end is taken at a time; the lower end is the upper end of -B. Letters: N dimensions, k pairs,
b directions of residuals, c a count, X a limit.

References:
    Van Dorsselaer, Hochstenbach, van der Vorst (2001), who use the last polynomial alone;
    Kuczynski, Wozniakowski (1992).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import numpy as np

from curvtool.algorithms.settings import Which
from curvtool.results import FloatArray

# Sums above this are divided down; only their logarithm is asked for.
_LARGE = 1e50
_BISECTIONS = 60


def threshold(dimensions: int, chance: float) -> float:
    """Logarithm of 2 N / (pi a^2), which S exceeds with probability a at most."""
    return math.log(2 * dimensions / (math.pi * chance**2))


def ends_of(which: Which, k: int) -> tuple[bool, ...]:
    """The ends of the spectrum that are asked for: True the upper, False the lower."""
    if which in {"LA", "SA"}:
        return (which == "LA",)
    return (True, False) if which == "LM" or k > 1 else (True,)


def listed_at(theta_k: FloatArray, which: Which, *, upper: bool) -> list[int]:
    """Places of the listed values that belong to an end, outermost first.

    Args:
        theta_k: the list, in the order of `wanted`.
        which: what was asked for.
        upper: the end.

    Returns:
        Places. Of BE the first half belongs to the upper end; of LM a value to that of its sign.
    """
    sign = 1.0 if upper else -1.0
    places = list(range(len(theta_k)))
    if which == "BE":
        top = (len(theta_k) + 1) // 2
        places = places[:top] if upper else places[top:]
    elif which == "LM":
        places = [i for i in places if sign * theta_k[i] > 0]
    elif (which == "LA") != upper:
        places = []
    return sorted(places, key=lambda i: -sign * theta_k[i])


def conditions(
    theta_k: FloatArray, margin_k: FloatArray, which: Which, *, upper: bool
) -> list[tuple[float, int]]:
    """What has to be proved at an end: pairs (X, c), at most c eigenvalues exceed X.

    Args:
        theta_k: the list.
        margin_k: by how much a value may be low.
        which: what was asked for.
        upper: the end; X is in its sign.

    Returns:
        One for each value of the end, outermost first; for LM one more for the values of the other
        sign: none beyond the smallest magnitude of the list.
    """
    sign = 1.0 if upper else -1.0
    places = listed_at(theta_k, which, upper=upper)
    found = [(sign * float(theta_k[i]) + float(margin_k[i]), r) for r, i in enumerate(places)]
    if which == "LM" and len(theta_k):
        least = int(np.argmin(np.abs(theta_k)))
        found.append((abs(float(theta_k[least])) + float(margin_k[least]), len(places)))
    return found


def admissible(theta: FloatArray, R: FloatArray, wanted: Sequence[tuple[float, int]]) -> FloatArray:
    """For each condition the largest U such that a complement below U proves it.

    With W the deflated vectors, A W = W diag(theta) + (residual), the residuals' Gram matrix R R'
    and the rest of A at most U, A is at most [[diag(theta), R], [R', U I]] in the order of
    symmetric matrices. By the inertia of its Schur complement at most c of its eigenvalues exceed
    X where c - #(theta > X) of the eigenvalues of R'(X - theta)^(-1) R are let off.

    Args:
        theta: deflated values in the sign of the end.
        R: couplings, shape (deflated, b).
        wanted: from `conditions`.

    Returns:
        Limits; minus infinity where no U does it.
    """
    limits = []
    for X, c in wanted:
        distance = X - theta
        free = c - int((distance < 0).sum())
        with np.errstate(divide="ignore", invalid="ignore"):
            schur = np.linalg.eigvalsh(_finite((R.T / distance) @ R))[::-1]
        if free < 0:
            limits.append(-np.inf)
        elif free < len(schur):
            limits.append(min(X, X - float(schur[free])))
        else:
            limits.append(X)
    return np.array(limits)


def _finite(matrix: FloatArray) -> FloatArray:
    # A value exactly at X with a coupling makes X itself unprovable; without one it is nothing.
    return np.asarray(np.nan_to_num(matrix, nan=0.0, posinf=1e300, neginf=-1e300))


def outermost(theta: FloatArray, R: FloatArray, U: float, count: int) -> FloatArray:
    """Bounds of the outermost eigenvalues of A, given that of its complement.

    Args:
        theta: deflated values in the sign of the end.
        R: couplings, shape (deflated, b).
        U: bound of the complement.
        count: how many.

    Returns:
        Decreasing, shape (count,): the i-th eigenvalue is at most max(U, i-th of the majorant).
    """
    b = R.shape[1]
    majorant = np.block([[np.diag(theta), R], [R.T, U * np.eye(b)]])
    values = np.linalg.eigvalsh(majorant)[::-1]
    padded = np.append(values, np.full(max(0, count - len(values)), -np.inf))
    return np.asarray(np.maximum(padded[:count], U))


@final
class Exclusion:
    """S at one point u of one end, step by step: it excludes u once S passes the threshold.

    Attributes:
        u: the point, in the sign of the end.
        seen: whether a Ritz value lies beyond it.
        proved: whether everything beyond it is excluded.
        growth: logarithm of S after each step.
    """

    def __init__(self, u: float, needed: float) -> None:
        self.u, self.needed = u, needed
        self.seen = self.proved = False
        self.growth = [0.0]
        self._p, self._q, self._S, self._log = 1.0, 0.0, 1.0, 0.0

    def step(self, alpha: float, beta_before: float, beta: float) -> None:
        """Take in a step of the recurrence, alpha in the sign of the end."""
        if self.proved or self.seen or self.u == -math.inf:  # nothing could prove that one
            return
        p = ((self.u - alpha) * self._p - beta_before * self._q) / beta if beta else math.inf
        if p <= 0 or self.u <= alpha:  # p_j changes its sign at a Ritz value
            self.seen = True
            return
        if math.isinf(p):
            self.proved = True
            return
        self._q, self._p = self._p, p
        self._S += p * p
        if p > _LARGE:
            self._q, self._p, self._S = self._q / p, 1.0, self._S / p**2
            self._log += 2 * math.log(p)
        self.growth.append(math.log(self._S) + self._log)
        self.proved = self.growth[-1] > self.needed

    @property
    def forecast(self) -> float:
        """Steps until it is proved, by the growth of the last three."""
        done = len(self.growth) - 1
        if self.proved:
            return float(done)
        recent = self.growth[-4:]
        rate = (recent[-1] - recent[0]) / max(1, len(recent) - 1)
        return done + (self.needed - self.growth[-1]) / rate if rate > 0 else math.inf


def log_sum(u: float, alpha: Sequence[float], beta: Sequence[float]) -> float:
    """Logarithm of S(u) after all steps, for u beyond the largest Ritz value."""
    p, q, S, log = 1.0, 0.0, 1.0, 0.0
    before = 0.0
    for a, b in zip(alpha, beta, strict=True):
        if not b:
            return math.inf
        p, q, before = ((u - a) * p - before * q) / b, p, b
        S += p * p
        if abs(p) > _LARGE:
            size = abs(p)
            p, q, S, log = p / size, q / size, S / size**2, log + 2 * math.log(size)
    return math.log(S) + log


def bound(alpha: Sequence[float], beta: Sequence[float], needed: float) -> float:
    """The point beyond which nothing is, with the probability that `needed` stands for.

    Args:
        alpha: diagonal of the recurrence in the sign of the end, one step at least.
        beta: below it, the last one included.
        needed: from `threshold`.

    Returns:
        The root of S beyond the largest Ritz value, from above.
    """
    off = list(beta[:-1])
    ritz = np.linalg.eigvalsh(np.diag(alpha) + np.diag(off, 1) + np.diag(off, -1))
    low = float(ritz[-1])
    if not beta[-1]:
        return low
    width = beta[-1] + float(ritz[-1] - ritz[0])
    while log_sum(low + width, alpha, beta) <= needed:
        width *= 4
    high = low + width
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if log_sum(middle, alpha, beta) > needed:
            high = middle
        else:
            low = middle
    return high


def unseen(u: float, alpha: Sequence[float], beta: Sequence[float], dimensions: int) -> float:
    """The chance of a recurrence as clean as this one where an eigenvalue beyond u exists.

    Returns:
        sqrt(2 N / (pi S(u))), 1 at most and not below 1e-10; 1 where a Ritz value lies beyond u.
    """
    off = list(beta[:-1])
    ritz = np.linalg.eigvalsh(np.diag(alpha) + np.diag(off, 1) + np.diag(off, -1))
    if u <= ritz[-1]:
        return 1.0
    log = 0.5 * (math.log(2 * dimensions / math.pi) - log_sum(u, alpha, beta))
    return min(1.0, max(1e-10, math.exp(min(0.0, log))))
