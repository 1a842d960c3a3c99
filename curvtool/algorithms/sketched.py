"""Traces of matrices with few large eigenvalues: Hutch++ and XTrace, grown as they are needed.

Both take the range of some products out exactly and sample what is left. With Q orthonormal rows,
M = Q A Q', and for a probe z the numbers c = Qz and d = (AQ')'z, symmetry gives

    z'(I - Q'Q) A (I - Q'Q) z = z'Az - 2 c'd + c'Mc,

so that a probe's old product serves again whenever Q grows, and nothing but z'Az is kept of it.

Letters: P size, k rows of Q, n probes.

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

from curvtool.algorithms.deflation import NOT_FINITE
from curvtool.algorithms.estimation import EstimateProgress, Report, TraceSettings, silent
from curvtool.algorithms.intervals import student_quantile
from curvtool.algorithms.space import space_of
from curvtool.errors import CurvtoolError
from curvtool.operators.base import BudgetExhausted, SymmetricOperator
from curvtool.operators.recording import remembered
from curvtool.random_vectors.purposes import Purpose
from curvtool.results import FloatArray, Outcome, TraceEstimate

FIRST_ROWS = 4
GROWTH = 1.5


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
        self.Q = self.space.empty(self.limit)
        self.AQ = torch.empty_like(self.Q)
        self.k = 0
        self.M = np.zeros((self.limit, self.limit))
        self.R = np.zeros((self.limit, self.limit))  # columns: a probe's product in rows of Q
        self.captured = False  # the rows span the whole range: nothing is left to sample
        self.quadratic: list[float] = []  # z'Az
        self.c: list[FloatArray] = []
        self.d: list[FloatArray] = []
        self.spent = 0
        self.ratio = math.inf
        self.settled = (math.nan, math.nan, np.zeros(0))

    def run(self) -> TraceEstimate:
        s = self.settings
        outcome = Outcome.CONVERGED if s.rel_err is None and s.abs_err is None else None
        try:
            rows = self._affordable(math.inf if outcome else FIRST_ROWS)
            while True:
                self._grow(rows)
                self._look()
                if self.ratio <= 1:
                    outcome = Outcome.CONVERGED
                    break
                larger = self._affordable(math.ceil(GROWTH * rows))
                if self.captured or larger <= rows:
                    break
                rows = larger
            while self.method == "hutch++" and self.ratio > 1 and not self.captured:
                self._sample(math.ceil(1.25 * len(self.quadratic)))
                self._look()
        except BudgetExhausted:
            self._look()
        if self.ratio <= 1 or self.captured:
            outcome = Outcome.CONVERGED
        return self._result(outcome or Outcome.MAX_HVPS)

    def _affordable(self, rows: float) -> int:
        """At most so many rows: what memory and the products left allow."""
        more = (self.settings.max_hvps - self.spent) // self.price
        return int(min(rows, self.limit, self.k + more))

    def _product(self, v_P: Tensor) -> Tensor:
        self._require_product()
        Av_P = self.operator.matvec(v_P)
        self._spend()
        return Av_P

    def _require_product(self) -> None:
        if self.spent >= self.settings.max_hvps:
            raise BudgetExhausted

    def _spend(self) -> None:
        self.spent += 1
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
        self.captured = self.captured or self.k == self.operator.size
        if self.method == "hutch++" and not self.captured:
            self._sample(rows)

    def _row(self) -> None:
        """One more row of the range: two products."""
        k = self.k
        z_P = self._probe(Purpose.SKETCH, k)
        y_P = self._product(z_P)
        length = float(self.space.norm(y_P))
        if not math.isfinite(length):
            raise CurvtoolError(NOT_FINITE)
        rest_P, components = self.space.orthogonalized(self.Q[:k], y_P)
        remainder = float(self.space.norm(rest_P))
        # What is left is then the rounding of the product and of two Gram-Schmidt passes.
        if remainder <= 100 * torch.finfo(y_P.dtype).eps * length:
            self.captured = True
            return
        q_P, _ = self.space.orthogonalized(self.Q[:k], rest_P / remainder)
        self.Q[k] = q_P / self.space.norm(q_P).to(q_P.dtype)
        self.AQ[k] = self._product(self.Q[k])
        column = self.space.inner_products(self.Q[: k + 1], self.AQ[k]).cpu().numpy()
        if not np.isfinite(column).all():
            raise CurvtoolError(NOT_FINITE)
        self.M[: k + 1, k] = self.M[k, : k + 1] = column
        self.R[:k, k] = components.cpu().numpy()
        self.R[k, k] = remainder
        if self.method == "xtrace":
            self._keep(float(self.space.inner_products(z_P[None], y_P)[0]))
        self.k = k + 1

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

    def _sampled(self, i: int) -> list[FloatArray]:
        z_P = self._probe(Purpose.SKETCH_SAMPLE, i)
        return [self.space.inner_products(z_P[None], self.operator.matvec(z_P)).cpu().numpy()]

    def _coordinates(self) -> tuple[FloatArray, FloatArray]:
        """C = QZ and D = (AQ')'Z in rows of probes, shape (n, k); only new entries are computed."""
        k = self.k
        purpose = Purpose.SKETCH_SAMPLE if self.method == "hutch++" else Purpose.SKETCH
        for i, known in enumerate(self.c):
            have = len(known)
            if have < k:
                z_P = self._probe(purpose, i)
                new_c = self.space.inner_products(self.Q[have:k], z_P).cpu().numpy()
                new_d = self.space.inner_products(self.AQ[have:k], z_P).cpu().numpy()
                self.c[i] = np.concatenate([known, new_c])
                self.d[i] = np.concatenate([self.d[i], new_d])
        return np.array(self.c).reshape(-1, k), np.array(self.d).reshape(-1, k)

    def _estimates(self) -> FloatArray:
        """Shape (n,): one estimate of the trace from each probe."""
        M = self.M[: self.k, : self.k]
        taken = float(np.trace(M))
        if self.captured:
            return np.array([taken])
        c, d = self._coordinates()
        exact = np.full(len(c), taken)
        if self.method == "xtrace":
            # Without probe i the range loses the direction s_i, a normalized column of R^-T.
            S = np.linalg.inv(self.R[: self.k, : self.k])
            S /= np.linalg.norm(S, axis=1, keepdims=True)
            exact -= np.einsum("nk,kl,nl->n", S, M, S)
            c = c - S * np.einsum("nk,nk->n", S, c)[:, None]
        sampled = np.array(self.quadratic) - 2 * np.einsum("nk,nk->n", c, d)
        return np.asarray(exact + sampled + np.einsum("nk,kl,nl->n", c, M, c))

    def _look(self) -> None:
        estimates = self._estimates() if self.quadratic or self.captured else np.zeros(0)
        n = len(estimates)
        if not n:
            return
        stderr = 0.0 if self.captured else math.nan
        if n > 1:
            stderr = float(estimates.std(ddof=1)) / math.sqrt(n)
        self.settled = (float(estimates.mean()), stderr, estimates)
        half = self._half()
        allowed = self.settings.allowed(self.settled[0])
        if math.isfinite(half) and (allowed > 0 or half == 0):
            self.ratio = half / allowed if allowed > 0 else 0.0

    def _half(self) -> float:
        _, stderr, estimates = self.settled
        if self.captured:
            return 0.0
        level = (1 + self.settings.confidence) / 2
        return stderr * float(student_quantile(float(max(1, len(estimates) - 1)), level))

    def _result(self, outcome: Outcome) -> TraceEstimate:
        s = self.settings
        trace, stderr, estimates = self.settled
        half = self._half()
        reason = (
            f"{self.k} directions are taken out, {2 * self.limit} vectors of P numbers may be held "
            "for them; the error is an estimate, not an interval with coverage."
        )
        if self.captured:
            reason = f"{self.k} directions span the whole range: the trace is exact to rounding."
        elif outcome is Outcome.MAX_HVPS and self.spent + self.price <= s.max_hvps:
            reason += " The room for vectors is full."
        return TraceEstimate(
            trace=trace,
            stderr=stderr,
            interval=(trace - half, trace + half),
            confidence=s.confidence,
            is_interval=False,
            degrees_of_freedom=math.inf if self.captured else float(len(estimates) - 1),
            rel_err=s.rel_err,
            abs_err=s.abs_err,
            method=self.method,
            probes=s.probes,
            sharing="shared",
            samples=estimates[:, None],
            batch_weight=np.ones(1),
            outcome=outcome,
            hvps=self.spent,
            hvps_by_stage={"pilot": 0, "deflate": 0, "probe": self.spent},
            seconds=time.perf_counter() - self.began,
            noise=s.noise,
            deflated=self.k,
            deflated_trace=float(np.trace(self.M[: self.k, : self.k])),
            reason=reason,
        )
