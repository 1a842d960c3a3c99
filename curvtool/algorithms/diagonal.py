"""The diagonal by random probes: E[z * Hz], with the error of every entry and of the whole.

Letters: P parameters, R passes, L layers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import partial
from typing import final

import numpy as np
import torch
from torch import Tensor

from curvtool.algorithms.arithmetic import Arithmetic, floor_sentence
from curvtool.algorithms.deflation import Deflating, Deflation, deflated, nothing_deflated
from curvtool.algorithms.diagonal_error import DiagonalError
from curvtool.algorithms.diagonal_settings import DiagonalSettings
from curvtool.algorithms.estimation import EstimateProgress, Report, silent
from curvtool.algorithms.exact_diagonal import dense_diagonal
from curvtool.algorithms.layers import require_inside
from curvtool.algorithms.planning import choice_of_sharing
from curvtool.algorithms.sampled_diagonal import SampledDiagonal
from curvtool.algorithms.sampling import Passes
from curvtool.algorithms.taking_out import TakingOut, measured_norms, outlook
from curvtool.algorithms.terms import as_sum
from curvtool.operators.base import BudgetExhausted, SymmetricOperator
from curvtool.operators.recording import State, fingerprint, loop, recorder_of, remembered
from curvtool.random_vectors.purposes import Purpose
from curvtool.results import DiagonalEstimate, FloatArray, Outcome

# Passes before the error is looked at. By signs, entries that one other is coupled to alone are the
# same in R passes once in 2^(R - 1), and then seem to be without error.
LEAST_PASSES = 8
SPACING, FARTHEST = 1.25, 4.0
# Fewer passes ahead are made without asking what directions would save.
LEAST_AHEAD = 32
# Products beside float64: one alone bounds a row by 4,000 times what it shows, two by 71 times.
LEAST_COMPARED = 2
# Of the error that is allowed, the arithmetic may take so much and is let be.
UNNOTICED = 0.1
# Arrays of the passes so far, in the order in which a pilot remembers them.
_KEPT = ("traces", "layer_traces", "norms", "squares", "mean", "apart")


def stochastic_diagonal(
    operator: SymmetricOperator,
    settings: DiagonalSettings,
    *,
    vectors: Tensor | None = None,
    report: Report = silent,
) -> DiagonalEstimate:
    """The diagonal to a relative error over all its entries.

    A pilot says how many passes are ahead. Where directions of a Krylov space would save more than
    they take, they are taken out; where `dense_from` products are fewer, the run ends.

    Args:
        operator: symmetric, of size P; with terms each can have its own probe.
        settings: what is asked.
        vectors: shape (k, P), directions to take out exactly, for k products.
        report: told of every pass.

    Returns:
        The estimate; standard errors have R - 1 degrees of freedom. One product a pass. Memory is
        10 vectors of P numbers and the directions.

    Raises:
        ValueError: for layers outside the vector, or products that leave no two passes.
        CurvtoolError: when a product is not finite.

    References:
        Bekas, Kokiopoulou, Saad (2007); Baston, Nakatsukasa (2022) for a range taken out.
    """
    require_inside(settings.layers, operator.size)
    spent = 0 if vectors is None else len(vectors)
    if spent + 2 > settings.max_hvps:
        raise ValueError(
            f"stochastic_diagonal needs two passes beside {spent} directions, and max_hvps is "
            f"{settings.max_hvps}."
        )
    if operator.size == 1:
        return dense_diagonal(operator, settings, report=report)
    return _Solve(operator, settings, vectors, report).run()


@final
class _Solve:
    def __init__(
        self,
        operator: SymmetricOperator,
        settings: DiagonalSettings,
        vectors: Tensor | None,
        report: Report,
    ) -> None:
        self.began = time.perf_counter()
        self.operator = as_sum(operator)
        self.settings = settings
        self.report = report
        self.reasons: list[str] = []
        self.deflation: Deflation = nothing_deflated(self.operator, settings.layers)
        self.given = vectors is not None
        self.spent = 0
        if vectors is not None:
            self.deflation = deflated(self.operator, vectors, settings.layers, diagonal=True)
            self.spent = self.deflation.hvps
            self.reasons.append(f"{self.spent} given directions are taken out exactly.")
        self.arithmetic = Arithmetic(
            self.operator,
            settings.reference,
            layers=settings.layers,
            delta=settings.noise,
            seed=settings.seed,
            rows=True,
        )
        self.history: dict[str, list[float]] = {"hvps": [], "rel_err": []}
        self.target = LEAST_PASSES
        self.exhausted = False
        self.gain: float | None = None  # of probes of their own, where that was measured
        self.start_P: Tensor | None = None  # a product of a shared pass
        self.passes = self._passes(shared=settings.sharing == "shared" or self._one_term)

    @property
    def _one_term(self) -> bool:
        return self.operator.num_terms == 1

    @property
    def found(self) -> SampledDiagonal:
        """What all this says so far."""
        return SampledDiagonal(self.passes, self.arithmetic, self.settings)

    @property
    def left(self) -> int:
        """Products that may still be spent."""
        return 0 if self.exhausted else self.settings.max_hvps - self.spent

    def run(self) -> DiagonalEstimate:
        key = f"pilot of a diagonal {self._key()}"
        self._recall(remembered(self.operator, key, self._pilot))
        if self.passes.count < 2:
            raise ValueError("stochastic_diagonal needs products for two passes.")
        try:
            self._compare()
            dense = self._plan()
        except BudgetExhausted:
            self.exhausted, dense = True, False
        return self._result(Outcome.MAX_HVPS if dense else self._go_on())

    def _go_on(self) -> Outcome:
        """Passes until the error is as small as asked, or the products are spent."""
        s = self.settings
        with loop(recorder_of(self.operator), self._key) as place:
            if place.saved is not None:
                self._restore(place.saved.state)
            try:
                while True:
                    if s.rel_err is not None and self.passes.count >= self.target:
                        ratio = self._look().relative / s.rel_err
                        if ratio <= 1:
                            return Outcome.CONVERGED
                        if self._allowed <= 0:
                            then = self.arithmetic.next_count
                            if not then or 2 * (then - self.arithmetic.count) > self.left:
                                return Outcome.FLOOR
                            self._compare_to(then)
                            continue
                        count = self.passes.count
                        ahead = min(self._needed(), FARTHEST * count)
                        self.target = math.ceil(max(SPACING * count, ahead))
                    if self.left < 1:
                        break
                    self._add(self.passes)
                    place.step(1 + self.passes.count, self._state, product=True)
            except BudgetExhausted:
                self.exhausted = True
        return Outcome.CONVERGED if s.rel_err is None and not self.exhausted else Outcome.MAX_HVPS

    def _passes(self, *, shared: bool, first: int = 0) -> Passes:
        return Passes(
            self.operator,
            self.deflation,
            shared=shared,
            probes=self.settings.probes,
            seed=self.settings.seed,
            layers=self.settings.layers,
            diagonal=True,
            first=first,
        )

    def _add(self, passes: Passes, *, by_term: bool = False) -> None:
        passes.add(by_term=by_term)
        self._spend(1)

    def _spend(self, products: int) -> None:
        self.spent += products
        error = self.history["rel_err"][-1] if self.history["rel_err"] else math.inf
        asked = self.settings.rel_err
        self.report(
            EstimateProgress(
                stage="probe",
                hvps=self.spent,
                max_hvps=self.settings.max_hvps,
                ratio=math.inf if asked is None else error / asked,
            )
        )

    def _pilot(self) -> Sequence[FloatArray]:
        """The first passes, of the kind that is cheaper, as numbers that `_recall` takes."""
        with loop(recorder_of(self.operator), lambda: f"pilot {self._key()}") as place:
            try:
                if place.saved is not None:
                    self._restore(place.saved.state)
                elif self.settings.sharing == "auto" and not self._one_term:
                    self._choose()
                    place.step(1 + self.passes.count, self._state, product=True)
                while self.passes.count < LEAST_PASSES and self.left >= 1:
                    self._add(self.passes)
                    if self.passes.last_P is not None:
                        self.start_P = self.passes.last_P
                    place.step(1 + self.passes.count, self._state, product=True)
            except BudgetExhausted:
                self.exhausted = True
        state = self._state()
        names = ("numbers", "start", *(_KEPT if self.passes.count else ()))
        return [state[name].cpu().numpy() for name in names]

    def _recall(self, numbers: Sequence[FloatArray]) -> None:
        names = ("numbers", "start", *_KEPT)
        if len(numbers) == len(names):
            tensors = [torch.from_numpy(np.asarray(part)) for part in numbers]
            self._restore(dict(zip(names, tensors, strict=True)))

    def _choose(self) -> None:
        """Measure both kinds of probe on one product; the errors' norms have the trace's ratio."""
        if self.left < 3:
            return
        trial = self._passes(shared=True)
        self._add(trial, by_term=True)
        self.gain = trial.gain
        self.start_P = trial.last_P
        if choice_of_sharing(self.operator.num_terms, self.gain)[0]:
            self.passes = trial

    def _key(self) -> str:
        return f"diagonal without {fingerprint(self.deflation.Q_kP)}"

    def _state(self) -> State:
        """All that the passes so far have left."""
        gain = math.nan if self.gain is None else self.gain
        numbers = [self.spent, self.target, gain, self.exhausted]
        start_P = torch.empty(0) if self.start_P is None else self.start_P
        return {
            "numbers": torch.tensor(numbers, dtype=torch.float64),
            "start": start_P,
            "history": torch.tensor(list(self.history.values()), dtype=torch.float64),
            **self.passes.state(),
        }

    def _restore(self, state: State) -> None:
        spent, target, gain, exhausted = state["numbers"].tolist()
        self.spent, self.target, self.exhausted = int(spent), int(target), bool(exhausted)
        if "history" in state:
            hvps, errors = state["history"].tolist()
            self.history = {"hvps": [int(n) for n in hvps], "rel_err": errors}
        if len(state["start"]):
            self.start_P = state["start"].to(self.operator.device)
        if math.isfinite(gain) and self.gain is None:
            self.gain = gain
            shared, _ = choice_of_sharing(self.operator.num_terms, gain)
            self.passes = self._passes(shared=shared)
        self.passes.restore(state)

    def _compare(self) -> None:
        """Hold products against float64 until the arithmetic is a small part of the error."""
        while (then := self.arithmetic.next_count) and self.left > 2 * then:
            found = self.found.error
            allowed = (self.settings.rel_err or 0.0) * found.likely
            if self.settings.rel_err is None:  # what the probes will have left at the end
                allowed = found.sampled
                allowed *= math.sqrt(self.passes.count / (self.passes.count + self.left))
            dear = 2 * then > max(2 * LEAST_COMPARED, self._ahead / 4)
            if self.arithmetic.count >= LEAST_COMPARED and (
                found.arithmetic <= UNNOTICED * allowed or dear
            ):
                return
            self._compare_to(then)

    def _compare_to(self, count: int) -> None:
        while self.arithmetic.count < count and self.arithmetic.next_count:
            self.arithmetic.add()
            self._spend(2)

    @property
    def _ahead(self) -> float:
        """Passes that are still to be made, as far as that is known."""
        return min(self._needed() - self.passes.count, self.left)

    def _plan(self) -> bool:
        """Take directions out where that pays; True where writing the diagonal out is cheaper."""
        if self.gain is not None:
            self.reasons.append(choice_of_sharing(self.operator.num_terms, self.gain)[1])
        ahead = self._ahead
        dense = self.settings.dense_from
        if dense is not None and self.found.error.sampled and ahead > dense:
            self.reasons.append(f"About {ahead:.0f} passes more were ahead.")
            return True
        room = min(self.settings.most_vectors, self.operator.size - 1, int(ahead / 2))
        if not self.given and ahead >= LEAST_AHEAD and room >= 2 and self.found.variance > 0:
            self._take_out(room)
        return False

    def _take_out(self, room: int) -> None:
        passes, space = self.passes, self.passes.space
        start_P = self.start_P
        if start_P is None:
            start_P = space.orthonormal_start(
                space.empty(0), Purpose.DIAGONAL_START, seed=self.settings.seed
            )
            assert start_P is not None
        deflating = Deflating(
            self.operator, self.settings.layers, room=room, diagonal=True, name="Krylov space"
        )
        error = self.found.variance

        def diagonal() -> float:
            assert passes.mean_P is not None
            assert deflating.diagonal_P is not None
            return max(float(space.norm(passes.mean_P - deflating.diagonal_P)) ** 2 - error, 0.0)

        ahead = outlook(
            passes,
            variance=error * passes.count,
            needed=self._needed(),
            left=self.left,
            gain=self.gain,
        )
        attempt = TakingOut(
            deflating,
            ahead,
            diagonal=diagonal,
            measure=partial(
                measured_norms, self.operator, probes=self.settings.probes, seed=self.settings.seed
            ),
        )
        found, shared = attempt.run(start_P)
        self._spend(attempt.spent)
        if found is not None:
            self.deflation = found
            self.reasons = [f"{found.hvps} directions of a Krylov space are taken out exactly."]
            self.passes = self._passes(shared=shared or self._one_term, first=passes.count)
            self.target = LEAST_PASSES

    @property
    def _allowed(self) -> float:
        """Of the error in 2-norm, what the probes may use."""
        found = self.found.error
        return (self.settings.rel_err or 0.0) * found.likely - found.arithmetic

    def _needed(self) -> float:
        """Passes in all that the asked accuracy takes."""
        if self.settings.rel_err is None:
            return math.inf
        allowed = self._allowed
        if allowed <= 0:
            return math.inf
        return self.passes.count * (self.found.error.sampled / allowed) ** 2

    def _look(self) -> DiagonalError:
        found = self.found.error
        self.history["hvps"].append(self.spent)
        self.history["rel_err"].append(found.relative)
        return found

    def _result(self, outcome: Outcome) -> DiagonalEstimate:
        s = self.settings
        reached = self._look()
        if s.rel_err is not None and reached.relative <= s.rel_err:
            outcome = Outcome.CONVERGED
        if outcome is Outcome.FLOOR:
            self.reasons.append(floor_sentence(self.operator.dtype, reached.arithmetic))
        return self.found.record(
            outcome=outcome,
            hvps=self.spent,
            seconds=time.perf_counter() - self.began,
            reason=" ".join(self.reasons),
            history=self.history,
        )
