"""Operators as SciPy sees them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator

from curvtool.operators.base import SymmetricOperator

_NUMPY = {torch.float32: np.float32, torch.float64: np.float64}


def as_linear_operator(operator: SymmetricOperator, *, dtype: Any = None) -> LinearOperator:
    """Wrap an operator for SciPy's solvers (`eigsh`, `lobpcg`, `cg`, `svds`, ...).

    Args:
        operator: symmetric operator of size P on any device.
        dtype: numpy dtype that SciPy works in; the operator's own by default. With float64 over a
            float32 operator SciPy's recurrences are in double and only the products are rounded.

    Returns:
        A `LinearOperator` of shape (P, P), its own adjoint. A product copies one vector to the
        operator's device and one back; a product with a block of n columns costs n products.

    Raises:
        ValueError: for an operator whose dtype numpy has no counterpart for.
    """
    if operator.dtype not in _NUMPY:
        raise ValueError(
            f"as_linear_operator needs an operator in float32 or float64, got {operator.dtype}; "
            "build the operator in one of these."
        )
    outer = np.dtype(dtype if dtype is not None else _NUMPY[operator.dtype])

    def matvec(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        # A copy, since SciPy hands out views of its workspace, some of them read-only.
        v_P = torch.tensor(np.ravel(x), dtype=operator.dtype, device=operator.device)
        return operator.matvec(v_P).cpu().numpy().astype(outer)

    return LinearOperator(
        (operator.size, operator.size), matvec=matvec, rmatvec=matvec, dtype=outer
    )
