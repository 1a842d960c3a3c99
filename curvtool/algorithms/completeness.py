"""Look for eigenvalues that a converged solve has not seen.

Small residuals show that each value is near some eigenvalue, not that these are the top k: a
single-vector Krylov space holds one copy only of a multiple eigenvalue.
Letters: P parameters, k found pairs, j steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from curvtool.algorithms.linalg import combination, norm, orthogonalized, orthonormal_start
from curvtool.operators.base import SymmetricOperator

PROBE_STEPS = 10


@final
@dataclass(frozen=True, eq=False)
class ProbeResult:
    """What a probe saw: the direction of a missing eigenvalue, or None."""

    missing: Tensor | None
    products: int


def probe(
    operator: SymmetricOperator,
    found_kP: Tensor,
    scratch: Tensor,
    *,
    low: float,
    high: float,
    steps: int,
    seed: int,
    stream: int,
) -> ProbeResult:
    """A short Lanczos from a random start orthogonal to the found pairs.

    Args:
        operator: H.
        found_kP: orthonormal eigenvectors found so far.
        scratch: rows to work in, shape (at least PROBE_STEPS, P); overwritten.
        low: a Ritz value below it is missing from the found ones.
        high: a Ritz value above it is missing from the found ones.
        steps: most products to spend. After PROBE_STEPS they are spent only while a Ritz value
            with its residual reaches beyond `low` or `high`, so that nothing is excluded yet.
        seed: of the run.
        stream: of this probe's random start.

    Returns:
        The Ritz vector of the farthest value beyond, and the products spent.
    """
    k, P = found_kP.shape
    steps = min(steps, scratch.shape[0], P - k)
    v_P = orthonormal_start(found_kP, seed=seed, stream=stream)
    if v_P is None or steps < 1:
        return ProbeResult(None, 0)
    T = np.zeros((steps, steps))
    scale = 0.0
    for j in range(steps):
        scratch[j] = v_P
        w_P = operator.matvec(scratch[j])
        w_P, _ = orthogonalized(found_kP, w_P)
        w_P, components = orthogonalized(scratch[: j + 1], w_P)
        w_P, _ = orthogonalized(found_kP, w_P)
        numbers = torch.cat([components, norm(w_P).view(1)]).tolist()
        T[: j + 1, j] = T[j, : j + 1] = numbers[:-1]
        scale = max(scale, float(np.linalg.norm(numbers)))
        theta, S = np.linalg.eigh(T[: j + 1, : j + 1])
        rho = numbers[-1] * np.abs(S[-1])
        over = np.maximum(theta - high, low - theta)
        i = int(np.argmax(over))
        if over[i] > 0:
            return ProbeResult(combination(scratch[: j + 1], torch.from_numpy(S[:, i])), j + 1)
        if numbers[-1] <= 10 * torch.finfo(w_P.dtype).eps * scale:
            return ProbeResult(None, j + 1)
        if j + 1 >= PROBE_STEPS and np.all(over + rho <= 0):
            return ProbeResult(None, j + 1)
        v_P = w_P / numbers[-1]
    return ProbeResult(None, steps)
