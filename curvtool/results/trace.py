"""A trace with its interval, and what came from the same products. Letters: B terms, L layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curvtool.results.outcome import FloatArray, Outcome
from curvtool.results.problem import ParameterEntry, ProblemSummary
from curvtool.results.product import Plan, Preflight


@dataclass(frozen=True, kw_only=True, eq=False)
class TraceEstimate:
    """The trace of a symmetric operator H = sum_b H_b + W I.

    Attributes:
        trace: the estimate.
        stderr: its standard error, of the probes alone; 0 where there were none.
        interval: low and high end; both equal to the trace only where H is zero. Not symmetric: it
            is moved for skewness, and widened where the variance may be small by luck.
        confidence: with which the interval holds the truth.
        is_interval: whether the interval is one with coverage; False where its width is an
            estimate only (`hutch++`, `xtrace`).
        degrees_of_freedom: of the standard error; infinite where it is exact.
        rel_err: asked for: half the interval's width over |trace|; None where not asked.
        abs_err: asked for: half the interval's width; None where not asked.
        method: `hutchinson`, `hutch++`, `xtrace` or `dense`.
        probes: `rademacher` or `gaussian`; empty for `dense`.
        sharing: `per-batch` (a probe for every batch), `shared` (one for all), empty for `dense`.
        samples: shape (pass, B), z'H_b z of every pass and batch; (pass, 1) for shared probes.
            Projected probes where something is deflated.
        batch_weight: shape (B,), what the batches' samples count in the trace: their shares of the
            dataset mean where the samples are those of the batches' own Hessians; (1,) for shared
            probes.
        deflated: directions that were taken out exactly.
        deflated_trace: their part of the trace.
        layers: names, in the order of parameters; empty where not asked for.
        layer_trace: shape (L,), each layer's part of the trace.
        layer_stderr: shape (L,).
        layer_interval: shape (L, 2), low and high ends, each layer with its own degrees of freedom.
        frobenius_squared: |H|_F^2 where asked for.
        frobenius_squared_stderr: its standard error.
        frobenius_squared_interval: low and high end.
        layer_frobenius_squared: shape (L,), squared norms of the layers' row blocks.
        layer_frobenius_squared_stderr: shape (L,).
        layer_frobenius_squared_interval: shape (L, 2).
        hvps: products over the whole dataset, in units of one with all terms, those in float64
            among them.
        hvps_by_stage: the same, by what they were spent on (`pilot`, `deflate`, `probe`,
            `float64`).
        noise: delta, the relative error of a product: over the whole data where that was measured.
        float64_samples: products that were held against float64 over the whole data; 0 where the
            relative error of a product on a few examples stands for all; None in a file of an
            earlier version, whose intervals leave the arithmetic out.
        correction: what float64 moved the trace by; it is in `trace`.
        arithmetic: half-width that the arithmetic adds; it is in `interval`. Those of layers and
            norms have theirs in them too.
        reason: a sentence: why this method, these probes, this deflation.
    """

    trace: float
    stderr: float
    interval: tuple[float, float]
    confidence: float
    is_interval: bool
    degrees_of_freedom: float
    rel_err: float | None
    abs_err: float | None
    method: str
    probes: str
    sharing: str
    samples: FloatArray
    batch_weight: FloatArray
    outcome: Outcome
    hvps: float
    hvps_by_stage: Mapping[str, float]
    seconds: float
    noise: float
    float64_samples: int | None = None
    correction: float = 0.0
    arithmetic: float = 0.0
    deflated: int = 0
    deflated_trace: float = 0.0
    layers: Sequence[str] = ()
    layer_trace: FloatArray | None = None
    layer_stderr: FloatArray | None = None
    layer_interval: FloatArray | None = None
    frobenius_squared: float | None = None
    frobenius_squared_stderr: float | None = None
    frobenius_squared_interval: tuple[float, float] | None = None
    layer_frobenius_squared: FloatArray | None = None
    layer_frobenius_squared_stderr: FloatArray | None = None
    layer_frobenius_squared_interval: FloatArray | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class TraceRun:
    """A whole `trace` run: all that the run file holds and the report shows."""

    estimate: TraceEstimate
    problem: ProblemSummary
    plan: Plan
    preflight: Preflight
    parameters: Sequence[ParameterEntry]
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    seconds: float
    version: str
    created: str


@dataclass(frozen=True, kw_only=True, eq=False)
class DiagonalEstimate:
    """The diagonal of a symmetric operator. Letters: P parameters, L layers, q quantiles.

    Attributes:
        diagonal: shape (P,), estimate of H_ii; None where a reader left it in the file.
        diagonal_stderr: shape (P,), of the probes alone; likewise.
        diagonal_error: shape (P,), half-width of each entry's interval, the arithmetic in it;
            likewise, and None in a file of an earlier version.
        confidence: of the intervals, and of `rel_err`.
        degrees_of_freedom: of every standard error: passes - 1; infinite where there are no probes.
        layers: names.
        layer_size: shape (L,), parameters of each.
        layer_mean: shape (L,), mean of the layer's diagonal.
        layer_mean_stderr: shape (L,), of the probes alone.
        layer_mean_interval: shape (L, 2), low and high ends, the arithmetic in them; None in a file
            of an earlier version.
        layer_quantiles: shape (L, q), of the estimates in a layer; their scatter is in them.
        levels: of the quantiles.
        rel_err: reached: with the confidence, |error|_2 over |diagonal|_2 is no larger; infinite
            where the diagonal may be zero. In a file of an earlier version |stderr|_2 over
            |diagonal|_2, which is no bound.
        asked: relative error asked for; None where only the number of products was given.
        float64_samples: as of a trace.
        arithmetic: what of `rel_err` is the arithmetic's.
        deflated: directions that were taken out exactly.
    """

    diagonal: Any
    diagonal_stderr: Any
    diagonal_error: Any = None
    confidence: float = 0.95
    degrees_of_freedom: float
    layers: Sequence[str]
    layer_size: FloatArray
    layer_mean: FloatArray
    layer_mean_stderr: FloatArray
    layer_mean_interval: FloatArray | None = None
    layer_quantiles: FloatArray
    levels: Sequence[float]
    rel_err: float
    asked: float | None
    method: str
    probes: str
    sharing: str
    outcome: Outcome
    hvps: float
    seconds: float
    noise: float
    float64_samples: int | None = None
    arithmetic: float = 0.0
    deflated: int = 0
    reason: str = ""
    history: Mapping[str, FloatArray] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class DiagRun:
    """A whole `diag` run."""

    estimate: DiagonalEstimate
    problem: ProblemSummary
    plan: Plan
    preflight: Preflight
    parameters: Sequence[ParameterEntry]
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    seconds: float
    version: str
    created: str
