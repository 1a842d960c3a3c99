"""Traces of matrices with few large eigenvalues: Hutch++ and XTrace, grown as they are needed.

Both take the range of some products out exactly and sample what is left: see `captured`.

Letters: P size, k rows of the range, n probes.

References:
    Meyer, Musco, Musco, Woodruff (2021), Hutch++; Epperly, Tropp, Webber (2024), XTrace.
"""

from __future__ import annotations

import math
import time
from functools import partial
from typing import Literal, final

import numpy as np
import torch
from torch import Tensor

from curvtool.algorithms.arithmetic import Added, Arithmetic, floor_sentence, left_to_probes
from curvtool.algorithms.captured import CapturedRange
from curvtool.algorithms.deflation import NOT_FINITE
from curvtool.algorithms.estimation import EstimateProgress, Report, TraceSettings, silent
from curvtool.algorithms.intervals import student_quantile
from curvtool.algorithms.space import space_of
from curvtool.algorithms.terms import as_sum
from curvtool.errors import CurvtoolError
from curvtool.operators.base import BudgetExhausted, SymmetricOperator
from curvtool.operators.recording import remembered
from curvtool.random_vectors.purposes import Purpose
from curvtool.results import FloatArray, Outcome, TraceEstimate

FIRST_ROWS = 4
GROWTH = 1.5
# Of what a captured range leaves, which is rounding or as small: its scatter must be seen.
LEAST_SAMPLED = 4
# Of an interval that is left to the probes, the arithmetic may take so much and is let be.
UNNOTICED = 0.1


def hutch_plus_plus(
    operator: SymmetricOperator, settings: TraceSettings, *, report: Report = silent
) -> TraceEstimate:
    """A third of the products finds a range, a third takes it out, a third samples the rest.

    Args:
        operator: symmetric, of size P.
        settings: what is asked; `most_vectors` bounds what is stored: two vectors for each row
            of the range. Where it is full, only probes are added.
        report: told of every product.

    Returns:
        The trace with an estimate of its error: the t interval of the sampled part, whose
        coverage is not known.

    Raises:
        ValueError: for layers or the Frobenius norm, fewer than 3 products, or room for less than
            2 vectors.
        CurvtoolError: when a product is not finite.
    """
    return _Sketch(operator, settings, report, "hutch++").run()


def xtrace(
    operator: SymmetricOperator, settings: TraceSettings, *, report: Report = silent
) -> TraceEstimate:
    """Every probe serves the range of the others and samples what they leave.

    Args:
        operator: symmetric, of size P.
        settings: what is asked; `most_vectors` bounds what is stored: two vectors a probe, and
            where it is full the run ends.
        report: told of every product.

    Returns:
        The trace with an estimate of its error: the t interval of the n estimates as if they
        were independent, which they are not quite.

    Raises:
        ValueError: for layers or the Frobenius norm, fewer than 4 products, or room for less than
            4 vectors.
        CurvtoolError: when a product is not finite.
    """
    return _Sketch(operator, settings, report, "xtrace").run()


