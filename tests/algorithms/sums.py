"""Small sums of dense symmetric matrices, and exact moments of what probes sample from them.

Letters: P size, B terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from curvtool.algorithms.layers import Layer
from curvtool.results import FloatArray


@dataclass(frozen=True, eq=False)
class DenseSum:
    """H = sum_b A_b + shift I of stored matrices, shape (B, P, P)."""

    terms: Tensor
    shift: float = 0.0

    @property
    def num_terms(self) -> int:
        return len(self.terms)

    @property
    def size(self) -> int:
        return self.terms.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        return self.terms.dtype

    @property
    def device(self) -> torch.device:
        return self.terms.device

    @cached_property
    def matrix(self) -> Tensor:
        return self.terms.sum(0) + self.shift * torch.eye(self.size, dtype=self.dtype)

    def matvec(self, v: Tensor, /) -> Tensor:
        return self.matrix @ v

    def term(self, i: int, v: Tensor, /) -> Tensor:
        return self.terms[i] @ v


def random_sum(
    size: int = 30, terms: int = 8, *, seed: int = 0, shift: float = 0.0, common: float = 1.0
) -> DenseSum:
    """Terms of low rank around a common matrix: outliers, a bulk at zero, negative directions."""
    rng = np.random.default_rng([seed, size, terms])
    Q = np.linalg.qr(rng.standard_normal((size, size)))[0]
    shared = (Q * np.concatenate([3 * 0.7 ** np.arange(5), np.zeros(size - 5)])) @ Q.T
    parts = []
    for _ in range(terms):
        X = rng.standard_normal((size, 4)) * rng.exponential(1.0, 4)
        N = rng.standard_normal((size, 2)) * 0.3
        parts.append((common * shared + X @ X.T / size - N @ N.T / size) / terms)
    stacked = np.stack(parts)
    return DenseSum(torch.from_numpy((stacked + stacked.transpose(0, 2, 1)) / 2), shift)


def thirds(size: int) -> tuple[Layer, ...]:
    """Three layers that cover the vector; the first in two pieces."""
    a, b = size // 4, size // 2
    return (
        Layer("first", ((0, a), (size - 3, 3))),
        Layer("second", ((a, b - a),)),
        Layer("third", ((b, size - 3 - b),)),
    )


def selected(x_P: Tensor, layer: Layer) -> Tensor:
    return torch.cat([x_P[at : at + n] for at, n in layer.slices])


def rademacher_variance(A: Tensor) -> float:
    """Of z'Az: 2 (|A|_F^2 - sum a_ii^2)."""
    return 2 * float(A.square().sum() - A.diagonal().square().sum())


def layer_truths(H: Tensor, layers: Sequence[Layer]) -> tuple[FloatArray, FloatArray]:
    """Traces of the layers, and squared norms of their row blocks."""
    traces = [float(selected(H.diagonal(), layer).sum()) for layer in layers]
    rows = [float(selected(H.square().sum(1), layer).sum()) for layer in layers]
    return np.array(traces), np.array(rows)
