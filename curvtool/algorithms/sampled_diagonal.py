"""A diagonal from all that is known of it: passes, what is exact, and what the arithmetic adds.

It is the diagonal of the operator's own arithmetic, which float64 does not move: a few products
bound what each entry may be off, and correct none.

Letters: P parameters, L layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from curvtool.algorithms.arithmetic import Added, Arithmetic, left_to_probes, trace_ends
from curvtool.algorithms.deflation import exact_parts
from curvtool.algorithms.diagonal_error import DiagonalError, diagonal_error
from curvtool.algorithms.diagonal_settings import DiagonalSettings, quantiles
from curvtool.algorithms.intervals import Estimated, student_quantile
from curvtool.algorithms.layers import sizes
from curvtool.algorithms.sampling import Passes
from curvtool.results import DiagonalEstimate, FloatArray, Outcome


@final
@dataclass(frozen=True, eq=False)
class SampledDiagonal:
    """What passes and the arithmetic say together.

    Attributes:
        passes: with diagonals, at least two.
        arithmetic: products held against float64, with rows.
        settings: what is asked.
    """

    passes: Passes
    arithmetic: Arithmetic
    settings: DiagonalSettings

    @property
    def diagonal_P(self) -> Tensor:
        """The estimate, float64 on the device."""
        assert self.passes.mean_P is not None
        diagonal_P = self.passes.mean_P.double() + self.passes.operator.shift
        if self.passes.deflation.diagonal_P is not None:
            diagonal_P += self.passes.deflation.diagonal_P
        return diagonal_P

    @property
    def variance(self) -> float:
        """Sum of the squared standard errors over all entries."""
        variance = self.passes.diagonal_variance_P.sum(dtype=torch.float64)
        return float(self.passes.space.sum(variance.view(1)))

    @property
    def error(self) -> DiagonalError:
        """Of all entries together."""
        diagonal_P = self.diagonal_P
        arithmetic = float(self._added(np.zeros(len(self.settings.layers))).norm[0])
        return diagonal_error(
            self.passes.space,
            diagonal_P,
            self.passes.diagonal_variance_P,
            passes=self.passes.count,
            level=left_to_probes(self.settings.confidence),
            arithmetic=arithmetic + self._summing * float(self.passes.space.norm(diagonal_P)),
        )

    @property
    def _summing(self) -> float:
        """What a running mean in the operator's dtype rounds, a pass a time, relative."""
        return torch.finfo(self.passes.operator.dtype).eps * math.sqrt(self.passes.count)

    @property
    def _layers(self) -> Estimated:
        """Sums over layers."""
        passes = self.passes
        _, exact = exact_parts(passes.operator, passes.deflation, self.settings.layers)
        return passes.layer_traces.shifted(exact)

    def _added(self, layers: FloatArray) -> Added:
        """What the arithmetic adds to all entries, and to those of layers."""
        passes, deflation = self.passes, self.passes.deflation
        return self.arithmetic.added(
            self.settings.confidence,
            np.array([layers.sum(), *layers]),
            math.sqrt(float(passes.norms.mean(axis=0).sum())),
            directions=math.sqrt(len(deflation.Q_kP) * deflation.frobenius),
        )

    def _entry_errors(self) -> Tensor:
        """Half-widths of the entries' own intervals, of this process's share."""
        s, count = self.settings, self.passes.count
        variance_P, diagonal_P = self.passes.diagonal_variance_P.double(), self.diagonal_P
        rows_P = (variance_P * count + diagonal_P.square()).sqrt()
        level = (1 + left_to_probes(s.confidence)) / 2
        error_P = float(student_quantile(float(count - 1), level)) * variance_P.sqrt()
        error_P += self.arithmetic.rows(s.confidence, rows_P)
        return error_P + self._summing * diagonal_P.abs()

    def record(
        self,
        *,
        outcome: Outcome,
        hvps: float,
        seconds: float,
        reason: str,
        history: Mapping[str, Sequence[float]],
    ) -> DiagonalEstimate:
        """Everything as a result.

        Args:
            outcome: of the run.
            hvps: products of all kinds.
            seconds: of the run.
            reason: sentences.
            history: of the errors.

        Returns:
            The result.
        """
        s, passes, space = self.settings, self.passes, self.passes.space
        n, layers, reached = sizes(s.layers), self._layers, self.error
        added = self._added(layers.value)
        low, high = trace_ends(layers, added, s.confidence, layers=True)
        # The ends are those of the reference's means; the means themselves are not moved.
        low, high = np.minimum(low, layers.value), np.maximum(high, layers.value)
        diagonal_P = space.gathered(self.diagonal_P)
        stderr_P = space.gathered(passes.diagonal_variance_P.double().sqrt())
        return DiagonalEstimate(
            diagonal=diagonal_P.cpu().numpy(),
            diagonal_stderr=stderr_P.cpu().numpy(),
            diagonal_error=space.gathered(self._entry_errors()).cpu().numpy(),
            confidence=s.confidence,
            degrees_of_freedom=float(passes.count - 1),
            layers=tuple(layer.name for layer in s.layers),
            layer_size=n,
            layer_mean=layers.value / n,
            layer_mean_stderr=layers.stderr / n,
            layer_mean_interval=np.stack([low, high], axis=1) / n[:, None],
            layer_quantiles=quantiles(diagonal_P, s),
            levels=s.levels,
            rel_err=reached.relative,
            asked=s.rel_err,
            method="hutchinson",
            probes=s.probes,
            sharing="shared" if passes.shared else "per-batch",
            outcome=outcome,
            hvps=hvps,
            seconds=seconds,
            noise=self.arithmetic.delta,
            float64_samples=added.samples,
            arithmetic=reached.arithmetic / reached.least if reached.least > 0 else math.inf,
            deflated=len(passes.deflation.Q_kP),
            reason=reason,
            history={name: np.array(values) for name, values in history.items()},
        )
