"""A Krylov space taken out of a diagonal, as far as its products save more than they are.

Its first vector is the product of a pass that was made, so that most of it lies where T is large;
every direction is multiplied once, for the next one and for its own exact part together. By signs
the variance of a pass over all entries is

    |Tp|_F^2 - sum of (Tp)_ii^2,      |Tp|_F^2 = |T|_F^2 - |TQ'|_F^2,

of which a pilot knows |T|_F^2 and, less its own error, the diagonal. Where little is left of the
first term it is measured again, by one product.

Letters: P parameters, k directions, B terms.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from curvtool.algorithms.deflation import Deflating, Deflation
from curvtool.algorithms.planning import LEAST_LEFT
from curvtool.algorithms.sampling import Passes
from curvtool.operators.base import SumOperator
from curvtool.random_vectors.streams import Kind

# Variances are known from a few passes: a smaller gain is none.
LEAST_GAIN = 1.1
# Directions in a row that save nothing before it is given up.
PATIENCE = 2
# Directions after which what is left is measured again before more of them are believed to save
# nothing: a norm from one product may be three times too large.
STALE = 4
# Sweeps of probes that norms are measured by, beyond those of any run's passes.
MEASURED = 2**40

Norms = tuple[float, float]


@final
@dataclass(frozen=True, kw_only=True)
class Ahead:
    """What a pilot says about the passes ahead without directions.

    Attributes:
        made: passes that would be lost.
        left: products that may be spent.
        variance: of one pass, over all entries.
        target: of an estimate, over all entries; 0 where all products are to be spent.
        norms: estimates of |T|_F^2 and of sum |T_b|_F^2; infinite where one is not known, or its
            kind of probe must not be used.
        terms: B.
    """

    made: int
    left: int
    variance: float
    target: float
    norms: Norms
    terms: int

    def pays(self, variance: float, spent: int) -> bool:
        """Whether passes of another variance, all made anew, come to less."""
        variance *= LEAST_GAIN
        if self.target:
            afresh, plain = variance / self.target, self.variance / self.target - self.made
            if min(afresh + spent, plain) <= self.left:
                return afresh < plain
        left = self.left - spent
        return left > 1 and variance / left < self.variance / (self.made + left)


def outlook(
    passes: Passes, *, variance: float, needed: float, left: int, gain: float | None
) -> Ahead:
    """What a pilot's own norms say of both kinds of probe.

    Args:
        passes: of the pilot.
        variance: of one pass.
        needed: passes in all that the asked accuracy takes; infinite where none is asked.
        left: products that may be spent.
        gain: |T|_F^2 over sum |T_b|_F^2, where that was measured.

    Returns:
        The outlook.
    """
    norm = float(passes.norms.mean(axis=0).sum())
    ratio = math.nan if gain is None else gain
    both = (norm, norm / ratio) if passes.shared else (norm * ratio, norm)
    known = [math.inf if math.isnan(each) else each for each in both]
    return Ahead(
        made=passes.count,
        left=left,
        variance=variance,
        target=variance / needed if math.isfinite(needed) else 0.0,
        norms=(known[0], known[1]),
        terms=passes.operator.num_terms,
    )


def measured_norms(operator: SumOperator, found: Deflation, *, probes: Kind, seed: int) -> Norms:
    """|Tp|_F^2 and sum |T_b p|_F^2, by a product that serves nothing else."""
    first = MEASURED + len(found.Q_kP)
    passes = Passes(operator, found, shared=True, probes=probes, seed=seed, first=first)
    passes.add(by_term=True)
    assert passes.term_norms is not None
    return float(passes.norms.sum()), float(passes.term_norms.sum())


@final
class TakingOut:
    """One attempt.

    Args:
        deflating: takes the directions; its room is the most of them.
        ahead: what is to be saved.
        diagonal: estimates the sum of (Tp)_ii^2 from a pilot.
        measure: estimates |Tp|_F^2 and sum |T_b p|_F^2 by a product.
    """

    def __init__(
        self,
        deflating: Deflating,
        ahead: Ahead,
        *,
        diagonal: Callable[[], float],
        measure: Callable[[Deflation], Norms],
    ) -> None:
        self.deflating = deflating
        self.ahead = ahead
        self.measured = 0
        self._diagonal = diagonal
        self._measure = measure
        self._at = 0  # directions when the norms were measured
        self._norms = ahead.norms
        self._before: Norms = (0.0, 0.0)  # what was taken out then

    @property
    def spent(self) -> int:
        """Products so far."""
        return self.deflating.k + self.measured

    def run(self, start_P: Tensor) -> tuple[Deflation | None, bool]:
        """Take directions out one by one.

        Args:
            start_P: to begin with.

        Returns:
            What was taken out, or None where passes without it come to less: after two or three
            products then. And whether probes after it should be shared.
        """
        taken, idle = self.deflating, 0
        variance, _ = self._left()
        q_P = self._unit(start_P)
        while q_P is not None and taken.k < len(taken.Q_kP) and idle < PATIENCE:
            Tq_P = taken.add(q_P)
            assert Tq_P is not None
            saved, (variance, _) = variance, self._left()
            saved -= variance
            idle = idle + 1 if saved < self._worth(variance) else 0
            q_P = self._unit(Tq_P)
            if q_P is not None and (self._faint or (idle == PATIENCE and self._stale)):
                self._measure_again()
                variance, _ = self._left()
                idle = 0 if saved >= self._worth(variance) else idle
        variance, shared = self._left()
        if not taken.k or not self.ahead.pays(variance, self.spent):
            return None, shared
        return taken.found(), shared

    def _worth(self, variance: float) -> float:
        """What of a pass's variance a product must save: that of the estimate, as it stands."""
        return max(self.ahead.target, variance / max(1, self.ahead.left - self.spent))

    @property
    def _stale(self) -> bool:
        """Whether what is left was measured some directions ago."""
        return self.deflating.k - self._at >= STALE

    def _left(self) -> tuple[float, bool]:
        """Variance of a pass as things are, and whether shared probes have it."""
        found, diagonal = [], self._diagonal()
        shares = (1.0, 1.0 / self.ahead.terms)  # of terms the squares are B times less at least
        for norm, share in zip(self._remaining(), shares, strict=True):
            found.append(max(norm - share * diagonal, LEAST_LEFT * norm))
        return min(found), found[0] <= found[1]

    def _remaining(self) -> list[float]:
        """|Tp|_F^2 and sum |T_b p|_F^2."""
        now = zip(self._norms, self._before, self.deflating.squares, strict=True)
        return [max(norm - (taken - before), LEAST_LEFT * norm) for norm, before, taken in now]

    @property
    def _faint(self) -> bool:
        """Whether what is left nearly cancels, in the kind that is known better."""
        left = zip(self._norms, self._remaining(), strict=True)
        return any(math.isfinite(norm) and rest <= LEAST_LEFT * norm for norm, rest in left)

    def _measure_again(self) -> None:
        self.measured += 1
        self._at = self.deflating.k
        shared, single = self._measure(self.deflating.found())
        known = [math.isfinite(norm) for norm in self.ahead.norms]
        self._norms = (shared if known[0] else math.inf, single if known[1] else math.inf)
        self._before = self.deflating.squares

    def _unit(self, w_P: Tensor) -> Tensor | None:
        """What a vector has beside the directions, of unit length; None where it is rounding."""
        space, rows = self.deflating.space, self.deflating.Q_kP[: self.deflating.k]
        length = float(space.norm(w_P))
        if not length > 0:
            return None
        rest_P, _ = space.orthogonalized(rows, w_P / length)
        left = float(space.norm(rest_P))
        if left <= 100 * torch.finfo(w_P.dtype).eps:
            return None
        rest_P, _ = space.orthogonalized(rows, rest_P / left)
        return rest_P / space.norm(rest_P).to(rest_P.dtype)
