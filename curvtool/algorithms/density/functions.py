"""The functions that are summed over the spectrum, and how far their sums move with it.

Letters: P size of the operator, d deflated pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import final

import numpy as np

from curvtool.results import FloatArray


@final
@dataclass(frozen=True)
class Moved:
    """By how much the eigenvalues of deflated and rest together may differ from those of H.

    With R = HU - U Theta of columns r_i and the Rayleigh quotients Theta, H differs from the matrix
    of the blocks Theta and C by (I - UU')R beside the diagonal.

    Attributes:
        total: sum over eigenvalues of their distances at most: 2 sum |r_i| (Mirsky 1960).
        squares: sum |r_i|^2, to which distances are of second order where f is smooth: d^2/ds^2
            tr f(A + sE) <= max |f''| |E|_F^2, and the first derivative is zero for such an E.
        size: P.
    """

    total: float
    squares: float
    size: int


@final
@dataclass(frozen=True, kw_only=True)
class SpectralSum:
    """sum f(lambda) over the spectrum, with f(0) = 0 and f monotone on each side of zero.

    Attributes:
        name: of what is printed.
        parameter: of the function; None where it has none.
        detail: its formula.
        f: the function, elementwise; grows with |x| from 0 unless `signed`.
        sway: by how much the sum of the blocks may exceed that of H, and fall short of it.
        finish: what is printed, of the sum: rises.
        signed: whether f has the sign of x.
        definite: whether it has a meaning for spectra without negative eigenvalues only.
        rough: whether f is steeper at zero than any line, so that only proved brackets are safe.
    """

    name: str
    parameter: float | None
    detail: str
    f: Callable[[FloatArray], FloatArray]
    sway: Callable[[Moved], tuple[float, float]]
    finish: Callable[[float], float] = float
    signed: bool = False
    definite: bool = False
    rough: bool = False


def _identity(x: FloatArray) -> FloatArray:
    return x


def _subadditive(f: Callable[[FloatArray], FloatArray], moved: Moved) -> tuple[float, float]:
    """Of f concave in |x|: |f(x) - f(y)| <= f(|x - y|), whose sum is largest for equal parts."""
    most = moved.size * float(f(np.array([moved.total / moved.size]))[0])
    return most, most


def trace() -> SpectralSum:
    """The sum of the eigenvalues, which is that of the blocks exactly."""
    return SpectralSum(
        name="trace",
        parameter=None,
        detail="sum l",
        f=_identity,
        sway=lambda _: (0.0, 0.0),
        signed=True,
    )


def schatten_norm(p: float, *, top: float) -> SpectralSum:
    """(sum |l|^p)^(1/p).

    Args:
        p: positive.
        top: the largest magnitude, in units of which powers are taken, lest they overflow.

    Returns:
        The sum.

    Raises:
        ValueError: for p that is not positive.
    """
    _require_positive("schatten_norm", "p", p)
    unit = top or 1.0

    def f(x: FloatArray) -> FloatArray:
        powers: FloatArray = (np.abs(x) / unit) ** p
        return powers

    def convex(moved: Moved) -> tuple[float, float]:
        # The blocks of a matrix never have a larger sum than the matrix (Peierls, Berezin).
        first = p * moved.total / unit
        second = p * (p - 1) * moved.squares / unit**2 if p >= 2 else math.inf
        return 0.0, min(first, second)

    return SpectralSum(
        name="Schatten norm",
        parameter=p,
        detail={1.0: "nuclear norm, sum |l|", 2.0: "Frobenius norm, (sum l^2)^(1/2)"}.get(
            p, "(sum |l|^p)^(1/p)"
        ),
        f=f,
        sway=convex if p >= 1 else partial(_subadditive, f),
        finish=lambda total: max(total, 0.0) ** (1 / p) * unit,
        rough=p < 1,
    )


def effective_dimension(a: float) -> SpectralSum:
    """Sum l / (l + a) over a positive semidefinite spectrum.

    Args:
        a: positive.

    Returns:
        The sum.

    Raises:
        ValueError: for a that is not positive.
    """
    _require_positive("effective_dimension", "a", a)

    def f(x: FloatArray) -> FloatArray:
        above = np.maximum(x, 0.0)
        return above / (above + a)

    return SpectralSum(
        name="effective dimension",
        parameter=a,
        detail="sum l / (l + a)",
        f=f,
        sway=partial(_subadditive, f),
        definite=True,
    )


def log_determinant(a: float, *, size: int) -> SpectralSum:
    """The logarithm of det(H + a I) of a positive semidefinite H.

    Args:
        a: positive.
        size: P.

    Returns:
        The sum: P log a + sum log(1 + l / a).

    Raises:
        ValueError: for a that is not positive.
    """
    _require_positive("log_determinant", "a", a)

    def f(x: FloatArray) -> FloatArray:
        return np.log1p(np.maximum(x, 0.0) / a)

    return SpectralSum(
        name="log-determinant",
        parameter=a,
        detail="sum log(l + a)",
        f=f,
        sway=partial(_subadditive, f),
        finish=lambda total: size * math.log(a) + total,
        definite=True,
    )


def _require_positive(who: str, what: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{who} needs {what} > 0, got {value}.")
