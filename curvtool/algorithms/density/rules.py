"""Quadrature rules of a probe's measure, from the coefficients of its Lanczos recurrence.

A probe v defines the measure F(x) = sum of (u_i'v)^2 / v'v over eigenvalues up to x, of mass one.
k steps give its moments up to degree 2k: alpha_1..alpha_k, beta_1..beta_k, the last of which
couples to what was not reached. Gauss's rule uses the first 2k - 1; a rule of one node more uses
all, and leaves one number free, which puts a node wherever it is wanted.

Letters: k steps, m rules.

References:
    Golub (1973); Golub, Meurant (2010), chapter 6; Gautschi (2004), section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
import scipy.linalg

from curvtool.results import FloatArray

# A node asked for at a node of Gauss's rule sends the free one to infinity. An eigenproblem with an
# entry so far away rounds the others by 1e-10 of the scale.
FAR = 1e6
# A pivot below so much of the scale is a zero that rounding missed.
ZERO_PIVOT = 1e-30


@final
@dataclass(frozen=True, eq=False)
class Recurrence:
    """The coefficients that k steps of Lanczos give.

    Attributes:
        alpha_k: shape (k,), the diagonal of T.
        beta_k: shape (k,), beside the diagonal; the last one is the norm of the remainder.
    """

    alpha_k: FloatArray
    beta_k: FloatArray

    @property
    def steps(self) -> int:
        """How many there were: k."""
        return len(self.alpha_k)

    @cached_property
    def scale(self) -> float:
        """A size of the matrix, at most twice its norm."""
        return float(np.max(np.abs(self.alpha_k) + self.beta_k))

    @cached_property
    def gauss(self) -> tuple[FloatArray, FloatArray]:
        """Nodes (the Ritz values, rising) and weights of Gauss's rule: (k,) and (k,)."""
        nodes, S = scipy.linalg.eigh_tridiagonal(self.alpha_k, self.beta_k[:-1])
        return nodes, S[0] ** 2

    def with_nodes_at(self, x_m: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Gauss-Radau rules, each with a node at its x.

        Args:
            x_m: where the nodes are put.

        Returns:
            Nodes and weights, (m, k + 1) each; exact to degree 2k, or where x is at a node of
            Gauss's rule to degree 2k - 2, with a last node of no weight.
        """
        x_m = np.asarray(x_m, dtype=np.float64)
        k, i = self.steps, np.arange(self.steps)
        pivot = self._pivots(x_m)
        beta = self.beta_k[-1]
        far = FAR * self.scale + np.abs(x_m)
        # beta^2 / pivot is how far the free entry lies from x. Where that is too far to be computed
        # with, its part is taken off the entry before, which makes x a node of k ones exactly.
        with np.errstate(over="ignore"):
            last = x_m + beta * (beta / pivot)
        split = ~(np.abs(last) < far)
        T = np.zeros((len(x_m), k + 1, k + 1))
        T[:, i, i] = self.alpha_k
        T[:, i, i + 1] = T[:, i + 1, i] = self.beta_k
        T[split, k - 1, k - 1] -= pivot[split]
        T[split, k - 1, k] = T[split, k, k - 1] = 0.0
        T[:, k, k] = np.where(split, 4 * self.scale + np.abs(x_m), last)
        nodes, S = np.linalg.eigh(T)
        return nodes, S[:, 0, :] ** 2

    def _pivots(self, x_m: FloatArray) -> FloatArray:
        """The last pivot of T - x: what takes it off the last entry makes x an eigenvalue."""
        zero = max(ZERO_PIVOT * self.scale, 1e-290)
        pivot = self.alpha_k[0] - x_m
        for alpha, beta in zip(self.alpha_k[1:], self.beta_k[:-1], strict=True):
            pivot = np.where(np.abs(pivot) < zero, zero, pivot)
            # A quotient first, lest squares of tiny scales vanish.
            pivot = alpha - x_m - beta * (beta / pivot)
        return np.where(np.abs(pivot) < zero, zero, pivot)
