"""What the arithmetic adds to traces and norms: products held against float64 over the whole data.

With E the operator less its float64 reference, z Gaussian and drawn for this alone, and E_l the
rows of layer l,

    tr E_l = E[z_l'(E z)_l],      |E_l|_F^2 = E[|(E z)_l|^2].

So a few pairs of products correct a trace, and their lengths say how far the correction may be
off. What random probes say of a small sample they say of Gaussian ones alone: under signs, E with
two equal columns gives nothing at all in one case of two, whatever the factor.

Letters: P parameters, L layers, m samples, s^2 a chi-square of m degrees over m.

References:
    Gudmundsson, Kenney, Laub (1995), Gratton, Titley-Peloquin (2018), small-sample norms; Szekely,
    Bakirov (2003): of all sums of weighted chi-squares one alone has the heaviest lower tail.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import final

import numpy as np
import scipy.optimize
import scipy.stats
import torch
from torch import Tensor

from curvtool.algorithms.deflation import NOT_FINITE
from curvtool.algorithms.intervals import Estimated
from curvtool.algorithms.layers import Layer
from curvtool.algorithms.space import space_of
from curvtool.errors import CurvtoolError
from curvtool.operators.base import NoReference, SumOperator, SymmetricOperator
from curvtool.operators.recording import remembered
from curvtool.random_vectors.purposes import Purpose
from curvtool.results import FloatArray

# Of the error probability of an interval, the arithmetic takes so much; probes have the rest.
SHARE = 1 / 50
# Sizes that a sample may have when it is looked at; the last one is the end.
LOOKS = (1, 2, 4, 8, 16)
MOST_SAMPLES = LOOKS[-1]
# Roundings that differ from product to product are no matrix, and what they leave under the probes
# of an estimate is not what they leave under Gaussian ones: a random sign times their length.
ROUNDINGS = 3.0
# Two float64 products whose sums are made in another order differ by what is random in their
# roundings; what both have alike is taken to be so many times larger at most.
ORDERS = 10.0
# Roundings of float64 in a sum of products, of random sign: no value is known better.
FINEST = 16 * float(torch.finfo(torch.float64).eps)


@final
@dataclass(frozen=True, eq=False)
class Added:
    """What the arithmetic adds; arrays of shape (1 + L,), the whole first.

    Attributes:
        shift: to be added to traces.
        half: half-width around them.
        norm: most that it may add to, or take from, Frobenius norms.
        samples: m, over the whole data; 0 where the relative error of a product, as a few examples
            gave it, stands for all.
    """

    shift: FloatArray
    half: FloatArray
    norm: FloatArray
    samples: int


@final
class Arithmetic:
    """Products of an operator beside those of its float64 reference.

    Args:
        operator: whose products an estimate is made of.
        reference: the same in float64, for an operator in float64 with its sums in another order;
            None where there is none.
        layers: whose parts are wanted.
        delta: relative error of one product, where nothing better is known.
        seed: of the run.
        by_term: whether the estimate takes its products term by term, whose sum rounds otherwise.
        rows: whether the norm of every row of E is wanted: a vector of P numbers in float64.
    """

    def __init__(
        self,
        operator: SumOperator,
        reference: SymmetricOperator | None,
        *,
        layers: Sequence[Layer] = (),
        delta: float,
        seed: int,
        by_term: bool = False,
        rows: bool = False,
    ) -> None:
        self.operator = operator
        self.reference = reference
        self.layers = layers
        self.space = space_of(operator)
        self.by_term = by_term
        self._delta = delta
        self._seed = seed
        self._rows: list[FloatArray] = []
        self._squares_P: Tensor | None = None  # sum of the squares of E z, entry by entry
        if rows:
            self._squares_P = torch.zeros(
                self.space.local, dtype=torch.float64, device=operator.device
            )

    @property
    def count(self) -> int:
        """M."""
        return len(self._rows)

    @property
    def next_count(self) -> int:
        """The next size that a sample may have; 0 where there is none."""
        if self.reference is None or (self._alike and self.count):
            return 0
        return next((look for look in LOOKS if look > self.count), 0)

    @property
    def _alike(self) -> bool:
        """Whether the operator has float64 itself: no product is then nearer to the truth."""
        return self.operator.dtype == torch.float64

    def add(self) -> None:
        """One sample more: a product of the operator, and one of the reference.

        Where memory does not hold the latter there are no further ones.

        Raises:
            CurvtoolError: when a product is not finite.
        """
        i = self.count
        key = f"float64 {i} {'by term' if self.by_term else 'whole'}"
        made = partial(self._sample, i)
        try:
            row, *entries = remembered(self.operator, key, made, whole=True)
        except NoReference:
            self.reference = None
            return
        if not np.isfinite(row).all():
            raise CurvtoolError(NOT_FINITE)
        self._rows.append(row)
        for squares in entries:
            assert self._squares_P is not None
            self._squares_P += torch.from_numpy(squares).to(self._squares_P.device)

    def _apart(self, i: int) -> tuple[Tensor, Tensor, Tensor]:
        """Probe, E z and the reference's product, in float64."""
        op = self.operator
        assert self.reference is not None
        z_P = self.space.normal(Purpose.ARITHMETIC, i, seed=self._seed)
        if self.by_term:
            Az_P = z_P.double() * op.shift
            for b in range(op.num_terms):
                Az_P += op.term(b, z_P)
        else:
            Az_P = op.matvec(z_P).double()
        exact_P = self.reference.matvec(z_P.double())
        return z_P.double(), exact_P - Az_P, exact_P

    def _sample(self, i: int) -> list[FloatArray]:
        z_P, Ez_P, exact_P = self._apart(i)
        space = self.space
        parts = [
            space.inner_products(z_P[None], Ez_P),
            space.layer_sums(z_P * Ez_P, self.layers),
            space.inner_products(Ez_P[None], Ez_P),
            space.layer_sums(Ez_P * Ez_P, self.layers),
            space.inner_products(exact_P[None], exact_P),
        ]
        entries = [] if self._squares_P is None else [Ez_P.square().cpu().numpy()]
        return [np.asarray(torch.cat(parts).cpu().numpy()), *entries]

    @property
    def delta(self) -> float:
        """Relative error of one product: as it was given, or larger where the whole data say so."""
        if not self.count:
            return self._delta
        rows, n = np.array(self._rows), 1 + len(self.layers)
        whole = float(rows[:, -1].mean())
        measured = math.sqrt(float(rows[:, n].mean()) / whole) if whole > 0 else 0.0
        return max(self._delta, ORDERS * measured if self._alike else measured)

    def rows(self, confidence: float, lengths_P: Tensor) -> Tensor:
        """Most that each entry of the diagonal may be off, for one entry by itself.

        Args:
            confidence: of the interval that this is a part of.
            lengths_P: norms of the operator's rows, of this process's share.

        Returns:
            A bound of the norms of the rows of E, which have the diagonal's errors in them.
        """
        if not self.count or self._alike or self._squares_P is None:
            # The error of a product may lie in any row.
            mean = self.space.exact_products(lengths_P[None], lengths_P) / self.operator.size
            at_least = mean.sqrt().to(lengths_P)
            return ROUNDINGS * self.delta * torch.maximum(lengths_P, at_least)
        factor = norm_factor(self.count, self.miss(confidence))
        return factor * (self._squares_P / self.count).sqrt()

    def narrower(self, confidence: float) -> float:
        """Factor of the half-width that samples of the next size would leave; 1 before any."""
        if not self.count:
            return 1.0
        now, then = (
            trace_factor(m, self.miss(confidence)) + ROUNDINGS
            for m in (self.count, self.next_count)
        )
        return then / now

    @staticmethod
    def miss(confidence: float) -> float:
        """The probability with which a look may fail beside an interval of that confidence."""
        return (1 - confidence) * SHARE / len(LOOKS)

    def added(
        self, confidence: float, traces: FloatArray, length: float, directions: float = 0.0
    ) -> Added:
        """What the arithmetic adds to an estimate.

        Args:
            confidence: of the estimate's interval.
            traces: shape (1 + L,), the estimate.
            length: root of the mean of |A z|^2 under its probes.
            directions: sum of |A q| over directions whose products were made one by one.

        Returns:
            It, with a probability of failure of `SHARE` of the interval's for each figure, however
            often it is looked at.
        """
        finest = FINEST * (np.abs(traces) + ROUNDINGS * length + directions)
        if not self.count or self._alike:
            # All rows may have the whole's error, and all of it in one direction.
            lengths = np.full_like(traces, ROUNDINGS * self.delta * length)
            half = self.delta * (np.abs(traces) + directions) + lengths
            return Added(np.zeros_like(traces), half + finest, lengths, self.count)
        rows, n = np.array(self._rows), len(traces)
        sizes = np.sqrt(rows[:, n : 2 * n].mean(axis=0))
        miss = self.miss(confidence)
        along = rows[:, -1].mean()
        of_directions = sizes * (directions / math.sqrt(along) if along > 0 else 0.0)
        half = (trace_factor(self.count, miss) + ROUNDINGS) * sizes + of_directions
        return Added(
            rows[:, :n].mean(axis=0),
            half + finest,
            norm_factor(self.count, miss) * sizes + FINEST * length,
            self.count,
        )


