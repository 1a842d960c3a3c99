"""A Krylov decomposition that can be restarted, and widened by a new direction.

    A V' = V' T + R' C,      V V' = I,   V R' = 0

V holds n orthonormal rows, R the pending residual vectors (usually one), C their couplings to
the rows. With one pending vector every step is a Lanczos step; a direction that is injected
adds a second one, and the steps become those of band Lanczos, with nothing dropped: the relation
above stays exact to rounding through restarts and injections.

Letters: P parameters, m basis limit, n rows in use, b pending vectors.

References:
    Wu, Simon (2000), thick-restart Lanczos; Stewart (2001), Krylov-Schur; Aliaga, Boley, Freund,
    Hernandez (2000), band Lanczos.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from curvtool.algorithms.basis import BasisPlace
from curvtool.algorithms.linalg import rotate_rows
from curvtool.algorithms.space import space_of
from curvtool.errors import CurvtoolError, PreflightError
from curvtool.operators.base import SymmetricOperator
from curvtool.results import FloatArray


@final
@dataclass(eq=False)
class _Pending:
    """A residual vector that waits to become a basis row."""

    vector: Tensor  # orthogonal to all rows, not normalised
    norm: float
    coupling: FloatArray  # row of C, shape (m,)
    origin: float  # size of what it was made of: its norm is rounding below some eps of that


@final
class KrylovDecomposition:
    """The state of a Lanczos solve; memory is m + b + 3 vectors of P numbers."""

    def __init__(
        self, operator: SymmetricOperator, *, limit: int, place: BasisPlace | None = None
    ) -> None:
        self.operator = operator
        self.space = space_of(operator)
        self.limit = min(limit, operator.size)
        self.basis = (place or BasisPlace()).rows(
            self.limit, self.space.local, operator.dtype, operator.device
        )
        self.size = 0
        self.pending: list[_Pending] = []
        self.scale = 0.0  # largest |A v| seen over unit vectors: a lower bound of |A|
        self.asymmetry = 0.0  # largest |v_i' A v_j - v_j' A v_i| seen
        self._T = np.zeros((self.limit, self.limit))

    @property
    def rows(self) -> Tensor:
        """V, shape (n, P)."""
        return self.basis[: self.size]

    @property
    def projected(self) -> FloatArray:
        """T, symmetric, shape (n, n)."""
        T = self._T[: self.size, : self.size]
        return np.asarray((T + T.T) / 2)

    @property
    def closed(self) -> bool:
        """Whether the rows span an invariant subspace: nothing is pending."""
        return not self.pending

    @property
    def complete(self) -> bool:
        """Whether the rows span the whole space."""
        return self.size == self.operator.size

    @property
    def full(self) -> bool:
        """Whether the basis has no room for another row."""
        return self.size == self.limit

    @property
    def rounded(self) -> bool:
        """Whether rows are stored in fewer digits than they are computed with."""
        return self.basis.dtype != self.operator.dtype

    def row(self, n: int) -> Tensor:
        """A row as a vector of the operator."""
        return self.basis[n].to(dtype=self.operator.dtype, device=self.operator.device)

    def inject(self, vector_P: Tensor) -> bool:
        """Put a direction first in the queue; False where the rows span it already."""
        w_P, _ = self.space.orthogonalized(
            self.rows, vector_P / self.space.norm(vector_P).to(vector_P.dtype)
        )
        length = float(self.space.norm(w_P))
        if length < 1e-3:  # what is left of a unit vector is mostly rounding
            return False
        w_P, _ = self.space.orthogonalized(self.rows, w_P / length)
        self.pending.insert(
            0, _Pending(w_P, float(self.space.norm(w_P)), np.zeros(self.limit), origin=1.0)
        )
        return True

    def expand(self) -> None:
        """Make the first pending vector a row and multiply it: exactly one product.

        Waits for the device once, or once more for each further pending vector.

        Raises:
            CurvtoolError: when the product is not finite.
        """
        assert self.pending
        assert not self.full
        n = self.size
        first = self.pending.pop(0)
        v_P = first.vector / first.norm
        self._T[n, :n] = first.norm * first.coupling[:n]
        self.basis[n] = v_P
        self.size = n + 1
        for other in self.pending:
            # Against all rows: what is left may be so short that its old roundings count.
            other.vector, components = self.space.orthogonalized(self.rows, other.vector)
            other.norm = float(self.space.norm(other.vector))
            self._T[n, :n] += float(components[n]) * other.coupling[:n]
        eps = torch.finfo(self.operator.dtype).eps
        self.pending = [p for p in self.pending if p.norm > 10 * eps * p.origin]

        # As it is stored: a row that was rounded is the one that counts.
        w_P = self.operator.matvec(self.row(n))
        w_P, components = self.space.orthogonalized(self.rows, w_P)
        numbers = torch.cat([components, self.space.norm(w_P).view(1)]).tolist()
        column, remainder = np.array(numbers[:-1]), numbers[-1]
        length = math.hypot(float(np.linalg.norm(column)), remainder)
        if not math.isfinite(length):
            raise CurvtoolError(
                "The Hessian-vector product is not finite (NaN or infinity) although loss and "
                "gradient are. Second derivatives overflow here: try --dtype float64."
            )
        self.scale = max(self.scale, length)
        self.asymmetry = max(
            self.asymmetry, float(np.abs(self._T[n, :n] - column[:n]).max(initial=0))
        )
        self._T[: n + 1, n] = column
        self._T[n, n] = column[n]
        # Below this the remainder is the rounding of the product and of two Gram-Schmidt passes.
        if remainder > 10 * eps * self.scale and not self.complete:
            coupling = np.zeros(self.limit)
            coupling[n] = 1.0
            self.pending.append(_Pending(w_P, remainder, coupling, origin=self.scale))

    def require_symmetry(self) -> None:
        """Hold v_i' A v_j against v_j' A v_i, both of which every step knows for free.

        Raises:
            PreflightError: when they differ by more than 3 sqrt(eps) of |A|.
        """
        # Rows that were rounded are not quite orthogonal, which shows here, too.
        allowed = 3 * torch.finfo(self.operator.dtype).eps ** 0.5
        if self.rounded:
            allowed = max(allowed, 10 * torch.finfo(self.basis.dtype).eps)
        if self.asymmetry > allowed * self.scale:
            raise PreflightError(
                "The product is not that of a symmetric matrix over the whole dataset: u'Hv and "
                f"v'Hu differ by {self.asymmetry / self.scale:.1e} of |H|, {allowed:.1e} is "
                "allowed. Either it changes from product to product (look for dropout, "
                "augmentation or shuffling in the data, or hooks with a state), or its rounding is "
                "that large (look for parts in lower precision, or try another --dtype)."
            )

    def ritz(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Ritz values, primitive vectors in columns, and residual norms: (n,), (n, n), (n,)."""
        theta, S = self.space.agreed(np.linalg.eigh(self.projected))
        if not self.pending:
            return theta, S, np.zeros_like(theta)
        if len(self.pending) == 1:
            p = self.pending[0]
            return theta, S, np.abs(p.coupling[: self.size] @ S) * p.norm
        # By QR: sqrt(c'Gc) with the Gram matrix G lost all digits where couplings cancel.
        _, C = self.residual_basis()
        return theta, S, np.linalg.norm(C @ S, axis=0)

    def residual_basis(self) -> tuple[Tensor, FloatArray]:
        """Orthonormal rows Q in float64, shape (b, P), and C: the residual of row i is Q' C_i.

        Returns:
            Q, and C of shape (b, n). Memory is b float64 vectors.
        """
        b = len(self.pending)
        Q = torch.zeros((b, self.space.local), dtype=torch.float64, device=self.operator.device)
        R = np.zeros((b, b))
        for j, p in enumerate(self.pending):
            rest, along = self.space.orthogonalized(Q[:j], p.vector.double())
            R[:j, j], R[j, j] = along.cpu().numpy(), float(self.space.norm(rest))
            Q[j] = rest / R[j, j] if R[j, j] else rest
        couplings = np.stack([p.coupling[: self.size] for p in self.pending]) if b else None
        return Q, np.zeros((0, self.size)) if couplings is None else R @ couplings

    def adopt(self, columns: list[FloatArray], remainder_P: Tensor) -> None:
        """Take in rows that a recurrence of its own made behind these, and what it left.

        Args:
            columns: of T, the i-th with size + i + 1 entries: the products' components along these
                rows and the new ones, which lie in `basis` behind these.
            remainder_P: of the last product, orthogonal to all rows, any length.
        """
        n, j = self.size, len(columns)
        for i, column in enumerate(columns):
            self._T[n + i, : n + i + 1] = self._T[: n + i + 1, n + i] = column
        self.size = n + j
        for p in self.pending:
            p.vector, _ = self.space.orthogonalized(self.rows, p.vector)
            p.norm = float(self.space.norm(p.vector))
        eps = torch.finfo(self.operator.dtype).eps
        self.pending = [p for p in self.pending if p.norm > 10 * eps * p.origin]
        length = float(self.space.norm(remainder_P))
        if length > 10 * eps * self.scale and not self.complete:
            coupling = np.zeros(self.limit)
            coupling[n + j - 1] = 1.0
            self.pending.insert(0, _Pending(remainder_P, length, coupling, origin=self.scale))

    def restart(self, theta_k: FloatArray, S_nk: FloatArray) -> None:
        """Shrink the rows to Ritz vectors, couplings and all.

        Args:
            theta_k: Ritz values to keep.
            S_nk: their primitive vectors in columns.
        """
        k = len(theta_k)
        rotate_rows(self.rows, torch.from_numpy(np.ascontiguousarray(S_nk)))
        self._T[:] = 0.0
        self._T[np.arange(k), np.arange(k)] = theta_k
        # A pair whose residual is rounding is decoupled; any other keeps improving (soft locking).
        floor = 10 * torch.finfo(self.operator.dtype).eps * float(np.abs(theta_k).max(initial=0))
        for p in self.pending:
            coupling = np.zeros(self.limit)
            coupling[:k] = p.coupling[: self.size] @ S_nk
            coupling[:k][np.abs(coupling[:k]) * p.norm < floor] = 0.0
            p.coupling = coupling
        self.size = k
