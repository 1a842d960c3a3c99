"""Look for eigenvalues that a converged solve has not seen.

Small residuals show that each value is near some eigenvalue, not that these are the top k: a
single-vector Krylov space holds one copy only of a multiple eigenvalue, and at an edge without
gaps it may hold the next eigenvalue before it holds the last wanted one.
Letters: P parameters, n rows seen, j steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from curvtool.algorithms.linalg import combination, norm, orthogonalized, orthonormal_start
from curvtool.operators.base import SymmetricOperator
from curvtool.results import FloatArray

PROBE_STEPS = 10


@final
@dataclass(frozen=True, eq=False)
class ProbeResult:
    """What a probe saw: the direction of a missing eigenvalue, or None."""

    missing: Tensor | None
    products: int


def probe(
    operator: SymmetricOperator,
    seen_nP: Tensor,
    theta_n: FloatArray,
    scratch: Tensor,
    *,
    low: float,
    high: float,
    steps: int,
    seed: int,
    stream: int,
) -> ProbeResult:
    """A short Lanczos from a random start orthogonal to what a solve has seen.

    Ritz values are taken over the seen rows and the new ones together, which costs nothing more:
    a missing eigenvector may lie half in the one and half in the other, and stand out in neither.

    Args:
        operator: H.
        seen_nP: orthonormal Ritz vectors of a solve, the wanted ones among them.
        theta_n: their Ritz values.
        scratch: rows to work in, shape (at least `steps`, P); overwritten.
        low: a value below it is wanted.
        high: a value above it is wanted.
        steps: products to spend, fewer where the space closes before.
        seed: of the run.
        stream: of this probe's random start.

    Returns:
        The new part of the Ritz vector of a wanted value that is not among `theta_n`, and the
        products spent.
    """
    n, P = seen_nP.shape
    steps = min(steps, scratch.shape[0], P - n)
    v_P = orthonormal_start(seen_nP, seed=seed, stream=stream)
    if v_P is None or steps < 1:
        return ProbeResult(None, 0)
    known = int(((theta_n < low) | (theta_n > high)).sum())
    J = np.zeros((n + steps, n + steps))
    J[np.arange(n), np.arange(n)] = theta_n
    scale = float(np.abs(theta_n).max(initial=0))
    for j in range(steps):
        scratch[j] = v_P
        w_P = operator.matvec(scratch[j])
        w_P, along_seen = orthogonalized(seen_nP, w_P)
        w_P, along_new = orthogonalized(scratch[: j + 1], w_P)
        w_P, again = orthogonalized(seen_nP, w_P)
        numbers = torch.cat([along_seen + again, along_new, norm(w_P).view(1)]).tolist()
        size = n + j + 1
        J[:size, size - 1] = J[size - 1, :size] = numbers[:-1]
        scale = max(scale, float(np.linalg.norm(numbers)))
        theta, S = np.linalg.eigh(J[:size, :size])
        over = np.maximum(theta - high, low - theta)
        if int((over > 0).sum()) > known:
            # Of the values beyond, the one with most of its vector in the new rows is the news.
            share = np.where(over > 0, np.linalg.norm(S[n:], axis=0), 0.0)
            news = S[n:, int(np.argmax(share))]
            return ProbeResult(combination(scratch[: j + 1], torch.from_numpy(news.copy())), j + 1)
        if numbers[-1] <= 10 * torch.finfo(w_P.dtype).eps * scale:
            return ProbeResult(None, j + 1)
        v_P = w_P / numbers[-1]
    return ProbeResult(None, steps)
