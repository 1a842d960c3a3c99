"""Which probes, and whether a short Lanczos first: what the next products should be spent on.

All rests on one proportion: under Rademacher probes the variance of z'Az is
2 (|A|_F^2 - sum a_ii^2), under Gaussian ones 2 |A|_F^2, and |Az|^2 estimates |A|_F^2. So a pilot
knows the variance, and what directions would take of it, before they are taken.

Letters: B terms, m Lanczos steps, k directions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from torch import Tensor

from curvtool.algorithms.krylov import KrylovDecomposition
from curvtool.operators.base import SymmetricOperator
from curvtool.random_vectors.purposes import Purpose
from curvtool.results import FloatArray

# A Lanczos that turns out not to pay has cost at most this share of the passes ahead.
SHARE_OF_TRIAL = 1 / 8
FEWEST_STEPS = 8
# Estimates of norms are this uncertain when they nearly cancel.
LEAST_LEFT = 0.03


def choice_of_sharing(terms: int, gain: float) -> tuple[bool, str]:
    """The cheaper kind of probe, and why.

    Args:
        terms: B.
        gain: |T|_F^2 over sum |T_b|_F^2, which is the variance with a shared probe over that with
            a probe for each term, for the same work.

    Returns:
        Whether shared probes are cheaper, and a sentence.
    """
    if not gain > 0:
        return True, f"One probe for all {terms} batches, whose products add up to rounding."
    if gain < 1:
        return True, (
            f"One probe for all {terms} batches: a probe for each would have {1 / gain:.1f} times "
            "the variance."
        )
    return False, (
        f"A probe for each of {terms} batches: {gain:.1f} times less variance for the same work "
        "than one probe for all."
    )


@final
@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What a pilot knows.

    Attributes:
        needed: passes of the pilot's kind of probe that the asked accuracy takes in all.
        shared: whether its probes are shared.
        terms: B.
        norm: estimate of |T|_F^2.
        term_norms: sum of the estimates of |T_b|_F^2.
        fewest: passes before an interval may be looked at: of shared probes, of one per batch.
    """

    needed: float
    shared: bool
    terms: int
    norm: float
    term_norms: float
    fewest: tuple[float, float]

    def floored(self, ritz_values: FloatArray) -> Outlook:
        """The same, knowing that |T|_F^2 is at least the sum of the Ritz values' squares.

        A norm from a few passes may come out below the first square alone, and one direction then
        seems to leave nothing (3 of 16 seeds on a small convolutional net, for 15 times the work).

        Args:
            ritz_values: of T.

        Returns:
            An outlook whose norms are no smaller than that.
        """
        least = float(np.square(ritz_values).sum())
        if not least > self.norm:
            return self
        needed = self.needed * (least / self.norm if self.shared and self.norm else 1.0)
        terms = max(self.term_norms, least / self.terms)
        return replace(self, needed=needed, norm=least, term_norms=terms)

    def passes(self, taken: float, taken_by_terms: float) -> tuple[float, bool]:
        """Passes after a deflation, with the cheaper kind of probe.

        Args:
            taken: of |T|_F^2.
            taken_by_terms: of sum |T_b|_F^2.

        Returns:
            The number, and whether shared probes are the cheaper ones.
        """
        scale = self.needed / (self.norm if self.shared else self.term_norms)
        shared = max(self.fewest[0], scale * max(self.norm - taken, LEAST_LEFT * self.norm))
        left = max(self.term_norms - taken_by_terms, LEAST_LEFT * self.term_norms)
        single = max(self.fewest[1], scale * left)
        return (shared, True) if shared <= single else (single, False)


@final
@dataclass(frozen=True, kw_only=True)
class DeflationPlan:
    """Whether to deflate.

    Attributes:
        directions: k, 0 for none.
        shared: kind of probe that it counts on.
        predicted: products that it will take from here on, the k included.
        without: products that it would take without.
        sentence: why.
    """

    directions: int
    shared: bool
    predicted: float
    without: float
    sentence: str


