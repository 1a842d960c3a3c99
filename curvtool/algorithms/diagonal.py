"""The diagonal by random probes: E[z * Hz], with the error of every entry.

Letters: P parameters, R passes, L layers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from curvtool.algorithms.deflation import Deflation, deflated, exact_parts, nothing_deflated
from curvtool.algorithms.estimation import EstimateProgress, Report, Sharing, silent
from curvtool.algorithms.exact import exact_diagonal
from curvtool.algorithms.layers import Layer, entries, layer_sums, require_inside, sizes
from curvtool.algorithms.planning import choice_of_sharing
from curvtool.algorithms.sampling import Passes
from curvtool.algorithms.terms import as_sum
from curvtool.operators.base import BudgetExhausted, SymmetricOperator
from curvtool.operators.recording import State, fingerprint, loop, recorder_of
from curvtool.random_vectors.streams import Kind
from curvtool.results import DiagonalEstimate, FloatArray, Outcome

# Passes before the error is looked at. It is a norm over P entries, so that few passes know it.
LEAST_PASSES = 4
SPACING, FARTHEST = 1.25, 4.0


@final
@dataclass(frozen=True, kw_only=True)
class DiagonalSettings:
    """A request for a diagonal.

    Attributes:
        rel_err: |stderr|_2 over |diagonal|_2; None spends `max_hvps` products.
        max_hvps: products over the whole dataset that may be spent, at least 2.
        probes: kind of the random vectors; Rademacher ones have the least variance there is.
        sharing: one probe for every batch, one for all, or what a first pass finds cheaper.
        layers: to be summarized.
        levels: of their quantiles.
        seed: of the probes.
        noise: delta, the relative error of one product.
    """

    rel_err: float | None = 0.1
    max_hvps: int = 10_000
    probes: Kind = "rademacher"
    sharing: Sharing = "auto"
    layers: tuple[Layer, ...] = ()
    levels: tuple[float, ...] = (0.05, 0.25, 0.5, 0.75, 0.95)
    seed: int = 0
    noise: float

    def __post_init__(self) -> None:
        if self.rel_err is not None and not self.rel_err > 0:
            raise ValueError(f"DiagonalSettings needs rel_err > 0 or None, got {self.rel_err}.")
        if self.max_hvps < 2:
            raise ValueError(
                f"DiagonalSettings needs max_hvps >= 2, since one pass shows no error; got "
                f"{self.max_hvps}."
            )


def stochastic_diagonal(
    operator: SymmetricOperator,
    settings: DiagonalSettings,
    *,
    vectors: Tensor | None = None,
    report: Report = silent,
) -> DiagonalEstimate:
    """The diagonal to a relative error over all its entries.

    Args:
        operator: symmetric, of size P; with terms each can have its own probe.
        settings: what is asked.
        vectors: shape (k, P), directions to take out exactly, for k products.
        report: told of every pass.

    Returns:
        The estimate; standard errors have R - 1 degrees of freedom. One product a pass. Memory is
        8 vectors of P numbers and the directions.

    Raises:
        ValueError: for layers outside the vector, or products that leave no two passes.
        CurvtoolError: when a product is not finite.

    References:
        Bekas, Kokiopoulou, Saad (2007).
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


def dense_diagonal(
    operator: SymmetricOperator, settings: DiagonalSettings, *, report: Report = silent
) -> DiagonalEstimate:
    """The exact diagonal: P products, whatever `max_hvps`; memory is 128 vectors of P numbers.

    Args:
        operator: symmetric, of size P.
        settings: what is asked.
        report: told of every block.

    Returns:
        An estimate without error.

    Raises:
        ValueError: for layers outside the vector.
        CurvtoolError: when a product is not finite.
    """
    began = time.perf_counter()
    require_inside(settings.layers, operator.size)
    diagonal_P, _ = exact_diagonal(operator, report=report)
    n = sizes(settings.layers)
    return DiagonalEstimate(
        diagonal=diagonal_P.numpy(),
        diagonal_stderr=np.zeros(operator.size),
        degrees_of_freedom=math.inf,
        layers=tuple(layer.name for layer in settings.layers),
        layer_size=n,
        layer_mean=layer_sums(diagonal_P, settings.layers).numpy() / n,
        layer_mean_stderr=np.zeros(len(n)),
        layer_quantiles=_quantiles(diagonal_P, settings),
        levels=settings.levels,
        rel_err=0.0,
        asked=settings.rel_err,
        method="dense",
        probes="",
        sharing="",
        outcome=Outcome.CONVERGED,
        hvps=operator.size,
        seconds=time.perf_counter() - began,
        noise=settings.noise,
        reason=f"Exact: a product with each of {operator.size} unit vectors.",
    )


