"""Extreme pairs of a density, which are taken out before the probes.

What a few large eigenvalues add to a sum no few probes can tell: one that holds all of it is known
to a factor of three by four of them. Taken out, it is known exactly.

Letters: P size, d pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from curvtool.algorithms.density.pooled import Extremes
from curvtool.algorithms.density.settings import DensitySettings
from curvtool.algorithms.estimation import EstimateProgress, Report
from curvtool.algorithms.lanczos import default_basis, lanczos
from curvtool.algorithms.proving import SPARE_ROWS
from curvtool.algorithms.settings import EigenSettings, Progress
from curvtool.algorithms.space import Space, space_of
from curvtool.operators.base import Counted
from curvtool.results import EigenPairs

# A pair serves where its residual is at most so much of its value: what it leaves coupled to the
# rest enters every interval. Ten times less takes two products more on decaying spectra, and 26 at
# the floor of float32; ten times more made an effective dimension of a flat one 17 times wider.
TOLERANCE = 1e-3
# Or where it is the arithmetic's, which no pair falls below, and still this much shorter.
FLOOR, SHORTER = 2.0, 0.1
# Rows are of unit length but for roundings.
UNIT = 1e-2
# Products for each pair that a decaying spectrum needs; a flat one has no extremes worth more.
PRODUCTS_A_PAIR = 8


@final
@dataclass(frozen=True, eq=False)
class TakenOut:
    """Extremes and their rows.

    Attributes:
        rows: U, orthonormal, shape (d, P).
        extremes: what is known of them.
        noise: delta, the relative error of one product, as the solve found it.
    """

    rows: Tensor
    extremes: Extremes
    noise: float


def nothing_taken(space: Space, noise: float) -> TakenOut:
    """No pairs."""
    none = np.zeros(0)
    return TakenOut(space.empty(0), Extremes(none, none, none), noise)


def taken_out(
    operator: Counted, settings: DensitySettings, steps: int, *, report: Report
) -> TakenOut:
    """Find the pairs of largest magnitude, and keep those that are sharp enough.

    Args:
        operator: of size P, with the products that are left.
        settings: for d.
        steps: of a probe: the probes' products are left.
        report: told of every product.

    Returns:
        At most d pairs: the leading ones, up to the first whose residual is large. At most 8 d
        products or as many as the probes take. Memory as that of `lanczos`, then d vectors.
    """
    space = space_of(operator)
    P = operator.size
    d = min(settings.deflate, P // 4)
    probes = settings.probes * steps
    affordable = int(min(operator.left - probes, max(probes, PRODUCTS_A_PAIR * d)))
    if not d or affordable < 2 * d + SPARE_ROWS:
        return nothing_taken(space, settings.noise)

    def told(progress: Progress) -> None:
        report(
            EstimateProgress(
                stage="deflate",
                hvps=progress.hvps,
                max_hvps=affordable + probes,
                ratio=float("inf"),
            )
        )

    pairs = lanczos(
        operator,
        EigenSettings(
            k=d,
            which="LM",
            accuracy="vectors",
            tol=TOLERANCE,
            max_hvps=affordable,
            basis=max(default_basis(d, P), min(P, d + SPARE_ROWS)),
            seed=settings.seed,
            noise=settings.certifying,
            reference=settings.reference,
            vectors=True,
            proves=False,
        ),
        report=told,
    )
    return _sharp(space, pairs, settings.noise)


def _sharp(space: Space, pairs: EigenPairs, noise: float) -> TakenOut:
    """The leading pairs whose residuals are small, their rows made orthonormal."""
    eps = float(torch.finfo(space.dtype).eps)
    delta = max(noise, float(pairs.noise))
    floor = FLOOR * delta * float(np.abs(pairs.eigenvalues).max(initial=0.0))
    rows = space.empty(len(pairs.eigenvalues))
    d = 0
    for row_P, theta, residual in zip(
        pairs.eigenvectors, pairs.eigenvalues, pairs.residual_norms, strict=True
    ):
        if not residual <= max(TOLERANCE * abs(theta), min(floor, SHORTER * abs(theta))):
            break
        # Rounded rows stand apart from orthogonal ones by some eps, no more.
        w_P, _ = space.orthogonalized(rows[:d], row_P.to(dtype=space.dtype, device=space.device))
        length = float(space.norm(w_P))
        if abs(length - 1) > UNIT:
            break
        w_P, _ = space.orthogonalized(rows[:d], w_P / length)
        rows[d] = w_P / space.norm(w_P).to(w_P.dtype)
        d += 1
    if not d:
        return nothing_taken(space, delta)
    values = np.asarray(pairs.eigenvalues[:d], dtype=np.float64)
    rounding = eps * float(np.abs(values).max())
    residuals = np.asarray(pairs.residual_norms[:d], dtype=np.float64) + rounding
    errors = np.minimum(residuals, 2 * np.asarray(pairs.eigenvalue_errors[:d]) + rounding)
    return TakenOut(rows[:d].clone(), Extremes(values, errors, residuals), delta)
