"""The range of some products of A, and what a trace has in it and beside it.

With Q orthonormal rows, M = Q A Q', and for a probe z the numbers c = Qz and d = (AQ')'z, symmetry
gives

    z'(I - Q'Q) A (I - Q'Q) z = z'Az - 2 c'd + c'Mc,

so that a probe's old product serves again whenever Q grows, and nothing but z'Az is kept of it.

Letters: P size, k rows of Q, n probes.
"""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from torch import Tensor

from curvtool.algorithms.space import Space
from curvtool.results import FloatArray


@final
class CapturedRange:
    """Orthonormal rows, their products, and how they came about.

    Args:
        space: of the vectors.
        limit: most rows; memory is 2 `limit` vectors.

    Attributes:
        k: rows so far.
        squares: sum of |A q|^2 over them.
    """

    def __init__(self, space: Space, limit: int) -> None:
        self.space = space
        self.Q = space.empty(limit)
        self.AQ = torch.empty_like(self.Q)
        self.k = 0
        self.squares = 0.0
        self._M = np.zeros((limit, limit))
        self._R = np.zeros((limit, limit))  # columns: a probe's product in rows of Q

    @property
    def trace(self) -> float:
        """Tr M."""
        return float(np.trace(self._M[: self.k, : self.k]))

    def next_row(self, y_P: Tensor, length: float) -> bool:
        """Make what a product has beside the rows the next of them, which `keep` finishes.

        Args:
            y_P: the product.
            length: its norm.

        Returns:
            Whether there is anything: False where it is but the product's rounding, and that of
            two Gram-Schmidt passes.
        """
        k = self.k
        rest_P, components = self.space.orthogonalized(self.Q[:k], y_P)
        remainder = float(self.space.norm(rest_P))
        if remainder <= 100 * torch.finfo(y_P.dtype).eps * length:
            return False
        q_P, _ = self.space.orthogonalized(self.Q[:k], rest_P / remainder)
        self.Q[k] = q_P / self.space.norm(q_P).to(q_P.dtype)
        self._R[:k, k] = components.cpu().numpy()
        self._R[k, k] = remainder
        return True

    def keep(self, Aq_P: Tensor) -> bool:
        """Take the new row's product; False where it is not finite."""
        k = self.k
        self.AQ[k] = Aq_P
        column = self.space.exact_products(self.Q[: k + 1], self.AQ[k]).cpu().numpy()
        self._M[: k + 1, k] = self._M[k, : k + 1] = column
        self.squares += float(self.space.norm(self.AQ[k])) ** 2
        self.k = k + 1
        return bool(np.isfinite(column).all())

    def coordinates(self, z_P: Tensor, first: int) -> tuple[FloatArray, FloatArray]:
        """Entries of c and d from row `first` on."""
        return (
            self.space.exact_products(self.Q[first : self.k], z_P).cpu().numpy(),
            self.space.exact_products(self.AQ[first : self.k], z_P).cpu().numpy(),
        )

    def estimates(
        self, quadratic: FloatArray, c: FloatArray, d: FloatArray, *, leave_out: bool
    ) -> FloatArray:
        """The trace by every probe.

        Args:
            quadratic: z'Az, shape (n,).
            c: shape (n, k).
            d: shape (n, k).
            leave_out: whether probe i made row i, so that its own range has to be without it.

        Returns:
            Shape (n,).
        """
        M = self._M[: self.k, : self.k]
        exact = np.full(len(c), self.trace)
        if leave_out:
            # Without probe i the range loses the direction s_i, a normalized column of R^-T.
            S = np.linalg.inv(self._R[: self.k, : self.k])
            S /= np.linalg.norm(S, axis=1, keepdims=True)
            exact -= np.einsum("nk,kl,nl->n", S, M, S)
            c = c - S * np.einsum("nk,nk->n", S, c)[:, None]
        sampled = quadratic - 2 * np.einsum("nk,nk->n", c, d)
        return np.asarray(exact + sampled + np.einsum("nk,kl,nl->n", c, M, c))
