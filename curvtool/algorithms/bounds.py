"""Error bounds of eigenvalues from what is known of their vectors' residuals.

Y are k orthonormal vectors, theta their values, M = Y'HY = diag(theta) + F, and HY - YM is the
residual orthogonal to them: a part with a known Gram matrix K, and an unknown part D. Of F and D
small-sample norms give bounds, A and u, and exact products make them zero.

One end of the spectrum is taken at a time, outermost value first; the lower end is the upper end
of -H. Letters: k pairs, p pairs of an end, q of a set, m combinations.

References:
    Lehmann (1949), Maehly (1952), and Temple (1928), Kato (1949) for one pair; Mathias (1998), Li,
    Li (2005) for values of a matrix that is nearly block diagonal; Gudmundsson, Kenney, Laub
    (1995), Gratton, Titley-Peloquin (2018) for norms from few samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from curvtool.results import FloatArray

# Chance that the largest of m Gaussian combinations underestimates a norm, for each value.
MISS = 1e-3
# Two values are of one cluster where they are nearer than so many of their bounds.
APART = 4.0


def enlargement(combinations: int, miss: float = MISS) -> float:
    """Factor f with P(f max_j |c_j| < 1) = miss for m standard normal numbers.

    Args:
        combinations: m.
        miss: the chance.

    Returns:
        25.2 for two, 7.96 for three, 4.45 for four at 0.1 %. f max_j |D c_j| is below |D|_2 with
        this chance at most, whatever D: project on its first singular vector.
    """
    return float(1 / ndtri((1 + miss ** (1 / combinations)) / 2))


@final
@dataclass(frozen=True, eq=False)
class Residuals:
    """What is known of k vectors beside their values.

    Attributes:
        theta: values, shape (k,).
        F: bounds on |F_il|, shape (k, k), zero where M is diagonal exactly.
        gram: K, Gram matrix of the known residuals, shape (k, k).
        unknown: u, bounds on the norms of the unknown residuals, shape (k,).
        joint: whether the Frobenius norm of D diag(1 / u) is at most 1, so that the unknown part
            of a set is bounded by its largest member; else by the root of the sum of squares.
        rounding: of the products that all this comes from, absolute.
    """

    theta: FloatArray
    F: FloatArray
    gram: FloatArray
    unknown: FloatArray
    joint: bool
    rounding: float

    @property
    def norms(self) -> FloatArray:
        """Bounds on |H y - theta y|, shape (k,)."""
        known = np.sqrt(np.maximum(np.diag(self.gram), 0.0))
        total = known + self.unknown + np.linalg.norm(self.F, axis=1) + self.rounding
        return np.asarray(total, dtype=np.float64)

    def taken(self, places: NDArray[np.intp]) -> Residuals:
        """The same of the vectors at these places, in this order."""
        at = np.ix_(places, places)
        return replace(
            self,
            theta=self.theta[places],
            F=self.F[at],
            gram=self.gram[at],
            unknown=self.unknown[places],
        )

    def of_set(self, unknown: FloatArray) -> float:
        """Bound on the norm of the unknown part of several vectors."""
        return float(unknown.max(initial=0.0) if self.joint else np.linalg.norm(unknown))


def value_errors(
    found: Residuals, upper: NDArray[np.bool_], limits: Mapping[bool, FloatArray]
) -> FloatArray:
    """Distances within which an eigenvalue lies of each value.

    Args:
        found: the pairs.
        upper: which of them are listed for the upper end, shape (k,).
        limits: for an end (True the upper one, False the lower one) proved bounds of its
            outermost eigenvalues, outermost first, in the sign of the end, p + 1 at least; an end
            of which nothing is proved is left out.

    Returns:
        Shape (k,). Where `limits` lie further behind the values than residuals reach, the error
        belongs to the index: the i-th value of the end is within it of the i-th eigenvalue.
        Elsewhere some eigenvalue is, by the residual norm.
    """
    errors = found.norms
    # A short residual alone tells no index: of two values that are nearer than the other one's
    # error, the eigenvalue beside the better one may be the second.
    reach = 2 * float(np.linalg.norm(errors))
    shift = _shifts(found.theta, found.F) + found.rounding
    for end, proved in limits.items():
        sign = 1.0 if end else -1.0
        mine = np.flatnonzero(upper == end)
        mine = mine[np.argsort(-sign * found.theta[mine], kind="stable")]
        others = np.flatnonzero(upper != end)
        if len(mine):
            by_index = shift[mine] + _outward(found, sign, mine, others, shift, proved)
            errors[mine] = np.where(by_index <= reach, by_index, errors[mine])
    return errors


def _shifts(theta: FloatArray, F: FloatArray) -> FloatArray:
    """How far the i-th eigenvalue of diag(theta) + F may be from theta_i, for every such F."""
    # A cluster c is treated as a block: its own part of F counts in full, its coupling to the rest
    # squared over the distance (Schur complement).
    if not F.any():
        return np.zeros(len(theta))
    order = np.argsort(theta)
    near = [
        theta[b] - theta[a] <= APART * (F[a, a] + F[b, b] + 2 * F[a, b]) for a, b in pairwise(order)
    ]
    cuts = [0, *(i + 1 for i, together in enumerate(near) if not together), len(theta)]
    shifts = np.full(len(theta), np.linalg.norm(F, 2))
    for begin, end in pairwise(cuts):
        c, r = order[begin:end], np.r_[order[:begin], order[end:]]
        inside = error = float(np.linalg.norm(F[np.ix_(c, c)], 2))
        for _ in range(3):  # each round takes the last one's error for the margin of distances
            distance = np.abs(theta[c][:, None] - theta[r]).min(axis=0, initial=np.inf) - 2 * error
            if (distance <= 0).any():
                break
            scaled = F[np.ix_(r, r)] / np.sqrt(np.outer(distance, distance))
            nu = float(np.linalg.norm(scaled))
            if nu > 0.5:
                break
            before = error
            error = inside + float((F[np.ix_(c, r)] ** 2 / distance).sum()) / (1 - nu)
            if error <= 2 * before:
                shifts[c] = np.minimum(shifts[c], error)
                break
    return shifts


def _outward(
    found: Residuals,
    sign: float,
    mine: NDArray[np.intp],
    others: NDArray[np.intp],
    shift: FloatArray,
    proved: FloatArray,
) -> FloatArray:
    """How far the eigenvalues of an end may lie outward of those of M."""
    # For the set of the q outermost, alpha >= lambda_(q + 1) is what the value after it was bounded
    # by, or what is proved; each value takes the least of the sets that it is in.
    theta, K = sign * found.theta[mine], found.gram[np.ix_(mine, mine)]
    F, u = found.F[np.ix_(np.r_[mine, others], mine)], found.unknown[mine]
    p = len(mine)
    outward = np.full(p, np.inf)
    alpha = proved[p] if len(proved) > p else np.inf
    for q in range(p, 0, -1):
        gap = theta[:q] - alpha
        if gap.min() > 0:
            root = np.sqrt(gap)
            eta = float(np.linalg.norm(F[:q, :q] / np.outer(root, root), 2))
            if eta < 0.5:
                scaled = K[:q, :q] / np.outer(root, root)
                rest = found.of_set(u[:q] / root) + float(np.linalg.norm(F[q:, :q] / root))
                whole = np.sqrt(max(0.0, float(np.linalg.norm(scaled, 2)))) + rest
                bound = np.full(q, whole**2 / (1 - eta))
                if not rest and not eta:  # exact products: Lehmann's bounds
                    tau = np.linalg.eigvalsh(np.diag(gap) + scaled)[::-1]
                    bound = np.minimum(bound, np.maximum(tau - gap, 0.0))
                outward[:q] = np.minimum(outward[:q], bound)
        # It serves the set that ends one value further out.
        alpha = theta[q - 1] + shift[mine[q - 1]] + outward[q - 1]
        if len(proved) >= q:
            alpha = min(alpha, float(proved[q - 1]))
    return outward
