"""Whether a list of eigenvalues lacks one: a fresh random probe in the complement of what is held.

Small residuals show that each value is near some eigenvalue, not that these are the outermost k:
a single-vector Krylov space holds one copy of a multiple eigenvalue, and values that pile up at an
edge look like an edge. The probe's own Lanczos coefficients say what it excludes, and with which
probability (`exclusion`). Its start must come from numbers that nothing else has used.

Letters: P parameters, n deflated rows, k listed ones, b directions of residuals, j steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import numpy as np
import torch
from torch import Tensor

from curvtool.algorithms.exclusion import (
    Exclusion,
    admissible,
    bound,
    conditions,
    ends_of,
    listed_at,
    outermost,
    threshold,
    unseen,
)
from curvtool.algorithms.settings import Which
from curvtool.algorithms.space import space_of
from curvtool.operators.base import SymmetricOperator
from curvtool.results import Completeness, EndProof, FloatArray

# Chance of a false statement at one end, of all probes of a run together.
CHANCE = 5e-4
# A forecast is made after so many products; beyond the cap a probe ends after the second number.
FORECAST_AFTER, GIVEN_UP_AFTER = 6, 10
# A value below this share of the largest is held against the tolerance of that share.
SMALLEST = 1e-2
# Extra vectors are deflated while their couplings cost at most this share of the gap they open.
_COST_OF_EXTRAS = 0.03


@final
@dataclass(frozen=True, eq=False)
class Held:
    """Orthonormal Ritz vectors that a probe deflates, the listed ones first, in their order.

    Attributes:
        rows: shape (n, P) of this process's part.
        theta: their values, shape (n,).
        R: couplings, shape (n, b): R R' is the Gram matrix of their residuals.
        k: how many are listed.
        which: what was asked for.
        tol: by how much each listed value may be short, relative to it.
        largest: |H|; values below a hundredth of it may be short by as much as that.
        noise: of a product, absolute, by which every value may be short.
    """

    rows: Tensor
    theta: FloatArray
    R: FloatArray
    k: int
    which: Which
    tol: float
    largest: float
    noise: float

    @property
    def margin(self) -> FloatArray:
        """By how much each listed value may be short, shape (k,)."""
        sizes = np.maximum(np.abs(self.theta[: self.k]), SMALLEST * self.largest)
        return np.asarray(np.maximum(self.tol * sizes, self.noise))

    def end(self, *, upper: bool) -> tuple[FloatArray, list[tuple[float, int]]]:
        """Deflated values and conditions in the sign of an end."""
        sign = 1.0 if upper else -1.0
        wanted = conditions(self.theta[: self.k], self.margin, self.which, upper=upper)
        return sign * self.theta, wanted

    def limits(self, *, upper: bool) -> FloatArray:
        """For each condition of an end the largest bound of the complement that proves it."""
        theta, wanted = self.end(upper=upper)
        return admissible(theta, self.R, wanted)


@final
@dataclass(frozen=True, eq=False)
class Probed:
    """What a probe saw.

    Attributes:
        alpha: diagonal of its recurrence, one entry a step.
        beta: below it, the last one included.
        columns: of the matrix over the held rows and its own, as `KrylovDecomposition.adopt` takes
            them; fewer than steps where there was no room for its rows.
        remainder: of its last product, shape (P,).
        seen: whether a value that the list lacks was seen.
        closed: whether nothing was left of its last product, or it spans all that is not held.
    """

    alpha: list[float]
    beta: list[float]
    columns: list[FloatArray]
    remainder: Tensor
    seen: bool
    closed: bool

    @property
    def products(self) -> int:
        """Steps."""
        return len(self.alpha)

    @property
    def keeps_all(self) -> bool:
        """Whether all of its rows are there."""
        return len(self.columns) == len(self.alpha)


def chance_of_round(number: int) -> float:
    """The chance spent on the `number`-th probe of a run, from 0: all add up to `CHANCE`."""
    return 0.9 * CHANCE if number == 0 else 0.1 * CHANCE * 2.0**-number


def with_extras(
    theta: FloatArray, R: FloatArray, held: list[int], asked: Held, most: int
) -> list[int]:
    """Further Ritz vectors that are worth deflating, nearest to the list first.

    The probe then sees the gap to those that are left. One that is far from converged would cost
    more of that gap than it opens. Where one end alone is asked for, those at the other end follow:
    without them the spectrum that is left is narrower, and the same gap a larger share of it.

    Args:
        theta: all Ritz values.
        R: their couplings, shape (all, b).
        held: places of the list.
        asked: the list with its margins; its rows are not consulted.
        most: vectors to deflate at most.

    Returns:
        Places, those of the list first.
    """
    chosen = list(held)
    ends = ends_of(asked.which, asked.k)
    wanted = {upper: asked.end(upper=upper)[1] for upper in ends}

    def limit(upper: bool, places: list[int]) -> float:
        sign = 1.0 if upper else -1.0
        return float(admissible(sign * theta[places], R[places], wanted[upper]).min(initial=np.inf))

    for upper in ends if len(ends) > 1 else (ends[0], not ends[0]):
        sign = 1.0 if upper else -1.0
        judge = upper if upper in ends else ends[0]
        first = limit(judge, chosen)
        rest = [int(i) for i in np.argsort(-sign * theta) if int(i) not in held]
        for i, after in pairwise(rest):
            tried = chosen if i in chosen else [*chosen, i]
            gap = (
                first - sign * theta[after] if upper in ends else first - _next(theta, tried, judge)
            )
            if len(tried) > most or first - limit(judge, tried) > _COST_OF_EXTRAS * gap:
                break
            chosen = tried
    return chosen


def _next(theta: FloatArray, held: list[int], upper: bool) -> float:
    """The outermost Ritz value of an end that is not held, in the sign of the end."""
    left = np.delete(theta, held)
    return float((left if upper else -left).max(initial=-np.inf))


def probe(
    operator: SymmetricOperator,
    held: Held,
    start_P: Tensor,
    scratch: Tensor,
    *,
    chance: float,
    cap: int,
    most: int,
    finds: bool,
) -> Probed:
    """Lanczos from a fresh random vector in the complement of the held rows.

    Args:
        operator: H, as the solve multiplies by it.
        held: what is deflated.
        start_P: a normal vector, orthogonal to the held rows, of unit length.
        scratch: rows to keep the vectors in; where they are few the last two are kept elsewhere.
        chance: of a false statement at each end.
        cap: products that it may take where the forecast says that they suffice.
        most: products that it may take at all.
        finds: whether it ends as soon as it sees something, which a longer list then has; if not,
            it goes on to say what it can of the list as it is.

    Returns:
        The recurrence. Three passes over the held rows a step beside the product.
    """
    space = space_of(operator)
    N = operator.size - len(held.rows)
    needed = threshold(N, chance)
    asked = ends_of(held.which, held.k)
    points = [held.limits(upper=upper).min(initial=np.inf) for upper in asked]
    ends = {
        upper: Exclusion(float(u), needed)
        for upper, u in zip(asked, space.told(np.array(points)), strict=True)
    }
    eps = torch.finfo(operator.dtype).eps
    most, cap = min(most, N), min(cap, N)
    alpha: list[float] = []
    beta: list[float] = []
    columns: list[FloatArray] = []
    v_P, before_P = start_P, None
    scale, closed = held.largest, False
    while True:
        j = len(alpha)
        keeps = j < len(scratch)
        if keeps:
            scratch[j] = v_P
            v_P = scratch[j].to(dtype=operator.dtype, device=operator.device)
        w_P = operator.matvec(v_P)
        own = (
            scratch[: j + 1]
            if keeps
            else torch.stack([p for p in (before_P, v_P) if p is not None])
        )
        w_P, along_held = space.orthogonalized(held.rows, w_P)
        w_P, along_own = space.orthogonalized(own, w_P)
        w_P, again = space.orthogonalized(held.rows, w_P)
        numbers = torch.cat([along_held + again, along_own, space.norm(w_P).view(1)]).tolist()
        left = numbers[-1]
        scale = max(scale, float(np.linalg.norm(numbers)))
        if keeps:
            columns.append(np.array(numbers[:-1]))
        alpha.append(numbers[-2])
        # Below this what is left is rounding: S is taken smaller than it is, which is on the safe
        # side, and the recurrence goes on, for where it breaks down nothing is proved yet.
        beta.append(max(left, 10 * eps * scale) if left else 0.0)
        closed = not left or j + 1 >= N
        for upper, end in ends.items():
            sign = 1.0 if upper else -1.0
            end.step(sign * alpha[-1], beta[-2] if j else 0.0, beta[-1])
        seen = any(end.seen for end in ends.values())
        ended = seen and (finds or j + 1 >= GIVEN_UP_AFTER)
        if ended or closed or all(end.proved for end in ends.values()):
            break
        if j + 1 == FORECAST_AFTER and max(end.forecast for end in ends.values()) > cap:
            cap = GIVEN_UP_AFTER
        if j + 1 >= min(cap, most):
            break
        v_P, before_P = w_P / left, v_P
    return Probed(alpha, beta, columns, w_P, seen, closed)


def stated(
    held: Held, probed: Probed, P: int, *, chance: float, spent: int, found: int
) -> tuple[Completeness, Mapping[bool, FloatArray]]:
    """What a probe that saw nothing proves.

    Args:
        held: what was deflated.
        probed: the recurrence.
        P: size of the operator.
        chance: of a false statement at each end.
        spent: products of all probes.
        found: values that earlier probes found missing.

    Returns:
        The statement, and for each end proved bounds of its outermost eigenvalues, one more than
        the list has there, in the sign of the end, the noise of a product included.
    """
    N = P - len(held.theta)
    needed = threshold(N, chance)
    proofs: dict[bool, EndProof] = {}
    limits: dict[bool, FloatArray] = {}
    complete = True
    for upper in ends_of(held.which, held.k):
        sign = 1.0 if upper else -1.0
        alpha = [sign * a for a in probed.alpha]
        U = bound(alpha, probed.beta, needed)
        theta, _ = held.end(upper=upper)
        allowed = held.limits(upper=upper)
        listed = len(listed_at(held.theta[: held.k], held.which, upper=upper))
        failed = np.flatnonzero(allowed < U)
        complete = complete and not len(failed)
        rank = min(listed, int(failed[0])) if len(failed) else listed
        beyond = outermost(theta, held.R, U, listed + 1) + held.noise
        proofs[upper] = EndProof(
            listed=listed,
            proved_rank=rank,
            nothing_beyond=sign * float(beyond[rank]),
            unseen=unseen(float(allowed.min(initial=np.inf)), alpha, probed.beta, N),
        )
        limits[upper] = beyond
    statement = Completeness(
        complete=complete,
        probability=1 - CHANCE * len(proofs),
        upper=proofs.get(True),
        lower=proofs.get(False),
        margin=held.tol,
        least_margin=max(held.tol * SMALLEST * held.largest, held.noise),
        products=spent,
        found=found,
    )
    return statement, limits
