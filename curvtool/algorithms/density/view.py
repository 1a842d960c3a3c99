"""What figures ask of a spectrum, however it is known.

Letters: P size, t levels, x points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, final

import numpy as np

from curvtool.algorithms.density.functions import SpectralSum
from curvtool.results import FloatArray


@final
@dataclass(frozen=True, eq=False)
class Beyond:
    """How many eigenvalues lie beyond levels, on either side of zero.

    Attributes:
        levels: shape (t,), positive and rising.
        negative: shape (t, 2), limits of how many lie below -t.
        positive: shape (t, 2), of how many lie above t.
        both: shape (t, 2), of how many lie beyond either.
        resolved: shape (t, 2), of the last, what the quadratures alone leave open, without the
            deflated and without the error of the probes.
    """

    levels: FloatArray
    negative: FloatArray
    positive: FloatArray
    both: FloatArray
    resolved: FloatArray


class View(Protocol):
    """A spectrum, as far as it is known.

    Attributes:
        size: P.
        top: the largest magnitude.
        least_level: what lies nearer to zero cannot be told from it.
        negative: whether an eigenvalue is surely negative.
        ends: between which all eigenvalues lie.
    """

    size: int
    top: float
    least_level: float
    negative: bool
    ends: tuple[float, float]

    def sum(self, wanted: SpectralSum) -> tuple[float, float, float]:
        """Lower limit, estimate and upper limit of a sum over the spectrum, unfinished."""
        ...

    def beyond(self, levels_t: FloatArray) -> Beyond:
        """Counts beyond levels."""
        ...

    def below(self, points_x: FloatArray) -> FloatArray:
        """Limits of how many eigenvalues are at most x: shape (x, 2)."""
        ...

    def open_without_probes(self, wanted: SpectralSum) -> tuple[float, float]:
        """Limits of a sum that any number of probes of as many steps would leave, unfinished."""
        ...


def within(
    f: Callable[[FloatArray], FloatArray], values: FloatArray, errors: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Least and largest value of a function, monotone on each side of 0, within errors."""
    low, high = f(values - errors), f(values + errors)
    turn = np.where(np.abs(values) <= errors, f(np.zeros_like(values)), low)
    return np.minimum(np.minimum(low, high), turn), np.maximum(np.maximum(low, high), turn)