def left_to_probes(confidence: float) -> float:
    """The confidence that probes must have beside the arithmetic's share."""
    return 1 - (1 - confidence) * (1 - SHARE)


def trace_ends(
    estimated: Estimated, added: Added, confidence: float, *, layers: bool = False
) -> tuple[FloatArray, FloatArray]:
    """Low and high ends of a trace, or of those of layers, with the arithmetic in them.

    Args:
        estimated: what the probes say.
        added: what the arithmetic adds.
        confidence: of the two together.
        layers: whether these are the layers'; else the whole's.

    Returns:
        Two arrays of the estimates' shape; NaN for a single pass.
    """
    part = slice(1, None) if layers else 0
    low, high = estimated.interval(left_to_probes(confidence))
    shift, half = added.shift[part], added.half[part]
    return np.asarray(low + shift - half), np.asarray(high + shift + half)


def norm_ends(squared: Estimated, added: Added, confidence: float) -> FloatArray:
    """Ends of squared Frobenius norms, which the arithmetic moves by at most |E|_F before squaring.

    Args:
        squared: of shape (1 + L,).
        added: what the arithmetic adds.
        confidence: of the two together.

    Returns:
        Shape (1 + L, 2).
    """
    low, high = squared.interval(left_to_probes(confidence))
    roots = [np.sqrt(np.maximum(end, 0.0)) for end in (low, high)]
    least = np.maximum(roots[0] - added.norm, 0.0) ** 2
    return np.stack([least, (roots[1] + added.norm) ** 2], axis=1)