def steps_worth_trying(outlook: Outlook, *, done: float, most: int) -> int:
    """Steps of a Lanczos that may pay; 0 where it cannot.

    Args:
        outlook: of the pilot.
        done: passes that are made already.
        most: vectors that may be held.

    Returns:
        m, or 0.
    """
    m = int(min(most, SHARE_OF_TRIAL * (outlook.needed - done)))
    return m if m >= FEWEST_STEPS else 0


def short_lanczos(
    operator: SymmetricOperator, steps: int, *, seed: int
) -> tuple[FloatArray, Tensor, int]:
    """Ritz pairs of a Krylov space, the largest in magnitude first.

    Args:
        operator: of size P.
        steps: m, at most P.
        seed: of the start.

    Returns:
        Ritz values (m,), orthonormal Ritz vectors (m, P), fewer where the space closes, and the
        products spent: one a step. Memory is 2 m + 4 vectors of P numbers.
    """
    krylov = KrylovDecomposition(operator, limit=steps)
    start = krylov.space.orthonormal_start(krylov.rows, Purpose.DEFLATION_START, seed=seed)
    assert start is not None
    krylov.inject(start)
    while not krylov.full and not krylov.closed:
        krylov.expand()
    theta, S, _ = krylov.ritz()
    order = np.argsort(-np.abs(theta))
    rotation = torch.from_numpy(np.ascontiguousarray(S[:, order].T))
    Y_mP = rotation.to(dtype=operator.dtype, device=operator.device) @ krylov.rows
    return theta[order], Y_mP, krylov.size


def planned(outlook: Outlook, ritz_values: FloatArray, *, done: float) -> DeflationPlan:
    """Choose how many Ritz vectors to take out, from what they promise.

    Args:
        outlook: of the pilot.
        ritz_values: shape (m,), the largest in magnitude first; their products are spent.
        done: passes that are made already and would be lost.

    Returns:
        The cheapest plan. What a direction takes from the terms is not known yet: at least
        theta^2 / B, which holds by convexity, and so much is counted on.
    """
    without = max(outlook.needed - done, 0.0)
    best = DeflationPlan(
        directions=0, shared=outlook.shared, predicted=without, without=without, sentence=""
    )
    for k, taken in enumerate(np.cumsum(ritz_values**2), start=1):
        passes, shared = outlook.passes(float(taken), float(taken) / outlook.terms)
        if k + passes < best.predicted:
            best = DeflationPlan(
                directions=k, shared=shared, predicted=k + passes, without=without, sentence=""
            )
    return _worded(best)


def confirmed(
    plan: DeflationPlan, outlook: Outlook, taken: float, taken_by_terms: float, *, done: float
) -> DeflationPlan:
    """The plan again, once fresh products have said what the directions take.

    Args:
        plan: which directions.
        outlook: of the pilot.
        taken: of |T|_F^2.
        taken_by_terms: of sum |T_b|_F^2.
        done: passes that are made already.

    Returns:
        The plan, or one of 0 directions where the promise did not hold.
    """
    without = max(outlook.needed - done, 0.0)
    passes, shared = outlook.passes(taken, taken_by_terms)
    pays = passes < without
    return _worded(
        DeflationPlan(
            directions=plan.directions if pays else 0,
            shared=shared if pays else outlook.shared,
            predicted=passes if pays else without,
            without=without,
            sentence="",
        )
    )


def _worded(plan: DeflationPlan) -> DeflationPlan:
    if plan.directions:
        sentence = (
            f"{plan.directions} Ritz vectors are taken out: about {plan.predicted:.0f} more "
            f"products with them, {plan.without:.0f} without."
        )
    else:
        sentence = (
            f"Nothing is deflated: Ritz vectors of a short Lanczos would not pay for themselves "
            f"in the {plan.without:.0f} products ahead."
        )
    return DeflationPlan(
        directions=plan.directions,
        shared=plan.shared,
        predicted=plan.predicted,
        without=plan.without,
        sentence=sentence,
    )
