"""Trace and diagonal from products with every unit vector: exact, and cheaper when P is small.

Letters: P parameters, L layers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from curvtool.algorithms.deflation import NOT_FINITE
from curvtool.algorithms.estimation import EstimateProgress, Report, TraceSettings, silent
from curvtool.algorithms.layers import Layer, layer_sums, require_inside
from curvtool.errors import CurvtoolError
from curvtool.operators.base import SymmetricOperator, products
from curvtool.operators.recording import remembered
from curvtool.results import FloatArray, Outcome, TraceEstimate

# Rows handed to the operator at once, which divides them as its memory allows.
ROWS = 64


def exact_diagonal(
    operator: SymmetricOperator, *, report: Report = silent
) -> tuple[Tensor, Tensor]:
    """Diagonal and squared norms of the rows: P products.

    Args:
        operator: symmetric, of size P.
        report: told of every block.

    Returns:
        Two float64 vectors of shape (P,) on the host. Memory is 128 vectors of P numbers.

    Raises:
        CurvtoolError: when a product is not finite.
    """
    P = operator.size
    diagonal_P = torch.empty(P, dtype=torch.float64)
    squares_P = torch.empty(P, dtype=torch.float64)
    for begin in range(0, P, ROWS):
        end = min(P, begin + ROWS)
        found = remembered(operator, f"rows from {begin}", partial(_rows, operator, begin, end))
        diagonal_P[begin:end], squares_P[begin:end] = map(torch.from_numpy, found)
        if not torch.isfinite(squares_P[begin:end]).all():
            raise CurvtoolError(NOT_FINITE)
        report(EstimateProgress(stage="dense", hvps=end, max_hvps=P, ratio=math.inf))
    return diagonal_P, squares_P


def _rows(operator: SymmetricOperator, begin: int, end: int) -> list[FloatArray]:
    """Diagonal and squared norms of some rows."""
    rows = torch.zeros((end - begin, operator.size), dtype=operator.dtype, device=operator.device)
    rows[:, begin:end].fill_diagonal_(1.0)
    H = products(operator, rows)
    return [
        H[:, begin:end].diagonal().double().cpu().numpy(),
        (H * H).sum(dim=1, dtype=torch.float64).cpu().numpy(),
    ]


def exact_trace(
    operator: SymmetricOperator, settings: TraceSettings, *, report: Report = silent
) -> TraceEstimate:
    """The trace as the sum of the diagonal: P products, no sampling error.

    Args:
        operator: symmetric, of size P.
        settings: what is asked; `max_hvps` is not consulted, since the cost is known: P.
        report: told of every block.

    Returns:
        An estimate whose interval is a point.

    Raises:
        ValueError: for layers outside the vector.
        CurvtoolError: when a product is not finite.
    """
    began = time.perf_counter()
    layers: Sequence[Layer] = settings.layers
    require_inside(layers, operator.size)
    diagonal_P, squares_P = exact_diagonal(operator, report=report)
    trace, square = float(diagonal_P.sum()), float(squares_P.sum())
    by_layer = layer_sums(diagonal_P, layers).numpy() if layers else None
    rows = layer_sums(squares_P, layers).numpy() if layers and settings.frobenius else None
    asked = settings.frobenius
    return TraceEstimate(
        trace=trace,
        stderr=0.0,
        interval=(trace, trace),
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
        outcome=Outcome.CONVERGED,
        hvps=operator.size,
        hvps_by_stage={"pilot": 0, "deflate": 0, "probe": operator.size},
        seconds=time.perf_counter() - began,
        noise=settings.noise,
        layers=tuple(layer.name for layer in layers),
        layer_trace=by_layer,
        layer_stderr=_zeros(by_layer),
        layer_interval=_points(by_layer),
        frobenius_squared=square if asked else None,
        frobenius_squared_stderr=0.0 if asked else None,
        frobenius_squared_interval=(square, square) if asked else None,
        layer_frobenius_squared=rows,
        layer_frobenius_squared_stderr=_zeros(rows),
        layer_frobenius_squared_interval=_points(rows),
        reason=f"Exact: a product with each of {operator.size} unit vectors.",
    )


def _zeros(values: FloatArray | None) -> FloatArray | None:
    return None if values is None else np.zeros_like(values)


def _points(values: FloatArray | None) -> FloatArray | None:
    return None if values is None else np.stack([values, values], axis=1)
