"""The trace by random probes, to an accuracy that is asked for, with an interval that covers.

Letters: P parameters, R passes, B terms, L layers.
"""

from __future__ import annotations

import math
import time
from typing import final

from torch import Tensor

from curvtool.algorithms.arithmetic import Arithmetic, floor_sentence
from curvtool.algorithms.deflation import Deflation, deflated, nothing_deflated
from curvtool.algorithms.estimation import EstimateProgress, Report, TraceSettings, silent
from curvtool.algorithms.exact import exact_trace
from curvtool.algorithms.layers import require_inside
from curvtool.algorithms.planning import (
    DeflationPlan,
    Outlook,
    choice_of_sharing,
    confirmed,
    planned,
    short_lanczos,
    steps_worth_trying,
)
from curvtool.algorithms.sampled import SampledTrace
from curvtool.algorithms.sampling import Passes
from curvtool.algorithms.terms import as_sum
from curvtool.operators.base import BudgetExhausted, SymmetricOperator
from curvtool.results import Outcome, TraceEstimate

# Degrees of freedom below which no look is taken: a variance known worse than by a quarter lets a
# run stop by luck, and the interval then misses too often.
LEAST_DEGREES = 30.0
# Passes in which one batch's probes all have the same sign with probability 2^-7.
LEAST_PASSES = 8
# Each look is at least so many times as many passes as the last one, for every look is a chance to
# stop on a variance that came out small.
SPACING = 1.25
# No look plans further ahead than this: the variance it plans with is known to a quarter only.
FARTHEST = 4.0
# Shared passes that |H|_F^2 takes at least: |Hz|^2 is skewed.
LEAST_SHARED = 16
# A product and its like in float64, in products: float64 takes about twice as long on a CPU.
PRICE = 3.0
# Of an interval that is left to the probes, the arithmetic may take so much and is let be.
UNNOTICED = 0.1
# A budget that leaves less to the probes keeps nothing for float64.
LEAST_BUDGET = 8


def hutchinson(
    operator: SymmetricOperator,
    settings: TraceSettings,
    *,
    vectors: Tensor | None = None,
    report: Report = silent,
) -> TraceEstimate:
    """The trace with a standard error and an interval, and what comes from the same products.

    A first pass with a shared probe, made term by term, says which kind of probe is cheaper. Then
    passes are made until 30 degrees of freedom, and on to looks at least 25 % apart, until half
    the interval's width is what was asked for. The interval is Student's t with Satterthwaite's
    degrees of freedom, skewness removed, and wider where the variance may be small by luck. A few
    products beside float64 move it to the trace of the reference, and add what they leave open:
    more of them where that is cheaper than passes.

    Args:
        operator: symmetric, of size P; with terms (`SumOperator`) each can have its own probe.
        settings: what is asked.
        vectors: shape (k, P), directions to take out exactly, for k products; None lets a short
            Lanczos of its own do so where it pays, if the settings allow that.
        report: told of every pass.

    Returns:
        The estimate. An unfinished pass is dropped; from a single one there is no interval (NaN).
        Memory is 5 vectors of P numbers and the deflated directions, twice while a Lanczos runs.

    Raises:
        ValueError: for layers outside the vector, or more directions than products.
        BudgetExhausted: when the operator refuses a product before the first pass is done.
        CurvtoolError: when a product is not finite.

    References:
        Hutchinson (1990); Girard (1989); Satterthwaite (1946); Hall (1992); Gambhir, Stathopoulos,
        Orginos (2017) for deflation.
    """
    require_inside(settings.layers, operator.size)
    if operator.size == 1:
        return exact_trace(operator, settings, report=report)
    if vectors is not None and len(vectors) >= settings.max_hvps:
        raise ValueError(
            f"hutchinson spends a product on each of {len(vectors)} directions, and max_hvps is "
            f"{settings.max_hvps}; hand in fewer directions."
        )
    return _Solve(operator, settings, vectors, report).run()


class _OutOfProducts(Exception):
    """Nothing may be spent any more."""


