"""The diagonal by products with every unit vector.

Letters: P parameters.
"""

from __future__ import annotations

import math
import time

import numpy as np

from curvtool.algorithms.arithmetic import floor_sentence
from curvtool.algorithms.diagonal_settings import DiagonalSettings, quantiles
from curvtool.algorithms.estimation import Report, silent
from curvtool.algorithms.exact import dense_sentence, exact_rows
from curvtool.algorithms.layers import layer_sums, require_inside, sizes
from curvtool.operators.base import SymmetricOperator
from curvtool.results import DiagonalEstimate, Outcome


def dense_diagonal(
    operator: SymmetricOperator, settings: DiagonalSettings, *, report: Report = silent
) -> DiagonalEstimate:
    """The diagonal without probes; memory is 128 vectors of P numbers.

    Args:
        operator: symmetric, of size P.
        settings: what is asked; `max_hvps` is not consulted, since the cost is known: P products,
            of the reference where there is one, and up to 4 more.
        report: told of every block.

    Returns:
        A diagonal whose errors are those of the arithmetic.

    Raises:
        ValueError: for layers outside the vector.
        CurvtoolError: when a product is not finite.
    """
    began = time.perf_counter()
    require_inside(settings.layers, operator.size)
    rows = exact_rows(
        operator, settings.reference, delta=settings.noise, seed=settings.seed, report=report
    )
    n = sizes(settings.layers)
    means = layer_sums(rows.diagonal_P, settings.layers).numpy() / n
    half = rows.delta * layer_sums(rows.lengths_P, settings.layers).numpy() / n
    error = rows.delta * float(rows.lengths_P.norm())
    least = float(rows.diagonal_P.norm()) - error
    relative = (error / least if least > 0 else math.inf) if error else 0.0
    met = settings.rel_err is None or relative <= settings.rel_err
    reason = dense_sentence(rows)
    if not met:
        reason += f" {floor_sentence(rows.dtype, error)}"
    return DiagonalEstimate(
        diagonal=rows.diagonal_P.numpy(),
        diagonal_stderr=np.zeros(operator.size),
        diagonal_error=(rows.delta * rows.lengths_P).numpy(),
        confidence=settings.confidence,
        degrees_of_freedom=math.inf,
        layers=tuple(layer.name for layer in settings.layers),
        layer_size=n,
        layer_mean=means,
        layer_mean_stderr=np.zeros(len(n)),
        layer_mean_interval=np.stack([means - half, means + half], axis=1),
        layer_quantiles=quantiles(rows.diagonal_P, settings),
        levels=settings.levels,
        rel_err=relative,
        asked=settings.rel_err,
        method="dense",
        probes="",
        sharing="",
        outcome=Outcome.CONVERGED if met else Outcome.FLOOR,
        hvps=rows.hvps,
        seconds=time.perf_counter() - began,
        noise=rows.delta,
        float64_samples=rows.compared,
        arithmetic=relative,
        reason=reason,
    )
