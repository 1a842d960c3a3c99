"""A trace from all that is known of it: passes, what is exact, and what the arithmetic adds.

Letters: L layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from curvtool.algorithms.arithmetic import (
    Added,
    Arithmetic,
    left_to_probes,
    norm_ends,
    trace_ends,
)
from curvtool.algorithms.deflation import exact_parts
from curvtool.algorithms.estimation import TraceSettings
from curvtool.algorithms.intervals import Estimated
from curvtool.algorithms.sampling import Passes
from curvtool.results import FloatArray, Outcome, TraceEstimate


@final
@dataclass(frozen=True, eq=False)
class SampledTrace:
    """What passes and the arithmetic say together.

    Attributes:
        passes: those that the trace comes from, at least one.
        arithmetic: products held against float64.
        settings: what is asked.
    """

    passes: Passes
    arithmetic: Arithmetic
    settings: TraceSettings

    @property
    def estimate(self) -> Estimated:
        """Of the trace, by the passes and what is exact."""
        return self.passes.trace.shifted(self._exact[0])

    @property
    def of_probes(self) -> tuple[float, float]:
        """Low and high end without what the arithmetic adds; NaN for a single pass."""
        low, high = self.estimate.interval(left_to_probes(self.settings.confidence))
        return float(low), float(high)

    @property
    def half_of_probes(self) -> float:
        """Half of that width."""
        low, high = self.of_probes
        return (high - low) / 2

    @property
    def interval(self) -> tuple[float, float]:
        """Low and high end, the arithmetic in them; NaN for a single pass."""
        low, high = trace_ends(self.estimate, self.added(), self.settings.confidence)
        return float(low), float(high)

    @property
    def holds_zero(self) -> bool:
        """Whether zero lies inside; False for a single pass."""
        low, high = self.interval
        return low < 0 < high

    @property
    def _exact(self) -> tuple[float, FloatArray]:
        passes = self.passes
        return exact_parts(passes.operator, passes.deflation, self.settings.layers)

    def added(self, layers: Estimated | None = None) -> Added:
        """What the arithmetic adds to the trace, and to those of layers."""
        passes, deflation = self.passes, self.passes.deflation
        others = np.zeros(len(self.settings.layers)) if layers is None else layers.value
        return self.arithmetic.added(
            self.settings.confidence,
            np.array([float(self.estimate.value), *others]),
            math.sqrt(float(passes.norms.mean(axis=0).sum())),
            # By Cauchy and Schwarz, of k lengths whose squares are known in sum.
            directions=math.sqrt(len(deflation.Q_kP) * deflation.frobenius),
        )

    def record(
        self,
        shared: Passes,
        *,
        outcome: Outcome,
        hvps_by_stage: Mapping[str, float],
        seconds: float,
        reason: str,
    ) -> TraceEstimate:
        """Everything as a result.

        Args:
            shared: passes that |H|_F^2 comes from, where it is asked for.
            outcome: of the run.
            hvps_by_stage: products.
            seconds: of the run.
            reason: sentences.

        Returns:
            The result.
        """
        s, passes, deflation = self.settings, self.passes, self.passes.deflation
        layer = passes.layer_traces.shifted(self._exact[1]) if s.layers else None
        added = self.added(layer)
        norms = _norms(shared, added, s) if s.frobenius and shared.count else {}
        if layer is not None:
            ends = trace_ends(layer, added, s.confidence, layers=True)
            norms |= {
                "layer_trace": layer.value + added.shift[1:],
                "layer_stderr": layer.stderr,
                "layer_interval": np.stack(ends, axis=1),
            }
        shift = passes.operator.shift * len(deflation.Q_kP)
        return TraceEstimate(
            trace=float(self.estimate.value) + float(added.shift[0]),
            stderr=float(self.estimate.stderr),
            interval=self.interval,
            confidence=s.confidence,
            is_interval=passes.count > 1,
            degrees_of_freedom=float(self.estimate.degrees_of_freedom),
            rel_err=s.rel_err,
            abs_err=s.abs_err,
            method="hutchinson",
            probes=s.probes,
            sharing="shared" if passes.shared else "per-batch",
            samples=passes.samples,
            batch_weight=np.ones(passes.samples.shape[1]),
            outcome=outcome,
            hvps=sum(hvps_by_stage.values()),
            hvps_by_stage=hvps_by_stage,
            seconds=seconds,
            noise=self.arithmetic.delta,
            float64_samples=added.samples,
            correction=float(added.shift[0]),
            arithmetic=float(added.half[0]),
            deflated=len(deflation.Q_kP),
            deflated_trace=deflation.trace + shift,
            layers=tuple(each.name for each in s.layers),
            reason=reason,
            **norms,
        )


def _norms(shared: Passes, added: Added, settings: TraceSettings) -> dict[str, Any]:
    """Frobenius norms under the names that a result has for them."""
    deflation = shared.deflation
    exact = np.array([deflation.frobenius, *deflation.layer_frobenius])
    squared = shared.frobenius.shifted(exact)
    ends = norm_ends(squared, added, settings.confidence)
    found: dict[str, Any] = {
        "frobenius_squared": float(squared.value[0]),
        "frobenius_squared_stderr": float(squared.stderr[0]),
        "frobenius_squared_interval": (float(ends[0, 0]), float(ends[0, 1])),
    }
    if settings.layers:
        found |= {
            "layer_frobenius_squared": squared.value[1:],
            "layer_frobenius_squared_stderr": squared.stderr[1:],
            "layer_frobenius_squared_interval": ends[1:],
        }
    return found
