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
from numpy.typing import NDArray
from torch import Tensor

from curvtool.algorithms.space import Space, space_of
from curvtool.operators.base import SymmetricOperator
from curvtool.random_vectors.purposes import Purpose
from curvtool.results import FloatArray

PROBE_STEPS = 10


@final
@dataclass(frozen=True, eq=False)
class Seen:
    """What a solve knows before a probe: n orthonormal Ritz vectors, the k wanted ones first.

    Attributes:
        rows: shape (n, P).
        theta: their Ritz values, shape (n,).
        rho: their residual norms, shape (n,).
        gap: distance that the wanted ones' bounds take for free of other eigenvalues, shape (k,).
    """

    rows: Tensor
    theta: FloatArray
    rho: FloatArray
    gap: FloatArray


@final
@dataclass(frozen=True, eq=False)
class ProbeResult:
    """What a probe saw.

    Attributes:
        missing: direction of a wanted eigenvalue that is not listed, or None.
        crowded: which wanted values have an unlisted eigenvalue inside their gap, shape (k,); all
            of them, to be safe, where one is missing.
        neighbour: direction of such an eigenvalue, or None.
        products: spent.
    """

    missing: Tensor | None
    crowded: NDArray[np.bool_]
    neighbour: Tensor | None
    products: int


def probe(
    operator: SymmetricOperator,
    seen: Seen,
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
        seen: what the solve knows.
        scratch: rows to work in, shape (at least `steps`, P); overwritten.
        low: a value below it is wanted.
        high: a value above it is wanted.
        steps: products to spend, fewer where the space closes before.
        seed: of the run.
        stream: number of this probe among those of the solve: each has a start of its own.

    Returns:
        Whether a wanted eigenvalue is missing; if none is, whether one that is not wanted lies
        inside the gap of a listed one, whose quadratic bound it would make void.
    """
    n, P, space = len(seen.rows), operator.size, space_of(operator)
    uncrowded = np.zeros(len(seen.gap), dtype=np.bool_)
    steps = min(steps, scratch.shape[0], P - n)
    v_P = space.orthonormal_start(seen.rows, Purpose.COMPLETENESS, stream, seed=seed)
    if v_P is None or steps < 1:
        return ProbeResult(None, uncrowded, None, 0)
    known = int(((seen.theta < low) | (seen.theta > high)).sum())
    J = np.zeros((n + steps, n + steps))
    J[np.arange(n), np.arange(n)] = seen.theta
    scale = float(np.abs(seen.theta).max(initial=0))
    for j in range(steps):
        scratch[j] = v_P
        w_P = operator.matvec(scratch[j].to(dtype=operator.dtype, device=operator.device))
        w_P, along_seen = space.orthogonalized(seen.rows, w_P)
        w_P, along_new = space.orthogonalized(scratch[: j + 1], w_P)
        w_P, again = space.orthogonalized(seen.rows, w_P)
        numbers = torch.cat([along_seen + again, along_new, space.norm(w_P).view(1)]).tolist()
        size = n + j + 1
        J[:size, size - 1] = J[size - 1, :size] = numbers[:-1]
        scale = max(scale, float(np.linalg.norm(numbers)))
        theta, S = space.agreed(np.linalg.eigh(J[:size, :size]))
        over = (theta > high) | (theta < low)
        done = j + 1
        if int(over.sum()) > known:
            news = _newest(space, S, over, n, scratch[:done])
            return ProbeResult(news, ~uncrowded, None, done)
        if numbers[-1] <= 10 * torch.finfo(w_P.dtype).eps * scale:
            break
        v_P = w_P / numbers[-1]
    # The residual of a Ritz vector over both: at most what its two parts leave.
    rho = np.abs(S[-1]) * numbers[-1] + seen.rho @ np.abs(S[:n])
    distance = np.abs(theta[None, :] - seen.theta[: len(seen.gap), None])
    inside = distance + rho < seen.gap[:, None]
    crowded = inside.sum(axis=1) > 1  # one value inside is the listed one itself
    neighbours = inside[crowded].any(axis=0)
    neighbour = _newest(space, S, neighbours, n, scratch[:done]) if crowded.any() else None
    return ProbeResult(None, crowded, neighbour, done)


def _newest(space: Space, S: FloatArray, among: NDArray[np.bool_], n: int, new_P: Tensor) -> Tensor:
    """The new part of that Ritz vector, among some, which lies most in the new rows."""
    share = np.where(among, np.linalg.norm(S[n:], axis=0), -1.0)
    return space.combination(new_P, torch.from_numpy(S[n:, int(np.argmax(share))].copy()))
