"""Trace and diagonal from products with every unit vector, cheaper than probes when P is small.

They are made in float64 where that can be had: what is left is its rounding, which is taken from
what float32 rounds and crosses kinks over the whole data, less by the ratio of their eps.

Letters: P parameters, L layers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from curvtool.algorithms.arithmetic import FINEST, Arithmetic, floor_sentence, norm_factor
from curvtool.algorithms.deflation import NOT_FINITE
from curvtool.algorithms.estimation import EstimateProgress, Report, TraceSettings, silent
from curvtool.algorithms.layers import Layer, layer_sums, require_inside
from curvtool.algorithms.terms import as_sum
from curvtool.errors import CurvtoolError
from curvtool.operators.base import NoReference, SymmetricOperator, products
from curvtool.operators.recording import remembered
from curvtool.results import FloatArray, Outcome, TraceEstimate

# Rows handed to the operator at once, which divides them as its memory allows.
ROWS = 64
# Products held against float64, for the rounding alone.
SAMPLES = 2
# With which the enlarged rounding is too small.
MISS = 1e-3


@final
@dataclass(frozen=True, eq=False)
class ExactRows:
    """Diagonal and rows of a matrix, on the host in float64.

    Attributes:
        diagonal_P: shape (P,).
        lengths_P: Euclidean norms of the rows, shape (P,).
        delta: relative error of a row, in 2-norm.
        compared: products that were held against float64 to know it; 0 where it was given.
        hvps: products of either kind.
        dtype: that they were made in.
    """

    diagonal_P: Tensor
    lengths_P: Tensor
    delta: float
    compared: int
    hvps: int
    dtype: torch.dtype


def exact_rows(
    operator: SymmetricOperator,
    reference: SymmetricOperator | None = None,
    *,
    delta: float,
    seed: int,
    report: Report = silent,
) -> ExactRows:
    """Diagonal and lengths of the rows: P products, and up to 4 that say how they round.

    Args:
        operator: symmetric, of size P.
        reference: the same in float64, whose products are taken; None where there is none.
        delta: relative error of one product of the operator, where nothing better is known.
        seed: of the vectors that rounding is measured along.
        report: told of every block.

    Returns:
        The rows. Memory is 128 vectors of P numbers.

    Raises:
        CurvtoolError: when a product is not finite.
    """
    arithmetic = Arithmetic(as_sum(operator), reference, delta=delta, seed=seed)
    for _ in range(SAMPLES):
        if arithmetic.next_count:
            arithmetic.add()
    P, spent = operator.size, 2 * arithmetic.count
    alike = operator.dtype == torch.float64
    if arithmetic.reference is not None and not alike:
        # Roundings in proportion to their eps; a kink that float32 crosses float64 does not.
        eps = [torch.finfo(dtype).eps for dtype in (torch.float64, operator.dtype)]
        rounding = norm_factor(SAMPLES, MISS) * arithmetic.delta * eps[0] / eps[1]
        try:
            found = _all_rows(operator, arithmetic.reference, "float64 rows", report)
            return ExactRows(
                *found, max(FINEST, rounding), arithmetic.count, P + spent, torch.float64
            )
        except NoReference:
            pass  # memory holds the graphs of one product, not those of a block
    found = _all_rows(operator, operator, "rows", report)
    known = max(FINEST, arithmetic.delta)
    return ExactRows(*found, known, arithmetic.count, P + spent, operator.dtype)


def _all_rows(
    recorded: SymmetricOperator, source: SymmetricOperator, name: str, report: Report
) -> tuple[Tensor, Tensor]:
    """Diagonal and lengths of all rows of the source."""
    P = source.size
    diagonal_P = torch.empty(P, dtype=torch.float64)
    lengths_P = torch.empty(P, dtype=torch.float64)
    for begin in range(0, P, ROWS):
        end = min(P, begin + ROWS)
        found = remembered(recorded, f"{name} from {begin}", partial(_rows, source, begin, end))
        diagonal_P[begin:end], lengths_P[begin:end] = map(torch.from_numpy, found)
        if not torch.isfinite(lengths_P[begin:end]).all():
            raise CurvtoolError(NOT_FINITE)
        report(EstimateProgress(stage="dense", hvps=end, max_hvps=P, ratio=math.inf))
    return diagonal_P, lengths_P


def _rows(operator: SymmetricOperator, begin: int, end: int) -> list[FloatArray]:
    """Diagonal and norms of some rows."""
    rows = torch.zeros((end - begin, operator.size), dtype=operator.dtype, device=operator.device)
    rows[:, begin:end].fill_diagonal_(1.0)
    H = products(operator, rows)
    return [
        H[:, begin:end].diagonal().double().cpu().numpy(),
        torch.linalg.vector_norm(H, dim=1, dtype=torch.float64).cpu().numpy(),
    ]


def exact_trace(
    operator: SymmetricOperator, settings: TraceSettings, *, report: Report = silent
) -> TraceEstimate:
    """The trace as the sum of the diagonal: no sampling error, and an interval of rounding alone.

    Args:
        operator: symmetric, of size P.
        settings: what is asked; `max_hvps` is not consulted, since the cost is known: P products,
            of the reference where there is one, and up to 4 more.
        report: told of every block.

    Returns:
        An estimate. Every row may be off by delta of its length, all in one direction.

    Raises:
        ValueError: for layers outside the vector.
        CurvtoolError: when a product is not finite.
    """
    began = time.perf_counter()
    layers: Sequence[Layer] = settings.layers
    require_inside(layers, operator.size)
    rows = exact_rows(
        operator, settings.reference, delta=settings.noise, seed=settings.seed, report=report
    )
    trace, half = float(rows.diagonal_P.sum()), rows.delta * float(rows.lengths_P.sum())
    met = settings.open_ended or half <= settings.allowed(trace)
    reason = dense_sentence(rows)
    if not met:
        reason += f" {floor_sentence(rows.dtype, half)}"
    more = _of_layers(rows, layers) if layers else {}
    if settings.frobenius:
        more |= _norms(rows, layers)
    return TraceEstimate(
        trace=trace,
        stderr=0.0,
        interval=(trace - half, trace + half),
        confidence=settings.confidence,
        is_interval=True,
        degrees_of_freedom=math.inf,
        rel_err=settings.rel_err,
        abs_err=settings.abs_err,
        method="dense",
        probes="",
        sharing="",
        samples=np.empty((0, 0)),
        batch_weight=np.empty(0),
        outcome=Outcome.CONVERGED if met else Outcome.FLOOR,
        hvps=rows.hvps,
        hvps_by_stage={
            "pilot": 0,
            "deflate": 0,
            "probe": operator.size,
            "float64": rows.hvps - operator.size,
        },
        seconds=time.perf_counter() - began,
        noise=rows.delta,
        float64_samples=rows.compared,
        arithmetic=half,
        layers=tuple(layer.name for layer in layers),
        reason=reason,
        **more,
    )


def dense_sentence(rows: ExactRows) -> str:
    """Say what was multiplied by what."""
    name = str(rows.dtype).removeprefix("torch.")
    return f"A product in {name} with each of {len(rows.diagonal_P)} unit vectors: no probes."


def _of_layers(rows: ExactRows, layers: Sequence[Layer]) -> dict[str, Any]:
    """Traces of layers under the names that a result has for them."""
    values = layer_sums(rows.diagonal_P, layers).numpy()
    half = rows.delta * layer_sums(rows.lengths_P, layers).numpy()
    return {
        "layer_trace": values,
        "layer_stderr": np.zeros_like(values),
        "layer_interval": np.stack([values - half, values + half], axis=1),
    }


def _norms(rows: ExactRows, layers: Sequence[Layer]) -> dict[str, Any]:
    """Frobenius norms likewise: a row that is off by delta of its length has that share more."""
    squares_P = rows.lengths_P.square()
    parts = [squares_P.sum()[None], layer_sums(squares_P, layers)] if layers else [squares_P.sum()]
    squared = torch.cat([part.reshape(-1) for part in parts]).numpy()
    ends = np.stack([squared * (1 - rows.delta) ** 2, squared * (1 + rows.delta) ** 2], axis=1)
    found: dict[str, Any] = {
        "frobenius_squared": float(squared[0]),
        "frobenius_squared_stderr": 0.0,
        "frobenius_squared_interval": (float(ends[0, 0]), float(ends[0, 1])),
    }
    if layers:
        found |= {
            "layer_frobenius_squared": squared[1:],
            "layer_frobenius_squared_stderr": np.zeros(len(layers)),
            "layer_frobenius_squared_interval": ends[1:],
        }
    return found