def floor_sentence(dtype: torch.dtype, half: float) -> str:
    """Say that the arithmetic has no more digits."""
    name = str(dtype).removeprefix("torch.")
    way_out = "" if dtype == torch.float64 else ": --dtype float64 goes on"
    return f"The arithmetic of {name} alone leaves +-{half:.2g} open, more than was asked{way_out}."


def norm_factor(samples: int, miss: float) -> float:
    """F with P(f rms |E z| < |E|_F) <= miss for every fixed E: rank one is the worst."""
    return math.sqrt(samples / float(scipy.stats.chi2.ppf(miss, samples)))


def trace_factor(samples: int, miss: float) -> float:
    """C with P(|mean z'Ez - tr E| > c rms |E z|) = miss for E of rank one, |s^2 - 1| / s.

    Args:
        samples: m.
        miss: in (0, 1).

    Returns:
        The factor. Of 60 families of weights, of both signs and up to 100 in number, and of
        matrices of rank one that are not symmetric, none had a heavier tail at 1 to 16 samples;
        there is no proof.
    """

    def excess(c: float) -> float:
        root = math.hypot(c, 2.0)
        # Roots of s^2 - 1 = +-c s: their product is 1, and the small one must not cancel.
        high = (root + c) / 2
        low = 1 / high
        tails = scipy.stats.chi2.cdf(samples * low**2, samples) + scipy.stats.chi2.sf(
            samples * high**2, samples
        )
        return float(tails) - miss

    # Beyond the norm's factor, 1 / s at the same probability, the lower tail alone is less.
    return float(scipy.optimize.brentq(excess, 1e-8, 2 * norm_factor(samples, miss) + 10.0))
