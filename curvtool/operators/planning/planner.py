"""Which way to make the products of a solve: measured on the first batch, foreseen for all.

What may be tried is limited to a share of the solve, so that a short one starts at once and a long
one finds the fastest way there is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

from curvtool.errors import CurvtoolError
from curvtool.operators.hessian import HessianOperator
from curvtool.operators.measure import dense_share, graph_nodes
from curvtool.operators.memory import is_shortage
from curvtool.operators.planning.costs import BatchCost, Costs
from curvtool.operators.planning.sharing import Sharing, try_sharing
from curvtool.operators.planning.trials import FirstBatch, Trial, apart
from curvtool.operators.ways.compile_probe import CompileFailure, probe_compilation
from curvtool.operators.ways.registry import way_named
from curvtool.operators.ways.traced import traced_reverse
from curvtool.operators.workers import Workers
from curvtool.problem.objective import Objective
from curvtool.problem.wording import first_line
from curvtool.results import Forecast, Verdict, WayTrial

# Of the predicted solve, what measuring may take together with the preflight.
SHARE = 0.03
# A compilation is given up when it has taken this share of the predicted solve.
COMPILE_SHARE = 0.06
# What fusing saved of the time outside matrix products and convolutions: 0.45 to 0.6 on two cores.
FUSED = 0.5
# A compilation is tried where it is expected to save so many times what it takes.
WORTH = 2.0
# Seconds of a compilation on two cores: 12, 36 and 43 were measured for graphs of 43 (MLP), 105
# (residual net) and 715 nodes (GPT).
COMPILE_BASE, COMPILE_PER_NODE = 12.0, 0.045
MOST_ROUNDS = 5

Tell = Callable[[str], None]


@final
@dataclass(frozen=True, eq=False)
class Planned:
    """The operator of a solve, and how it was chosen.

    Attributes:
        operator: ready to multiply.
        reason: a sentence's end: why this way.
        forecast: of the solve.
        trials: one for each way that was considered.
        seconds: that measuring took.
        noise: relative distance of the chosen way's product to that of the way that was checked.
    """

    operator: HessianOperator
    reason: str
    forecast: Forecast
    trials: tuple[WayTrial, ...]
    seconds: float
    noise: float


def plan_products(
    objective: Objective,
    *,
    way: str = "auto",
    checked: str = "retained-graph",
    products: int,
    graph_memory: int | None = None,
    reserved: int = 0,
    spent: float = 0.0,
    efficiency: float = 1.0,
    seed: int = 0,
    tell: Tell = lambda _: None,
) -> Planned:
    """Choose how to make the products of a solve, and make the operator.

    Args:
        objective: of the whole dataset, evaluated.
        way: a name, or `auto` to choose by measurement.
        checked: with `auto`, the way that the preflight has cleared; what is chosen gives its
            product to rounding.
        products: that the solve is expected to need.
        graph_memory: bytes for what is kept and for a product's own work; None for no limit.
        reserved: bytes that the solve takes beside, for the forecast.
        spent: seconds that the preflight took, which count against the share of the solve.
        efficiency: of torch's threads, see `Threads`.
        seed: of the vector.
        tell: told in a sentence what takes time.

    Returns:
        The plan. Costs some products of one batch, at most 3 % of the solve with the preflight
        as long as that leaves any, or a quarter of what threads that share out batches may save; an
        attempt to compile at most 6 %, unless it is chosen.

    Raises:
        PreflightError: where a named way cannot multiply this model.
        ValueError: for a way that there is not.
    """
    began = time.perf_counter()
    planner = _Planner(
        objective, products=products, memory=graph_memory, spent=spent, seed=seed, tell=tell
    )
    planner.start(checked if way == "auto" else way)
    if way == "auto":
        planner.choose_rest()
    planner.try_sharing(efficiency)
    if way == "auto":
        planner.try_compiled()
    workers = planner.divided()
    costs = planner.costs()
    seconds = time.perf_counter() - began
    operator = HessianOperator(
        objective,
        way=planner.chosen.way.name,
        rest=planner.rest.way.name if planner.rest else None,
        graph_memory=costs.room,
        tell=tell,
    )
    if workers and operator.concurrent:
        operator.workers = Workers(workers, objective.dtype)
    return Planned(
        operator=operator,
        reason=planner.reason(named=way != "auto"),
        forecast=costs.forecast(reserved=reserved),
        trials=planner.records(),
        seconds=seconds,
        noise=apart(planner.chosen.found, planner.first.found),
    )


@final
class _Planner:
    """The trials so far, and what they add up to."""

    first: Trial
    chosen: Trial
    rest: Trial | None

    def __init__(
        self,
        objective: Objective,
        *,
        products: int,
        memory: int | None,
        spent: float,
        seed: int,
        tell: Tell,
    ) -> None:
        self.objective = objective
        self.batch = FirstBatch(objective, seed=seed)
        self.products = products
        self.memory = memory
        self._began = time.perf_counter() - spent
        self.tell = tell
        examples = sum(objective.examples(i) for i in objective.active)
        self.batches = examples / objective.examples(self.batch.index)
        self.trials: list[Trial] = []
        self.left_out: list[WayTrial] = []
        self.sharing: Sharing | None = None  # of the first trial's way

    def start(self, way: str) -> None:
        """Try the way that has been checked, and what serves batches there is no room for."""
        self.first = self.chosen = self.batch.tried(way_named(way))
        self.trials.append(self.first)
        self._sharpen(self.first)
        self.rest = self._rest_of(self.first)

    def _rest_of(self, trial: Trial) -> Trial | None:
        if not trial.way.keeps or self.costs(trial, None).all_kept:
            return None
        known = [t for t in self.trials if t.way.name == trial.way.rest]
        if known:
            return known[0]
        rest = self.batch.tried(way_named(trial.way.rest))
        self.trials.append(rest)
        self._sharpen(rest, trial)
        return rest

    def choose_rest(self) -> None:
        """Try the forward modes where batches have to be rebuilt anyway."""
        if self.rest is None or self.rest.way.name != "reverse-over-reverse":
            return
        # The second one is wrong for some models: its product has to be that of the first way.
        for name in ("forward-over-reverse", "reverse-over-forward"):
            # Three products of the trial, and one more round of both.
            if self._budget() < 5 * self.rest.seconds:
                detail = "the solve is too short to measure it"
                self.left_out.append(WayTrial(way=name, verdict=Verdict.NOT_TRIED, detail=detail))
                continue
            other = self._tried_against_first(name)
            if other is not None:
                self._sharpen(self.rest, other)
                self.rest = min(self.rest, other, key=lambda trial: trial.seconds)

    def _tried_against_first(self, name: str) -> Trial | None:
        trial = self.batch.tried_against(way_named(name), self.first)
        if isinstance(trial, WayTrial):
            self.left_out.append(trial)
            return None
        self.trials.append(trial)
        return trial

    def try_sharing(self, efficiency: float) -> None:
        """Multiply several batches at once where all are kept and that is faster."""
        if self.rest is not None:
            return
        costs = self.costs()
        taken = self.batches * self.first.bytes_kept + self.first.bytes_peak
        room = float("inf") if self.memory is None else self.memory - taken
        with self.objective.missing_derivatives_named(self.batch.index):
            self.sharing = try_sharing(
                self.objective,
                self.first,
                solve=costs.seconds,
                batches=self.batches,
                room=room,
                efficiency=efficiency,
            )

    def divided(self) -> int:
        """Halve the batches as measured; workers to share them, 0 for none."""
        if self.chosen is not self.first:
            self.sharing = None
        if self.sharing is None:
            return 0
        for _ in range(self.sharing.halvings):
            if not self.objective.halve_batches():
                self.sharing = None
                return 0
        return self.sharing.workers

    def try_compiled(self) -> None:
        """Compile where the solve is long enough to try, and choose it where it pays."""
        if self.first.way.name != "retained-graph":
            return
        nodes = graph_nodes(self.objective.batch_gradient(self.batch.index))
        guess = COMPILE_BASE + COMPILE_PER_NODE * nodes
        predicted = self.costs().seconds
        saving = FUSED * predicted  # at most
        if WORTH * guess <= saving and self.objective.device.type == "cpu":
            saving *= 1 - dense_share(self.first.work)
        if WORTH * guess > saving:
            self._leave_out_compiled(
                Verdict.NOT_TRIED,
                f"compiling takes some {guess:.0f} s, and may save some {saving:.0f} s of a solve "
                f"of some {predicted:.0f} s",
            )
            return
        self.tell("compiling the product in a process of its own, to see whether that pays")
        try:
            traced = traced_reverse(self.objective, self.batch.index)
            report = probe_compilation(
                traced,
                self.batch.v,
                device=self.objective.device,
                most_seconds=COMPILE_SHARE * predicted,
            )
        except (CompileFailure, RuntimeError) as error:
            if is_shortage(error):
                raise
            self._leave_out_compiled(Verdict.REFUSED, first_line(error, most=200))
            return
        # Against the same program uncompiled, which is about as fast as the graph it came from.
        shared = self.sharing.factor if self.sharing else 1.0
        if report.compile_seconds > (1 - 1 / (report.gain * shared)) * predicted:
            self._leave_out_compiled(
                Verdict.RIGHT,
                f"{report.gain:.2f} times as fast as uncompiled, which {predicted:.0f} s of "
                f"products do not pay {report.compile_seconds:.0f} s of compilation with",
            )
            return
        del traced
        self._adopt_compiled()

    def _adopt_compiled(self) -> None:
        try:
            trial = self._tried_against_first("compiled")
        except CurvtoolError as error:
            self._leave_out_compiled(Verdict.REFUSED, first_line(error, most=200))
            return
        if trial is None:
            return
        self._sharpen(self.first, trial)
        rest = self._rest_of(trial)
        if self.costs(trial, rest).seconds < self.costs().seconds:
            self.chosen, self.rest = trial, rest

    def _leave_out_compiled(self, verdict: Verdict, detail: str) -> None:
        self.left_out.append(WayTrial(way="compiled", verdict=verdict, detail=detail))

    @property
    def _spent(self) -> float:
        """Seconds so far, those of the preflight among them."""
        return time.perf_counter() - self._began

    def _budget(self) -> float:
        return SHARE * self.costs().seconds - self._spent

    def _sharpen(self, *trials: Trial) -> None:
        each = sum(trial.seconds for trial in trials)
        affordable = (SHARE * self.predicted(trials[0]) - self._spent) / 2
        rounds = int(affordable / each) if each else MOST_ROUNDS
        self.batch.sharpen(*trials, rounds=max(1, min(MOST_ROUNDS, rounds)))

    def predicted(self, trial: Trial) -> float:
        """Seconds of the solve with every batch made by one way."""
        return self.products * self.batches * trial.seconds

    def costs(self, chosen: Trial | None = None, rest: Trial | None = None) -> Costs:
        """Of a way with another for the rest; of what is chosen where none is given."""
        if chosen is None:
            chosen, rest = self.chosen, self.rest
        return Costs(
            chosen=_cost(chosen, self.sharing if chosen is self.first else None),
            rest=None if rest is None else _cost(rest),
            products=self.products,
            batches=self.batches,
            memory=self.memory,
        )

    def reason(self, *, named: bool) -> str:
        """Why the chosen way, and how it is run."""
        why = "named by --hvp" if named else self._reason()
        if self.sharing is None:
            return why
        halved = (
            f" (each halved {'once' if n == 1 else f'{n} times'})"
            if (n := self.sharing.halvings)
            else ""
        )
        return (
            f"{why}; {self.sharing.workers} batches{halved} at once, "
            f"{1 / self.sharing.factor:.2f} times as fast as one after the other"
        )

    def _reason(self) -> str:
        costs = self.costs()
        if self.chosen.way.keeps and not costs.kept:
            return "no batch's graph fits into the memory, so that every product starts afresh"
        others = [t for t in self.trials if t is not self.chosen and t is not self.rest]
        if others:
            best = min(others, key=lambda trial: trial.seconds)
            factor = best.seconds / self.chosen.seconds
            return f"{factor:.2f} times as fast as {best.way.name} on the first batch"
        if self.chosen.way.keeps:
            return "what does not depend on the vector is computed once"
        return "the only way that gives the right product here"

    def records(self) -> tuple[WayTrial, ...]:
        """All trials for the report."""
        made = [
            replace(
                trial.record(
                    Verdict.CHOSEN if trial is self.chosen else Verdict.RIGHT,
                    error=None,
                    gradient=0.0,
                ),
                detail="for batches there is no room for" if trial is self.rest else "",
            )
            for trial in self.trials
        ]
        return (*made, *self.left_out)


def _cost(trial: Trial, sharing: Sharing | None = None) -> BatchCost:
    return BatchCost(
        seconds=trial.seconds * (sharing.factor if sharing else 1.0),
        setup=trial.setup,
        bytes_kept=trial.bytes_kept,
        bytes_peak=trial.bytes_peak + (sharing.bytes if sharing else 0),
        keeps=trial.way.keeps,
        traced=trial.way.name in {"compiled", "linearized"},
    )
