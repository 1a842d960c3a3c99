"""Figures of a spectrum of which every eigenvalue is known.

Letters: P eigenvalues, t levels, x points.
"""

from __future__ import annotations

from typing import final

import numpy as np
from numpy.typing import NDArray

from curvtool.algorithms.density.functions import SpectralSum
from curvtool.algorithms.density.view import Beyond, within
from curvtool.results import FloatArray


@final
class KnownSpectrum:
    """All P eigenvalues with their errors, the whole of H: a `View`.

    Args:
        eigenvalues: shape (P,).
        errors: of each, shape (P,).
    """

    def __init__(self, eigenvalues: FloatArray, errors: FloatArray) -> None:
        self.values_P, self.errors_P = eigenvalues, errors
        self.size = len(eigenvalues)
        self.top = float(np.abs(eigenvalues).max())
        self.least_level = 2 * float(errors.max())
        self.negative = bool((eigenvalues + errors < 0).any())
        self.ends = (float((eigenvalues - errors).min()), float((eigenvalues + errors).max()))

    def sum(self, wanted: SpectralSum) -> tuple[float, float, float]:
        """The sum over the spectrum with its limits, which never fail: low, value, high."""
        least, most = within(wanted.f, self.values_P, self.errors_P)
        value = float(wanted.f(self.values_P).sum())
        # P numbers are added up, each of them rounded.
        rounding = self.size * float(np.finfo(np.float64).eps) * float(np.abs(most).sum())
        return least.sum() - rounding, value, most.sum() + rounding

    def beyond(self, levels_t: FloatArray) -> Beyond:
        """Counts beyond levels, which never fail; their gap is what the errors leave open."""
        t = levels_t[:, None]
        values, errors = self.values_P[None], self.errors_P[None]
        negative = _pair(values + errors < -t, values - errors < -t)
        positive = _pair(values - errors > t, values + errors > t)
        return Beyond(levels_t, negative, positive, negative + positive, negative + positive)

    def below(self, points_x: FloatArray) -> FloatArray:
        """How many eigenvalues are at most x: shape (x, 2)."""
        x = points_x[:, None]
        return _pair(
            self.values_P[None] + self.errors_P[None] <= x,
            self.values_P[None] - self.errors_P[None] <= x,
        )

    def open_without_probes(self, wanted: SpectralSum) -> tuple[float, float]:
        """Limits that no further work narrows."""
        low, _, high = self.sum(wanted)
        return low, high


def _pair(surely: NDArray[np.bool_], perhaps: NDArray[np.bool_]) -> FloatArray:
    return np.stack([surely.sum(axis=1), perhaps.sum(axis=1)], axis=1).astype(np.float64)
