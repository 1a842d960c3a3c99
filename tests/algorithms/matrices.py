"""Symmetric operators with known spectra."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from curvtool.algorithms.ritz import wanted
from curvtool.algorithms.settings import Which
from curvtool.operators.base import FunctionOperator
from curvtool.results import FloatArray

EPS64 = float(np.finfo(np.float64).eps)
EPS32 = float(np.finfo(np.float32).eps)


@dataclass(frozen=True, eq=False)
class Known:
    """An operator, its matrix, and its exact eigenvalues in rising order."""

    operator: FunctionOperator
    matrix: Tensor
    eigenvalues: FloatArray

    @property
    def reference(self) -> FunctionOperator:
        """The same matrix, multiplied in float64."""
        double = self.matrix.double()
        return FunctionOperator(lambda v: double @ v, self.operator.size)

    def truth(self, which: Which, k: int) -> FloatArray:
        return self.eigenvalues[wanted(self.eigenvalues, which, k)]


def rotated(eigenvalues: FloatArray, *, seed: int, dtype: torch.dtype = torch.float64) -> Known:
    """Q diag(eigenvalues) Q' with a random rotation; the truth is of the rounded matrix."""
    P = len(eigenvalues)
    Q = np.linalg.qr(np.random.default_rng([seed, P]).standard_normal((P, P)))[0]
    A = (Q * eigenvalues) @ Q.T
    matrix = torch.from_numpy((A + A.T) / 2).to(dtype)
    truth = np.linalg.eigvalsh(matrix.double().numpy())
    return Known(FunctionOperator(lambda v: matrix @ v, P, dtype), matrix, truth)


def diagonal(eigenvalues: FloatArray, dtype: torch.dtype = torch.float64) -> FunctionOperator:
    d = torch.from_numpy(np.asarray(eigenvalues, dtype=np.float64)).to(dtype)
    return FunctionOperator(lambda v: d * v, len(d), dtype)


def network_like(P: int, *, seed: int) -> FloatArray:
    """A few outliers, a bulk at zero, a negative tail: what trained networks show."""
    rng = np.random.default_rng(seed)
    bulk = rng.exponential(0.05, P - 40)
    return np.concatenate([20 * 0.8 ** np.arange(20), bulk, -0.3 * 0.8 ** np.arange(20)])
