"""What fresh products, in float64 where they can be had, say of the pairs that a solve lists.

A solver's residual norms follow from its recurrence; rounding, the loss of orthogonality and the
noise of its products bring it away from H. d_i = H y_i - theta_i y_i - r_i has all of that in one
vector. Four products with random combinations of the y_i bound every d_i and every y_l'd_i at
once; a product with one of them tells it exactly.

Letters: P parameters, n rows of a basis, k pairs, m combinations, b pending vectors, j exact pairs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curvtool.algorithms import linalg
from curvtool.algorithms.bounds import Residuals, enlargement
from curvtool.algorithms.completeness import SMALLEST
from curvtool.algorithms.space import space_of
from curvtool.errors import CurvtoolError
from curvtool.operators.base import SymmetricOperator, products
from curvtool.random_vectors import streams
from curvtool.random_vectors.purposes import Purpose
from curvtool.results import FloatArray

COMBINATIONS = 4
# So few pairs are multiplied one by one: that tells more than combinations and costs no more.
FEW = 4
# A unit vector's noise in random combinations of vectors, over the noise that may be elsewhere.
HEARD = 2.0
# Float64 rounds like the operator's own products in their units, so many times at most.
ORDERS = 10.0
# Pairs whose products are in memory at a time, in float64.
_AT_ONCE = 8
NOT_FINITE = (
    "The Hessian-vector product in float64 is not finite (NaN or infinity) although loss and "
    "gradient are. Second derivatives overflow here, or an operation has none at some example."
)


def float64_units(dtype: torch.dtype) -> float:
    """What a float64 product rounds, over what one of this dtype is seen to be off."""
    return ORDERS * torch.finfo(torch.float64).eps / torch.finfo(dtype).eps


@final
@dataclass(frozen=True, eq=False)
class Listed:
    """Pairs as a solver hands them over: y_i = V' s_i with the recurrence's residual Q' z_i.

    Attributes:
        V: rows, shape (n, P) of this process's part, in any dtype and anywhere.
        S: coefficients of the vectors in columns, shape (n, k).
        theta: values, shape (k,).
        Q: orthonormal rows, float64, that residuals lie in, shape (b, P).
        Z: coefficients of the residuals in columns, shape (b, k).
        has_recurrence: whether `theta`, Q and Z claim anything; if not, they are zero, and every
            pair has to be multiplied.
    """

    V: Tensor
    S: FloatArray
    theta: FloatArray
    Q: Tensor
    Z: FloatArray
    has_recurrence: bool = True


@final
class Certificate:
    """Bounds on the residuals of listed pairs, and how they were got.

    Args:
        reference: H, in float64 where that can be had.
        listed: the pairs.
        tol: relative tolerance: what is measured is spread so that every pair knows its own.
        largest: |H|, for the tolerance of small values.
        rounding: of a product of the reference, relative to |H|.
        seed: of the combinations, which must be drawn after everything else.
        dtype: of the operator's own products.

    Attributes:
        products: made so far.
        sketched: whether combinations were multiplied.
        exact: which pairs were multiplied one by one, shape (k,).
        noise: largest distance between H y and what the recurrence has for it, relative to |H|.
    """

    def __init__(
        self,
        reference: SymmetricOperator,
        listed: Listed,
        *,
        tol: float,
        largest: float,
        rounding: float,
        seed: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.reference, self.listed = reference, listed
        self.space = space_of(reference)
        self.seed = seed
        self.largest = largest
        self._rounding = rounding * largest
        self._units = float64_units(dtype) if reference.dtype == torch.float64 else 0.0
        self.products = 0
        self.noise = 0.0
        self.sketched = False
        k = len(listed.theta)
        self.exact: NDArray[np.bool_] = np.zeros(k, dtype=np.bool_)
        self._S = self._orthonormal()
        allowed = tol * np.maximum(np.abs(listed.theta), SMALLEST * largest)
        # In units of the largest tolerance, lest squares of tiny numbers vanish.
        self._s = allowed.max(initial=0.0) / allowed if largest else np.ones(k)
        # Components of the recurrence's residuals along the listed vectors are rounding, too.
        inside = self._against(listed.Q)
        self._along = inside @ listed.Z
        outside = np.eye(len(listed.Q)) - inside.T @ inside
        self._K = listed.Z.T @ outside @ listed.Z
        self._bound_F = np.full((k, k), np.inf)
        self._unknown = np.full(k, np.inf)
        self._F = np.zeros((k, k))
        self._X: Tensor | None = None
        self._places: list[int] = []

    @property
    def rounding(self) -> float:
        """Of the products that this rests on, absolute."""
        # Where large parts cancel, products round by much more than their own size would say: in
        # float64 as in float32, in other units of the last place.
        return max(self._rounding, self._units * self.noise * self.largest)

    @property
    def in_float64(self) -> bool:
        """Whether its products are in float64."""
        return self.reference.dtype == torch.float64

    def sketch(self, combinations: int = COMBINATIONS) -> None:
        """Bound all residuals by products with random combinations of the vectors.

        Args:
            combinations: m; fewer bound less tightly.
        """
        self.sketched = True
        k, theta, s = len(self.listed.theta), self.listed.theta, self._s
        drawn = [
            streams.coefficients(Purpose.CERTIFICATE, j, seed=self.seed, count=k)
            for j in range(combinations)
        ]
        C = np.stack(drawn, axis=1) * s[:, None]
        both = np.hstack([self._S @ C, self._S @ (theta[:, None] * C)])
        rows = self._combined(both)
        made = self._multiplied(rows[:combinations])
        defect = made - rows[combinations:] - self._pending(self.listed.Z @ C)
        for d, z in zip(defect, rows, strict=False):
            self.hear(HEARD * self._norm(d) / self._norm(z))
        inside = self._against(defect)
        defect -= self._combined(self._S @ inside)
        f = enlargement(combinations)
        along = f * np.abs(inside + self._along @ C).max(axis=1)
        self._bound_F = np.minimum(along[:, None] / s, along / s[:, None])
        self._unknown = f * max(map(self._norm, defect)) / s

    def multiply(self, which: NDArray[np.bool_]) -> None:
        """Learn the residuals of some pairs exactly, by a product for each.

        Args:
            which: pairs, shape (k,); those that are known already cost nothing.
        """
        new = np.flatnonzero(which & ~self.exact)
        theta = self.listed.theta
        for begin in range(0, len(new), _AT_ONCE):
            at = new[begin : begin + _AT_ONCE]
            rows = self._combined(self._S[:, at])
            residual = self._multiplied(rows) - torch.from_numpy(theta[at]).to(rows)[:, None] * rows
            defect = residual - self._pending(self.listed.Z[:, at])
            if self.listed.has_recurrence:
                self.hear(max(map(self._norm, defect)))
            inside = self._against(residual)
            residual -= self._combined(self._S @ inside)
            self._F[:, at] = inside
            # A residual in the basis's own digits is right to as many of its own.
            kept = residual.to(self._dtype_of_rows)
            self._X = kept if self._X is None else torch.cat([self._X, kept])
            self._places += at.tolist()
            self.exact[at] = True

    def rotated(self, *, at_best: bool = False) -> tuple[Residuals, FloatArray]:
        """The best pairs that the known part of H gives, and what is known of these.

        Args:
            at_best: as if what is only bounded were zero: what more products could show.

        Returns:
            The residuals, and the rotation S, shape (k, k): the new vectors are Y S.
        """
        known = self.exact[:, None] | self.exact
        F = np.where(self.exact[None, :], self._F, 0.0)
        both = self.exact[:, None] & self.exact
        F = np.where(both, (F + F.T) / 2, F + np.where(both, 0.0, F.T))
        M = np.diag(self.listed.theta) + F
        theta, S = self.space.agreed(np.linalg.eigh(M))
        if not self.exact.any():
            theta, S = self.listed.theta, np.eye(len(theta))
        weights = np.abs(S)
        bound = np.where(known | at_best, 0.0, self._bound_F)
        unknown = np.where(self.exact | at_best, 0.0, self._unknown)
        found = Residuals(
            theta=theta,
            F=weights.T @ bound @ weights if bound.any() else np.zeros_like(bound),
            gram=S.T @ self._gram() @ S,
            unknown=weights.T @ unknown if unknown.any() else unknown,
            joint=not self.exact.any(),
            rounding=self.rounding,
        )
        return found, S

    def ideal(self) -> Residuals:
        """What would be known if products had no noise: what more steps could bring."""
        if not self.listed.has_recurrence:
            return replace(self.rotated()[0], rounding=0.0)
        k = len(self.listed.theta)
        return Residuals(
            theta=self.listed.theta,
            F=np.zeros((k, k)),
            gram=self._K,
            unknown=np.zeros(k),
            joint=True,
            rounding=0.0,
        )

    def couplings(self, coefficients: FloatArray) -> FloatArray:
        """R with R R' the Gram matrix of the residuals of vectors V' S, all multiplied: (k, k)."""
        rotation = np.linalg.solve(self._S, coefficients)
        values, X = np.linalg.eigh(rotation.T @ self._gram() @ rotation)
        return np.asarray(X * np.sqrt(np.maximum(values, 0.0)))

    def vectors(self, rotation: FloatArray) -> FloatArray:
        """Coefficients of the rotated vectors over the rows V, in columns: shape (n, k)."""
        return self._S @ rotation

    @property
    def _dtype_of_rows(self) -> torch.dtype:
        stored = self.listed.V.dtype
        return torch.float32 if stored == torch.bfloat16 else stored

    def _gram(self) -> FloatArray:
        """Inner products of the known residuals: exact ones, and else the recurrence's."""
        K = self._K.copy()
        if self._X is None:
            return K
        at = np.array(self._places)
        X = self._X
        K[np.ix_(at, at)] = self.space.sum(linalg.cross_products(X, X)).cpu().numpy()
        rest = np.flatnonzero(~self.exact)
        if len(rest) and len(self.listed.Q):
            # X is orthogonal to Y, so that it meets all of Q where Q meets X.
            mixed = self.space.sum(linalg.cross_products(X, self.listed.Q)).cpu().numpy()
            cross = mixed @ self.listed.Z[:, rest]
            K[np.ix_(at, rest)], K[np.ix_(rest, at)] = cross, cross.T
        elif len(rest):
            K[np.ix_(at, rest)] = K[np.ix_(rest, at)] = 0.0
        return K

    def _orthonormal(self) -> FloatArray:
        """The nearest orthonormal vectors in float64: S (S'VV'S)^(-1/2)."""
        S = self.listed.S
        gram = linalg.gram_of_combinations(self.listed.V, torch.from_numpy(S.copy()))
        values, X = self.space.agreed(np.linalg.eigh(self.space.sum(gram).cpu().numpy()))
        return np.asarray(S @ (X / np.sqrt(values)) @ X.T)

    def _combined(self, C_nm: FloatArray) -> Tensor:
        """C' V in float64 where the reference is."""
        made = linalg.combinations(self.listed.V, torch.from_numpy(np.ascontiguousarray(C_nm)))
        return made.to(self.reference.device)

    def _against(self, rows: Tensor) -> FloatArray:
        """Y' of each row, shape (k, rows)."""
        if not len(rows):
            return np.zeros((len(self.listed.theta), 0))
        found = self.space.sum(linalg.cross_products(self.listed.V, rows))
        return np.asarray(self._S.T @ found.cpu().numpy())

    def _pending(self, C_bm: FloatArray) -> Tensor:
        Q = self.listed.Q
        return torch.from_numpy(np.ascontiguousarray(C_bm.T)).to(Q) @ Q

    def _multiplied(self, rows: Tensor) -> Tensor:
        self.products += len(rows)
        made = products(self.reference, rows.to(self.reference.dtype)).double()
        if not bool(torch.isfinite(self.space.sum(made.sum().view(1))).all()):
            raise CurvtoolError(NOT_FINITE)
        return made

    def _norm(self, row: Tensor) -> float:
        return float(self.space.norm(row))

    def hear(self, noise: float) -> None:
        """Take in what a product of a unit vector was off by, absolute."""
        if self.largest:
            self.noise = max(self.noise, noise / self.largest)
