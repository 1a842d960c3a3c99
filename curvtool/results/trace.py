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
        stderr: its standard error; 0 where it is exact.
        interval: low and high end; both equal to the trace where it is exact. Not symmetric: it
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
        hvps: products over the whole dataset, in units of one with all terms.
        hvps_by_stage: the same, by what they were spent on (`pilot`, `deflate`, `probe`).
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
        diagonal_stderr: shape (P,); likewise.
        degrees_of_freedom: of every standard error: passes - 1; infinite where all is exact.
        layers: names.
        layer_size: shape (L,), parameters of each.
        layer_mean: shape (L,), mean of the layer's diagonal.
        layer_mean_stderr: shape (L,).
        layer_quantiles: shape (L, q), of the estimates in a layer; their scatter is in them.
        levels: of the quantiles.
        rel_err: reached: |stderr|_2 over |diagonal|_2.
        asked: relative error asked for; None where only the number of products was given.
    """

    diagonal: Any
    diagonal_stderr: Any
    degrees_of_freedom: float
    layers: Sequence[str]
    layer_size: FloatArray
    layer_mean: FloatArray
    layer_mean_stderr: FloatArray
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
