"""What is proved of a Krylov solve's pairs: float64 products of the list, a probe of the rest.

Letters: k listed pairs, n rows held.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import numpy as np
import torch

from curvtool.algorithms.bounds import MISS
from curvtool.algorithms.certificate import COMBINATIONS, Certificate, Listed
from curvtool.algorithms.completeness import (
    FORECAST_AFTER,
    GIVEN_UP_AFTER,
    Held,
    chance_of_round,
    probe,
    stated,
    with_extras,
)
from curvtool.algorithms.elsewhere import noise_elsewhere, too_noisy
from curvtool.algorithms.exclusion import ends_of, listed_at
from curvtool.algorithms.judging import allowed_errors, products_of_certificate, resolvable
from curvtool.algorithms.krylov import KrylovDecomposition
from curvtool.algorithms.ritz import Indices
from curvtool.algorithms.settings import EigenSettings
from curvtool.operators.base import Counted
from curvtool.operators.recording import fingerprint
from curvtool.random_vectors.purposes import Purpose
from curvtool.results import Completeness, EndProof, FloatArray, unproved

# Rows that a restarted basis needs above the wanted pairs: the probe works in them.
SPARE_ROWS = GIVEN_UP_AFTER + 2
# What a clean probe may cost, and all of those that find missing values, as shares of the solve.
_CAP, _MORE_CAP = 0.5, 1.5


@final
class Prover:
    """Holds a decomposition's pairs against fresh products, and probes what they leave.

    Args:
        operator: as the solve multiplies by it.
        settings: what was asked.
        krylov: the solve's decomposition, which a probe's rows are added to where it saw something.

    Attributes:
        stages: products by what they were spent on.
        probes: made so far.
        found: values that these found missing.
        noise: of a product, relative to |H|, as far as it is known.
        limits: proved bounds of the outermost eigenvalues, see `bounds.value_errors`.
        lost: whether a probe saw something that it had no rows to keep.
    """

    def __init__(
        self, operator: Counted, settings: EigenSettings, krylov: KrylovDecomposition
    ) -> None:
        self.operator, self.settings, self.krylov = operator, settings, krylov
        self.reference = settings.reference or operator.inner
        self.stages = {"solve": 0, "certify": 0, "probe": 0}
        self.probes = self.found = 0
        self.noise = settings.noise
        self.limits: Mapping[bool, FloatArray] = {}
        self.lost = False
        self._elsewhere: float | None = None  # noise of a product where no listed vector looks

    @property
    def _begun_from(self) -> tuple[int, ...]:
        """Tells apart the probes of solves that begin from one another's vectors."""
        # What a neighbour's probe found may be in its vectors, and the same numbers must not come
        # again: a probe is to be independent of all that the solve knew.
        start = self.settings.start
        return () if start is None else (int(fingerprint(start), 16),)

    @property
    def spent(self) -> int:
        """Products so far, those in float64 included."""
        return self.operator.calls + self.stages["certify"]

    @property
    def most(self) -> int:
        """Products of the operator that leave enough for a certificate."""
        settings = self.settings
        aside = products_of_certificate(settings, min(settings.k, self.operator.size))
        return max(1, settings.max_hvps - self.stages["certify"] - aside)

    def hold(self, theta: FloatArray, S: FloatArray, order: Indices, largest: float) -> Held:
        """Shrink the basis to the list, in its order, and to what is worth deflating beside it.

        Args:
            theta: Ritz values.
            S: their primitive vectors in columns.
            order: places of the listed ones.
            largest: |H|.

        Returns:
            What is held now.
        """
        krylov, k = self.krylov, len(order)
        _, C = krylov.residual_basis()
        R = (C @ S).T
        theta_k = theta[order]
        asked = self._asked(theta_k, R[order], largest)
        most = max(k, krylov.limit - GIVEN_UP_AFTER)  # rows of a longer probe are not kept
        chosen = with_extras(theta, R, list(map(int, order)), asked, most)
        places = krylov.space.told(np.array([*chosen, *[-1] * (most - len(chosen))], dtype=float))
        places = places[places >= 0].astype(np.intp)
        krylov.restart(theta[places], S[:, places])
        _, C = krylov.residual_basis()
        return self._asked(theta[places], C.T, largest)

    def _asked(self, theta: FloatArray, R: FloatArray, largest: float) -> Held:
        settings = self.settings
        k = min(settings.k, len(theta))
        noise = max(self.noise * largest, self._elsewhere or 0.0) + settings.doubt
        return Held(
            rows=self.krylov.rows,
            theta=theta,
            R=R,
            k=k,
            which=settings.which,
            tol=settings.tol,
            largest=largest,
            noise=noise,
        )

    def certificate(self, held: Held) -> Certificate:
        """What products in float64 say of the list; combinations at once, since they tell delta."""
        k = held.k
        Q, C = self.krylov.residual_basis()
        certificate = Certificate(
            self.reference,
            Listed(
                V=held.rows[:k],
                S=np.eye(k),
                theta=held.theta[:k],
                Q=Q,
                Z=C[:, :k],
            ),
            tol=self.settings.tol,
            largest=held.largest,
            rounding=self.settings.noise,
            dtype=self.operator.dtype,
            seed=self.settings.seed,
        )
        certificate.hear(self.noise * held.largest)
        if not self.probes and not self.limits and not self.krylov.complete:
            left = self.settings.max_hvps - self.spent
            few = products_of_certificate(self.settings, k) == k
            if few and k <= left:
                certificate.multiply(np.ones(k, dtype=np.bool_))
            elif left >= 1:
                certificate.sketch(min(left, products_of_certificate(self.settings, k)))
            self.stages["certify"] += certificate.products
            self.noise = max(self.noise, certificate.noise)
        return certificate

    def prove(self, held: Held) -> Completeness | None:
        """Probe what the list may lack; None where something was seen, which the rows have now."""
        krylov, settings = self.krylov, self.settings
        if not settings.proves:
            return unproved("no probe was asked for")
        if krylov.rounded:
            return unproved("the basis is stored in bfloat16, whose rounding hides what it lacks")
        if self._measures_elsewhere and self.most - self.operator.calls < 2 * COMBINATIONS:
            return unproved("the products ran out before a probe could be made")
        problem = self.noise_problem(held)
        if problem:
            return unproved(problem)
        held = self._asked(held.theta, held.R, held.largest)  # with the noise that is known now
        solve, probed = self.stages["solve"], self.stages["probe"]
        room = self.most - self.operator.calls
        if room < 1:
            return unproved("the products ran out before a probe could be made")
        chance = chance_of_round(self.probes)
        start = krylov.space.orthonormal_start(
            held.rows, Purpose.COMPLETENESS, self.probes, *self._begun_from, seed=settings.seed
        )
        assert start is not None
        self.probes += 1
        cap = max(FORECAST_AFTER, int(np.ceil(_CAP * solve)))
        more = settings.complete or probed <= _MORE_CAP * solve
        found = probe(
            self.operator,
            held,
            start,
            krylov.basis[krylov.size :],
            chance=chance,
            cap=room if settings.complete else cap,
            most=room,
            finds=more,
        )
        self.stages["probe"] += found.products
        if found.seen and more and found.products < room:
            self.lost = not found.keeps_all
            self._elsewhere = None  # of another complement
            if found.keeps_all:
                krylov.adopt(found.columns, found.remainder)
            return None
        spent = self.stages["probe"]
        statement, self.limits = stated(
            held, found, self.operator.size, chance=chance, spent=spent, found=self.found
        )
        return statement

    @property
    def _measures_elsewhere(self) -> bool:
        """Whether its products are to be held against float64 where no listed vector looks."""
        own = self.operator.dtype == torch.float64 or self.settings.reference is None
        return not own and self._elsewhere is None

    def noise_problem(self, held: Held) -> str:
        """Why products are too far from float64 for a statement; empty where they are not."""
        if self._measures_elsewhere:
            before = self.operator.calls
            self._elsewhere = noise_elsewhere(
                self.operator,
                self.reference,
                held.rows,
                seed=self.settings.seed,
                first=self.probes * COMBINATIONS,
            )
            self.stages["certify"] += COMBINATIONS
            self.stages["probe"] += self.operator.calls - before
        return too_noisy(
            self._elsewhere or 0.0, held.theta[: held.k], self.settings.tol, held.largest
        )

    def spanned(self, held: Held) -> Completeness:
        """The statement of a list from rows that span the whole space: short by noise alone."""
        held = self._asked(held.theta, held.R, held.largest)
        theta_k = held.theta[: held.k]
        proofs = {}
        for upper in ends_of(held.which, held.k):
            listed = len(listed_at(theta_k, held.which, upper=upper))
            proofs[upper] = EndProof(
                listed=listed, proved_rank=listed, nothing_beyond=None, unseen=0.0
            )
        return Completeness(
            complete=True,
            probability=1 - MISS,
            upper=proofs.get(True),
            lower=proofs.get(False),
            margin=held.tol,
            least_margin=held.noise,
            products=self.stages["probe"],
        )

    def count_found(self, before: FloatArray, after: FloatArray, largest: float) -> None:
        """Count the values of the list that were not in it before."""
        after = np.sort(after)
        apart = allowed_errors(after, self.settings, largest)
        known = list(np.sort(before))
        for value, near in zip(after, apart, strict=True):
            match = next((x for x in known if abs(x - value) <= 2 * near), None)
            if match is None:
                self.found += 1
            else:
                known.remove(match)

    def is_sharp(self, certificate: Certificate) -> bool:
        """Whether more steps of the recurrence would bring no pair nearer to its tolerance."""
        return bool(resolvable(certificate, self.settings, self.limits).all())