def _quantiles(diagonal_P: Tensor, settings: DiagonalSettings) -> FloatArray:
    """Shape (L, q)."""
    rows: Sequence[FloatArray] = [
        np.quantile(entries(diagonal_P, layer), settings.levels) for layer in settings.layers
    ]
    return np.array(rows).reshape(len(rows), len(settings.levels))


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
        self.spent = 0
        if vectors is not None:
            self.deflation = deflated(self.operator, vectors, settings.layers, diagonal=True)
            self.spent = self.deflation.hvps
            self.reasons.append(f"{self.spent} given directions are taken out exactly.")
        self.history: dict[str, list[float]] = {"hvps": [], "rel_err": []}
        self.target = LEAST_PASSES
        self.gain: float | None = None  # of probes of their own, where that was measured
        self.passes = self._passes(shared=settings.sharing == "shared" or self._one_term)

    @property
    def _one_term(self) -> bool:
        return self.operator.num_terms == 1

    def run(self) -> DiagonalEstimate:
        s = self.settings
        outcome = Outcome.CONVERGED if s.rel_err is None else Outcome.MAX_HVPS
        with loop(recorder_of(self.operator), self._key) as place:
            try:
                if place.saved is not None:
                    self._restore(place.saved.state)
                elif s.sharing == "auto" and not self._one_term:
                    self._choose()
                    place.step(1 + self.passes.count, self._state, product=True)
                while self.spent < s.max_hvps:
                    self._add(self.passes)
                    if s.rel_err is not None and self.passes.count >= self.target:
                        ratio = self._look() / s.rel_err
                        if ratio <= 1:
                            outcome = Outcome.CONVERGED
                            break
                        count = self.passes.count
                        ahead = min(count * ratio**2, FARTHEST * count)
                        self.target = math.ceil(max(SPACING * count, ahead))
                    place.step(1 + self.passes.count, self._state, product=True)
            except BudgetExhausted:
                outcome = Outcome.MAX_HVPS
        if self.passes.count < 2:
            raise ValueError("stochastic_diagonal needs products for two passes.")
        return self._result(outcome)

    def _passes(self, *, shared: bool) -> Passes:
        return Passes(
            self.operator,
            self.deflation,
            shared=shared,
            probes=self.settings.probes,
            seed=self.settings.seed,
            layers=self.settings.layers,
            diagonal=True,
        )

    def _add(self, passes: Passes, *, by_term: bool = False) -> None:
        passes.add(by_term=by_term)
        self.spent += 1
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

    def _choose(self) -> None:
        """Measure both kinds of probe on one product; the errors' norms have the trace's ratio."""
        if self.spent + 3 > self.settings.max_hvps:
            return
        trial = self._passes(shared=True)
        self._add(trial, by_term=True)
        self.gain = trial.gain
        if self._chosen():
            self.passes = trial

    def _chosen(self) -> bool:
        assert self.gain is not None
        shared, sentence = choice_of_sharing(self.operator.num_terms, self.gain)
        self.reasons.append(sentence)
        return shared

    def _key(self) -> str:
        return f"diagonal without {fingerprint(self.deflation.Q_kP)}"

    def _state(self) -> State:
        """All that the passes so far have left."""
        numbers = [float(self.spent), float(self.target)]
        chosen = [] if self.gain is None else [self.gain]
        return {
            "numbers": torch.tensor(numbers + chosen, dtype=torch.float64),
            "history": torch.tensor(list(self.history.values()), dtype=torch.float64),
            **self.passes.state(),
        }

    def _restore(self, state: State) -> None:
        spent, target, *gain = state["numbers"].tolist()
        self.spent, self.target = int(spent), int(target)
        hvps, errors = state["history"].tolist()
        self.history = {"hvps": [int(n) for n in hvps], "rel_err": errors}
        if gain:
            self.gain = gain[0]
            self.passes = self._passes(shared=self._chosen())
        self.passes.restore(state)

    def _diagonal(self) -> Tensor:
        """Float64 on the device."""
        assert self.passes.mean_P is not None
        diagonal_P = self.passes.mean_P.double() + self.operator.shift
        if self.deflation.diagonal_P is not None:
            diagonal_P += self.deflation.diagonal_P
        return diagonal_P

    def _look(self) -> float:
        """|stderr|_2 over |diagonal|_2, the latter without the errors that are in it."""
        space = self.passes.space
        variance = self.passes.diagonal_variance_P.sum(dtype=torch.float64)
        errors = float(space.sum(variance.view(1)))
        squares = float(space.norm(self._diagonal())) ** 2
        ratio = math.sqrt(errors / max(squares - errors, errors)) if errors > 0 else 0.0
        self.history["hvps"].append(self.spent)
        self.history["rel_err"].append(ratio)
        return ratio

    def _result(self, outcome: Outcome) -> DiagonalEstimate:
        s = self.settings
        reached = self._look()
        if s.rel_err is not None and reached <= s.rel_err:
            outcome = Outcome.CONVERGED
        n = sizes(s.layers)
        layers = self.passes.layer_traces.shifted(
            exact_parts(self.operator, self.deflation, s.layers)[1]
        )
        space = self.passes.space
        diagonal_P = space.gathered(self._diagonal())
        stderr_P = space.gathered(self.passes.diagonal_variance_P.double().sqrt())
        return DiagonalEstimate(
            diagonal=diagonal_P.cpu().numpy(),
            diagonal_stderr=stderr_P.cpu().numpy(),
            degrees_of_freedom=float(self.passes.count - 1),
            layers=tuple(layer.name for layer in s.layers),
            layer_size=n,
            layer_mean=layers.value / n,
            layer_mean_stderr=layers.stderr / n,
            layer_quantiles=_quantiles(diagonal_P, s),
            levels=s.levels,
            rel_err=reached,
            asked=s.rel_err,
            method="hutchinson",
            probes=s.probes,
            sharing="shared" if self.passes.shared else "per-batch",
            outcome=outcome,
            hvps=self.spent,
            seconds=time.perf_counter() - self.began,
            noise=s.noise,
            reason=" ".join(self.reasons),
            history={name: np.array(values) for name, values in self.history.items()},
        )