@final
class _Solve:
    """One run: its passes of both kinds, and what has been spent."""

    def __init__(
        self,
        operator: SymmetricOperator,
        settings: TraceSettings,
        vectors: Tensor | None,
        report: Report,
    ) -> None:
        self.operator = as_sum(operator)
        self.settings = settings
        self.vectors = vectors
        self.report = report
        self.began = time.perf_counter()
        self.stages = {"pilot": 0, "deflate": 0, "probe": 0, "float64": 0}
        self.stage = "pilot"
        self.ratio = math.inf
        self.room = math.inf  # of the half-width that is allowed, what the probes may use
        self.reasons: list[str] = []
        self.arithmetic = Arithmetic(
            self.operator,
            settings.reference,
            layers=settings.layers,
            delta=settings.noise,
            seed=settings.seed,
        )
        self.kept_back = 2 * bool(settings.reference) * (settings.max_hvps >= LEAST_BUDGET)
        self.deflation: Deflation = nothing_deflated(self.operator, settings.layers)
        self.sharing_is_shared = settings.sharing == "shared" or self.operator.num_terms == 1
        self.shared: Passes
        self.single: Passes
        self._start(0)

    @property
    def spent(self) -> int:
        return sum(self.stages.values())

    @property
    def passes(self) -> Passes:
        """Those that the trace comes from."""
        return self.shared if self.sharing_is_shared else self.single

    @property
    def found(self) -> SampledTrace:
        """What all this says so far."""
        return SampledTrace(self.passes, self.arithmetic, self.settings)

    def run(self) -> TraceEstimate:
        outcome = Outcome.MAX_HVPS
        try:
            if self.vectors is not None:
                self._deflate(self.vectors)
            self._pilot()
            if self.ratio > 1 and self.settings.lanczos and self.vectors is None:
                self._try_lanczos()
            self._compare()
            self.stage = "probe"
            while self.ratio > 1 and not self._hopeless():
                if self._worth_comparing():
                    self._compare()
                    continue
                if self.room <= 0 and not self.settings.open_ended:
                    outcome = Outcome.FLOOR
                    break
                # A shortfall of 5 gives 25 times as many passes, in steps.
                count = self.passes.count
                ahead = min(count * self.ratio**2, FARTHEST * count)
                self._grow(math.ceil(max(SPACING * count, ahead)))
                self._look()
        except (_OutOfProducts, BudgetExhausted):
            if not (self.passes.count or self.shared.count):
                raise BudgetExhausted from None
            self._compare_at_last()
        if self.ratio <= 1 or (self.settings.open_ended and self.passes.count > 1):
            outcome = Outcome.CONVERGED
        return self._result(outcome)

    def _start(self, first: int) -> None:
        """Begin to collect samples, with probes that were not used yet."""
        self.shared, self.single = (
            Passes(
                self.operator,
                self.deflation,
                shared=shared,
                probes=self.settings.probes,
                seed=self.settings.seed,
                layers=self.settings.layers,
                first=first,
            )
            for shared in (True, False)
        )

    @property
    def left(self) -> int:
        """Products that may be spent on probes."""
        return self.settings.max_hvps - self.kept_back - self.spent

    def _spend(self, stage: str, products: int = 1) -> None:
        if products > self.left:
            raise _OutOfProducts
        self.stages[stage] += products
        self.report(
            EstimateProgress(
                stage=stage,
                hvps=self.spent,
                max_hvps=self.settings.max_hvps,
                ratio=self.ratio,
            )
        )

    def _pass(self, passes: Passes, *, by_term: bool = False) -> None:
        if self.left < 1:
            raise _OutOfProducts
        passes.add(by_term=by_term)
        self._spend(self.stage)

    def _grow(self, count: int) -> None:
        """Make passes until there are so many; as many shared ones where |H|_F^2 is asked for."""
        while self.passes.count < count:
            self._pass(self.passes)
            if self.settings.frobenius and self.shared.count < self.passes.count:
                self._pass(self.shared)
        if self.settings.frobenius:
            while self.shared.count < min(LEAST_SHARED, 2 * count):
                self._pass(self.shared)

    def _pilot(self) -> None:
        self._choose()
        self._grow(2)
        # Two passes of many batches have degrees enough, and show nothing where one batch carries
        # all that varies: both have the same sign in one case of two.
        least = 2 if self.passes.shared else LEAST_PASSES
        while self.found.estimate.degrees_of_freedom < LEAST_DEGREES or self.passes.count < least:
            self._grow(self.passes.count + 1)
        self._look()

    def _choose(self) -> None:
        """Measure both kinds of probe on the same products, and take the cheaper."""
        if self.settings.sharing != "auto" or self.operator.num_terms == 1:
            return
        self._pass(self.shared, by_term=True)
        if self.shared.gain < 2:  # a close call, or shared probes win and these passes count
            for _ in range(2):
                self._pass(self.shared, by_term=True)
        self.sharing_is_shared, sentence = choice_of_sharing(
            self.operator.num_terms, self.shared.gain
        )
        self.reasons.append(sentence)

    def _compare(self) -> None:
        """Hold more products against float64: to the next size of that sample."""
        wanted = self.arithmetic.next_count
        if self.arithmetic.count == 0:
            self.arithmetic.by_term = not self.passes.shared and self.operator.num_terms > 1
            if self.settings.layers or self.settings.frobenius:
                wanted = min(wanted, 1) * 2  # whose intervals are not what is stopped at
        while self.arithmetic.count < wanted and self.arithmetic.next_count:
            self.kept_back = 0
            if self.left < 2:
                return
            self._spend("float64", 2)
            self.arithmetic.add()
        self._look()

    def _compare_at_last(self) -> None:
        """The products that were kept back for it, where the operator still gives them."""
        try:
            if self.kept_back and self.passes.count:
                self._compare()
        except BudgetExhausted:
            self.kept_back = 0
        self._look()

    def _worth_comparing(self) -> bool:
        """Whether float64 narrows the interval for less than passes do."""
        now, then = self.arithmetic.count, self.arithmetic.next_count
        if not then or 2 * (then - now) > self.left:
            return False
        half = float(self.found.added().half[0])
        probes, count = self.found.half_of_probes, self.passes.count
        if self.settings.open_ended:
            at_end = probes * math.sqrt(count / (count + self.left))
            return half > UNNOTICED * at_end and 8 * (then - now) <= self.left
        if self.room <= 0:
            return True
        smaller = half * self.arithmetic.narrower(self.settings.confidence)
        passes = [(probes / room) ** 2 for room in (self.room, self.room + half - smaller)]
        return count * (passes[0] - passes[1]) > PRICE * (then - now)

    def _look(self) -> None:
        """Hold the interval against what is asked for."""
        self.ratio = math.inf
        if self.passes.count < 2:
            return
        added, half = self.found.added(), self.found.half_of_probes
        allowed = self.settings.allowed(float(self.found.estimate.value) + float(added.shift[0]))
        self.room = allowed - float(added.half[0])
        if half <= self.room and not self.settings.open_ended:
            self.ratio = min(1.0, half / self.room) if self.room > 0 else 0.0
        elif self.room > 0:
            self.ratio = half / self.room

    def _hopeless(self) -> bool:
        """Whether the trace is so near zero that a relative accuracy is out of reach for probes."""
        s = self.settings
        if s.rel_err is None or s.abs_err is not None or self.passes.count < 2:
            return False
        low, high = self.found.of_probes
        if not low < 0 < high:
            return False
        allowed = s.allowed(max(abs(low), abs(high)))
        count = self.passes.count
        return count * ((high - low) / 2 / allowed) ** 2 > count + s.max_hvps - self.spent

    def _outlook(self) -> Outlook:
        """What the pilot's samples say about the passes ahead."""
        norm = float(self.shared.norms.mean()) if self.shared.count else math.inf
        terms = self.passes.term_norms
        B = self.operator.num_terms
        return Outlook(
            needed=self.passes.count * self.ratio**2,
            shared=self.sharing_is_shared,
            terms=B,
            norm=norm,
            term_norms=math.inf if terms is None else float(terms.sum()),
            fewest=(
                math.inf if self.settings.sharing == "per-batch" else LEAST_DEGREES + 1,
                math.inf
                if self.settings.sharing == "shared"
                else max(LEAST_DEGREES / B + 1, LEAST_PASSES),
            ),
        )

    def _try_lanczos(self) -> None:
        """Take Ritz vectors out where that is cheaper than to go on."""
        if not math.isfinite(self.ratio):
            return
        outlook, done = self._outlook(), self.passes.count
        most = min(self.settings.most_vectors, self.operator.size - 1, self.left // 4)
        steps = steps_worth_trying(outlook, done=done, most=most)
        if not steps:
            return
        self._spend("deflate", steps)
        theta, Y_mP, used = short_lanczos(self.operator, steps, seed=self.settings.seed)
        self.stages["deflate"] -= steps - used
        outlook = outlook.floored(theta - self.operator.shift)
        plan = planned(outlook, theta, done=done)
        if plan.directions:
            plan = self._confirm(plan, outlook, Y_mP[: plan.directions].clone(), done)
        self.reasons.append(plan.sentence)

    def _confirm(
        self, plan: DeflationPlan, outlook: Outlook, Q_kP: Tensor, done: int
    ) -> DeflationPlan:
        self._spend("deflate", plan.directions)
        found = deflated(self.operator, Q_kP, self.settings.layers)
        plan = confirmed(plan, outlook, found.taken, float(found.taken_by_term.sum()), done=done)
        if not plan.directions:
            return plan
        self.deflation = found
        self._start(self.shared.count + self.single.count)
        self.reasons.clear()  # what the probes gained before
        self._pilot()
        return plan

    def _deflate(self, vectors: Tensor) -> None:
        self._spend("deflate", len(vectors))
        self.deflation = deflated(self.operator, vectors, self.settings.layers)
        self.stages["deflate"] = self.deflation.hvps
        self.reasons.append(f"{self.deflation.hvps} given directions are taken out exactly.")
        self._start(0)

    def _result(self, outcome: Outcome) -> TraceEstimate:
        if not self.passes.count and self.shared.count:
            self.sharing_is_shared = True  # the budget ended while the kinds were measured
        found = self.found
        if outcome is Outcome.FLOOR:
            self.reasons.append(floor_sentence(self.operator.dtype, float(found.added().half[0])))
        elif outcome is Outcome.MAX_HVPS and self.settings.rel_err is not None and found.holds_zero:
            self.reasons.append(
                "The trace is zero within its interval, so that no relative accuracy can be met: "
                "ask for an absolute one (--abs-err)."
            )
        return found.record(
            self.shared,
            outcome=outcome,
            hvps_by_stage=dict(self.stages),
            seconds=time.perf_counter() - self.began,
            reason=" ".join(self.reasons),
        )
