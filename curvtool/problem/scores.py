"""How good the predictions are: a figure beside the loss that shows data prepared wrongly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Fit:
    """Errors of real predictions beside the spread of their targets, as sums that add up.

    Attributes:
        count: numbers predicted.
        squared_error: sum of (prediction - target)^2.
        mean: of the targets.
        scatter: sum of (target - mean)^2.
    """

    count: int
    squared_error: float
    mean: float
    scatter: float

    def joined(self, other: Fit | None) -> Fit:
        """Of both sets of predictions together (Chan et al. 1979, which cancels nothing)."""
        if other is None or not other.count:
            return self
        if not self.count:
            return other
        count = self.count + other.count
        gap = other.mean - self.mean
        return Fit(
            count,
            self.squared_error + other.squared_error,
            self.mean + gap * other.count / count,
            self.scatter + other.scatter + gap * gap * self.count * other.count / count,
        )

    @property
    def rmse(self) -> float:
        """Root of the mean squared error."""
        return math.sqrt(self.squared_error / self.count) if self.count else math.nan

    @property
    def target_std(self) -> float:
        """Standard deviation of all targets: the RMSE of their mean as a prediction."""
        return math.sqrt(self.scatter / self.count) if self.count else math.nan


def fit_of(outputs: Tensor, targets: Tensor) -> Fit:
    """Measure real predictions.

    Args:
        outputs: predictions of any shape.
        targets: of the same shape.

    Returns:
        The sums, in float64.
    """
    y = targets.to(torch.float64)
    mean = float(y.mean()) if y.numel() else 0.0
    return Fit(
        count=y.numel(),
        squared_error=float((outputs.to(torch.float64) - y).square().sum()),
        mean=mean,
        scatter=float((y - mean).square().sum()),
    )


@dataclass(frozen=True)
class Score:
    """What a loss counts beside its value.

    Attributes:
        correct: right predictions among `counted`; None where there are no classes.
        counted: predictions that `correct` was counted over.
        fit: errors of real predictions, where there are some.
    """

    correct: int | None = None
    counted: int | None = None
    fit: Fit | None = None

    def joined(self, other: Score) -> Score:
        """Of both batches together."""
        return Score(
            _added(self.correct, other.correct),
            _added(self.counted, other.counted),
            self.fit.joined(other.fit) if self.fit else other.fit,
        )

    @property
    def accuracy(self) -> float | None:
        """Share of right predictions, where any were counted."""
        return self.correct / self.counted if self.correct is not None and self.counted else None


def _added(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else a + b