@final
class _Sketch:
    def __init__(
        self,
        operator: SymmetricOperator,
        settings: TraceSettings,
        report: Report,
        method: Literal["hutch++", "xtrace"],
    ) -> None:
        fewest = 1 if method == "hutch++" else 2
        price = 3 if method == "hutch++" else 2
        if settings.layers or settings.frobenius:
            raise ValueError(f"{method} gives the trace alone; ask hutchinson for the rest.")
        if settings.max_hvps < price * fewest:
            raise ValueError(
                f"{method} needs max_hvps >= {price * fewest}, got {settings.max_hvps}."
            )
        if settings.most_vectors < 2 * fewest:
            raise ValueError(
                f"{method} needs room for {2 * fewest} vectors, got {settings.most_vectors}."
            )
        self.began = time.perf_counter()
        self.operator = operator
        self.settings = settings
        self.report = report
        self.method = method
        self.price = price
        self.limit = min(operator.size, settings.most_vectors // 2)
        self.space = space_of(operator)
        self.range = CapturedRange(self.space, self.limit)
        # The rows span the range as far as the arithmetic sees it. What they leave is sampled.
        self.captured = False
        self.quadratic: list[float] = []  # z'Az
        self.c: list[FloatArray] = []
        self.d: list[FloatArray] = []
        self.spent = 0
        self.ratio = math.inf
        self.settled = (math.nan, math.nan, np.zeros(0))
        self.arithmetic = Arithmetic(
            as_sum(operator), settings.reference, delta=settings.noise, seed=settings.seed
        )
        self.kept_back = 2 * bool(settings.reference) * (settings.max_hvps >= 3 * price)
        self.squares: list[float] = []  # |Az|^2 of every probe
        self.room = math.inf  # of the half-width that is allowed, what the probes may use

    @property
    def k(self) -> int:
        """Rows of the range."""
        return self.range.k

    def run(self) -> TraceEstimate:
        s = self.settings
        outcome = Outcome.CONVERGED if s.rel_err is None and s.abs_err is None else None
        try:
            rows = self._affordable(math.inf if outcome else FIRST_ROWS)
            while True:
                self._grow(rows)
                self._compare()
                self._look()
                if self.ratio <= 1:
                    outcome = Outcome.CONVERGED
                    break
                larger = self._affordable(math.ceil(GROWTH * rows))
                if self.captured or larger <= rows:
                    break
                rows = larger
            while self._samples_on and self.ratio > 1:
                self._sample(math.ceil(1.25 * len(self.quadratic)))
                self._look()
                if self._compare():
                    self._look()
                elif self.room <= 0 and outcome is None:
                    outcome = Outcome.FLOOR
                    break
        except BudgetExhausted:
            self._look()
        if self.ratio <= 1:
            outcome = Outcome.CONVERGED
        return self._result(outcome or Outcome.MAX_HVPS)

    @property
    def _samples_on(self) -> bool:
        """Whether probes are added where no row is any more."""
        return self.method == "hutch++" or self.captured

    def _affordable(self, rows: float) -> int:
        """At most so many rows: what memory and the products left allow."""
        more = self._left // self.price
        return int(min(rows, self.limit, self.k + more))

    @property
    def _left(self) -> int:
        return self.settings.max_hvps - self.kept_back - self.spent

    def _product(self, v_P: Tensor) -> Tensor:
        self._require_product()
        Av_P = self.operator.matvec(v_P)
        self._spend()
        return Av_P

    def _require_product(self) -> None:
        if self._left < 1:
            raise BudgetExhausted

    def _compare(self) -> bool:
        """Hold products against float64 where what the arithmetic leaves open is much of it.

        Returns:
            Whether there are more than before.
        """
        then = self.arithmetic.next_count
        pairs = then - self.arithmetic.count
        half = float(self._added().half[0])
        probes = self._half_of_probes()
        enough = half <= UNNOTICED * max(self.settings.allowed(self.settled[0]), probes)
        if not then or (self.arithmetic.count and enough):
            return False
        self.kept_back = 0
        if 2 * pairs > self._left:
            return False
        for _ in range(pairs):
            if self.arithmetic.next_count:
                self.arithmetic.add()
                self._spend(2)
        return True

    def _spend(self, products: int = 1) -> None:
        self.spent += products
        self.report(
            EstimateProgress(
                stage="probe",
                hvps=self.spent,
                max_hvps=self.settings.max_hvps,
                ratio=self.ratio,
            )
        )

    def _probe(self, purpose: Purpose, i: int) -> Tensor:
        return self.space.probe(self.settings.probes, purpose, i, seed=self.settings.seed)

    def _grow(self, rows: int) -> None:
        """Sketch until the range has so many rows, then sample as often."""
        while self.k < rows and not self.captured:
            self._row()
        if self.spans_all:
            return
        if self.captured and self.method == "xtrace":
            # Estimates that leave one row out each say nothing of what all rows leave.
            self.quadratic, self.c, self.d = [], [], []
        if self._samples_on:
            self._sample(LEAST_SAMPLED if self.captured else rows)

    @property
    def spans_all(self) -> bool:
        """Whether the rows are a basis of the whole space."""
        return self.k == self.operator.size

    def _row(self) -> None:
        """One more row of the range: two products."""
        z_P = self._probe(Purpose.SKETCH, self.k)
        y_P = self._product(z_P)
        length = float(self.space.norm(y_P))
        if not math.isfinite(length):
            raise CurvtoolError(NOT_FINITE)
        self.squares.append(length**2)
        if not self.range.next_row(y_P, length):
            self.captured = True
            return
        if not self.range.keep(self._product(self.range.Q[self.k])):
            raise CurvtoolError(NOT_FINITE)
        if self.method == "xtrace":
            self._keep(float(self.space.exact_products(z_P[None], y_P)[0]))

    def _keep(self, value: float) -> None:
        if not math.isfinite(value):
            raise CurvtoolError(NOT_FINITE)
        self.quadratic.append(value)
        self.c.append(np.zeros(0))
        self.d.append(np.zeros(0))

    def _sample(self, count: int) -> None:
        while len(self.quadratic) < count:
            self._require_product()
            i = len(self.quadratic)
            sampled = partial(self._sampled, i)
            (found,) = remembered(self.operator, f"sampled {i}", sampled, whole=True)
            self._spend()
            self._keep(float(found[0]))
            self.squares.append(float(found[1]))

    def _sampled(self, i: int) -> list[FloatArray]:
        """Numbers z'Az and |Az|^2."""
        z_P = self._probe(Purpose.SKETCH_SAMPLE, i)
        Az_P = self.operator.matvec(z_P)
        rows = torch.stack([z_P, Az_P])
        return [self.space.exact_products(rows, Az_P).cpu().numpy()]

    def _coordinates(self) -> tuple[FloatArray, FloatArray]:
        """C = QZ and D = (AQ')'Z in rows of probes, shape (n, k); only new entries are computed."""
        k = self.k
        purpose = Purpose.SKETCH_SAMPLE if self._samples_on else Purpose.SKETCH
        for i, known in enumerate(self.c):
            have = len(known)
            if have < k:
                new_c, new_d = self.range.coordinates(self._probe(purpose, i), have)
                self.c[i] = np.concatenate([known, new_c])
                self.d[i] = np.concatenate([self.d[i], new_d])
        return np.array(self.c).reshape(len(self.c), k), np.array(self.d).reshape(len(self.d), k)

    def _estimates(self) -> FloatArray:
        """Shape (n,): one estimate of the trace from each probe."""
        if self.spans_all:
            return np.array([self.range.trace])
        c, d = self._coordinates()
        quadratic = np.array(self.quadratic)
        return self.range.estimates(quadratic, c, d, leave_out=not self._samples_on)

    def _look(self) -> None:
        estimates = self._estimates() if self.quadratic or self.spans_all else np.zeros(0)
        n = len(estimates)
        if not n:
            return
        stderr = 0.0 if self.spans_all else math.nan
        if n > 1:
            stderr = float(estimates.std(ddof=1)) / math.sqrt(n)
        self.settled = (float(estimates.mean()), stderr, estimates)
        added, half = self._added(), self._half_of_probes()
        allowed = self.settings.allowed(self.settled[0] + float(added.shift[0]))
        self.room = allowed - float(added.half[0])
        self.ratio = math.inf
        if math.isfinite(half) and self.room > 0:
            self.ratio = half / self.room
        elif half == self.room == 0:
            self.ratio = 0.0

    def _half_of_probes(self) -> float:
        _, stderr, estimates = self.settled
        if self.spans_all:
            return 0.0
        level = (1 + left_to_probes(self.settings.confidence)) / 2
        return stderr * float(student_quantile(float(max(1, len(estimates) - 1)), level))

    def _added(self) -> Added:
        """What the arithmetic adds."""
        return self.arithmetic.added(
            self.settings.confidence,
            np.array([self.settled[0]]),
            math.sqrt(float(np.mean(self.squares))) if self.squares else 0.0,
            directions=math.sqrt(self.k * self.range.squares),
        )

    def _result(self, outcome: Outcome) -> TraceEstimate:
        s = self.settings
        trace, stderr, estimates = self.settled
        added = self._added()
        trace, arithmetic = trace + float(added.shift[0]), float(added.half[0])
        half = self._half_of_probes() + arithmetic
        reason = (
            f"{self.k} directions are taken out, {2 * self.limit} vectors of P numbers may be held "
            "for them; the error is an estimate, not an interval with coverage."
        )
        if self.captured:
            reason = f"{self.k} directions span the range as far as the arithmetic sees it."
        elif outcome is Outcome.MAX_HVPS and self.spent + self.price <= s.max_hvps:
            reason += " The room for vectors is full."
        if outcome is Outcome.FLOOR:
            reason += f" {floor_sentence(self.operator.dtype, arithmetic)}"
        compared = 2 * self.arithmetic.count
        return TraceEstimate(
            trace=trace,
            stderr=stderr,
            interval=(trace - half, trace + half),
            confidence=s.confidence,
            is_interval=False,
            degrees_of_freedom=math.inf if self.spans_all else float(len(estimates) - 1),
            rel_err=s.rel_err,
            abs_err=s.abs_err,
            method=self.method,
            probes=s.probes,
            sharing="shared",
            samples=estimates[:, None],
            batch_weight=np.ones(1),
            outcome=outcome,
            hvps=self.spent,
            hvps_by_stage={
                "pilot": 0,
                "deflate": 0,
                "probe": self.spent - compared,
                "float64": compared,
            },
            seconds=time.perf_counter() - self.began,
            noise=self.arithmetic.delta,
            float64_samples=added.samples,
            correction=float(added.shift[0]),
            arithmetic=arithmetic,
            deflated=self.k,
            deflated_trace=self.range.trace,
            reason=reason,
        )
