"""From a loaded problem to an operator that is known to be right and planned for its solve."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, Protocol, final

import torch

from curvtool.algorithms.linalg import orthogonalization_seconds
from curvtool.config import ComputeConfig, ProblemConfig
from curvtool.distributed.group import Alone, Group
from curvtool.errors import CurvtoolError, PreflightError
from curvtool.operators.hessian import HessianOperator
from curvtool.operators.kinks import noise_over_all
from curvtool.operators.memory import DEFAULT_SHARE, default_memory
from curvtool.operators.planning.blocks import choose_block
from curvtool.operators.planning.planner import Planned, plan_products
from curvtool.operators.planning.threads import choose_threads
from curvtool.operators.preflight import EXAMPLES, ROUGHLY_ALLOWED, preflight
from curvtool.operators.ways.registry import way_named
from curvtool.pipeline.demand import Demand, Tell
from curvtool.pipeline.devices import choose_device
from curvtool.pipeline.loading import Loaded
from curvtool.pipeline.resources import make_objective, within_memory
from curvtool.pipeline.subject import Measured, measured
from curvtool.problem.objective import Evaluation, Objective
from curvtool.problem.wording import first_line
from curvtool.results import Plan, Preflight
from curvtool.resuming.session import Session

# The ways whose derivatives `auto` builds on, the first that is right for this model.
_BASES = ("retained-graph", "forward-over-reverse")
# The preflight costs as much as some seventy gradients of its examples (float64 counts double),
# and may take half of the planner's share of the solve's products over all examples.
_EXAMPLES_PER_PRODUCT = 0.0004
_LEAST_EXAMPLES = 2
# Statistics of a batch of two are ill-conditioned.
_LEAST_COUPLED = 4


@final
@dataclass(frozen=True, eq=False)
class Whole:
    """The dataset of which this process has a share.

    Attributes:
        group: the processes.
        share: f_r, this process's weight over all weights.
        examples: in all.
        batches: in all.
        total_weight: of all.
    """

    group: Group
    share: float
    examples: int
    batches: int
    total_weight: float

    def traffic(self, hvps: float) -> dict[str, Any]:
        """Fields of the plan."""
        return {
            "ranks": self.group.size,
            "bytes_moved": self.group.traffic / max(1.0, hvps),
            "waiting": self.group.waited,
        }


@final
@dataclass(frozen=True, eq=False)
class Prepared:
    """All that a solve needs.

    Attributes:
        objective: evaluated.
        evaluation: its value at the checkpoint.
        memory: bytes that the run may use.
        demand: of the solve.
        preflight: that the product passed.
        planned: the operator, and why it multiplies as it does.
        given_up: sentences: what was done when memory ran out before the solve.
        halvings: of the batches, when they were evaluated.
        whole: the dataset, where this process has a share of it; else None.
    """

    objective: Objective
    evaluation: Evaluation
    memory: int
    demand: Demand
    preflight: Preflight
    planned: Planned
    given_up: tuple[str, ...] = ()
    halvings: int = 0
    whole: Whole | None = None

    @property
    def measured(self) -> Measured:
        """The objective's value at the checkpoint."""
        return measured(self.evaluation)

    def plan(self, *, seconds_per_product: float | None, hvps: float = 0.0) -> Plan:
        """The record of how products are made; seconds and count as they turned out."""
        operator, planned = self.planned.operator, self.planned
        return Plan(
            way=operator.way if operator.kept or not operator.keeps else operator.way_of_rest,
            device=str(operator.device),
            dtype=str(operator.dtype).removeprefix("torch."),
            batches_kept=len(operator.kept),
            num_batches=self.objective.num_batches,
            bytes_kept=operator.bytes_kept,
            bytes_basis=self.demand.basis_bytes,
            memory_limit=self.memory,
            seconds_per_product=seconds_per_product,
            way_of_rest=operator.way_of_rest if operator.kept else "",
            reason=planned.reason,
            forecast=planned.forecast,
            trials=planned.trials,
            planning_seconds=planned.seconds + self.preflight.seconds,
            adjustments=(*self.given_up, *operator.adjustments),
            **({} if self.whole is None else self.whole.traffic(hvps)),
        )


class Config(Protocol):
    """What the configs of all solves have."""

    @property
    def kind(self) -> str:
        """Of the run."""
        ...

    @property
    def problem(self) -> ProblemConfig:
        """Model, data and loss."""
        ...

    @property
    def compute(self) -> ComputeConfig:
        """Where, how precisely, and in which way."""
        ...


def opened_whole(
    config: Config, loaded: Loaded, session: Session | None = None
) -> tuple[Objective, int]:
    """The objective of a run, not evaluated yet, and the bytes that the run may use.

    Args:
        config: the run; `computing` stands around the call.
        loaded: from `load`; its module is moved and cast, so that it serves one run.
        session: of a run that may be continued: what was free then counts, not what is free now.

    Returns:
        Both.

    Raises:
        InputError: for a device that is not there.
    """  # raised below
    device = choose_device(config.compute.device, session.group.local_rank if session else 0)
    memory = config.compute.memory or memory_of(device, session)
    if session is not None:  # what depends on it is to be the same everywhere
        memory = min(session.group.of_all(memory))
    group = Alone() if session is None else session.group
    made = make_objective(
        loaded.problem,
        config.problem,
        config.compute,
        device=device,
        memory=memory,
        group=group,
        by_terms=config.kind in {"trace", "diag"},
    )
    return made, memory


def memory_of(device: torch.device, session: Session | None) -> int:
    """Bytes that a run may use where it is told none, as an earlier process found them."""
    here = session.group.local_size if session is not None and device.type == "cpu" else 1
    now = default_memory(device) // here
    then = session.decisions if session is not None else None
    if then is None or then["memory_option"] is not None or then["device"] != str(device):
        return now
    before: int = then["memory"]
    return before if before <= now / DEFAULT_SHARE else now


def prepare(
    config: Config, objective: Objective, memory: int, demand: Demand, tell: Tell
) -> Prepared:
    """Evaluate, check and plan.

    Args:
        config: the run; `computing` stands around the call.
        objective: from `opened`.
        memory: bytes that the run may use.
        demand: of the solve.
        tell: told of every stage in a sentence.

    Returns:
        All that the solve needs.

    Raises:
        InputError: when model, data or limits cannot be used.
        PreflightError: when the product is not that of a Hessian.
    """  # raised below
    products = demand.products
    graphs = memory - demand.basis_bytes - demand.vector_bytes
    given_up: list[str] = []

    def give_up(sentence: str) -> None:
        given_up.append(sentence)
        tell(sentence)

    tell(f"evaluating the loss on {objective.num_examples:,} examples")
    evaluation = within_memory(objective, objective.evaluate, give_up)
    halvings = objective.halvings
    busy = choose_threads(objective)
    if busy.sentence:
        give_up(busy.sentence)
    tell("checking the product against float64 differences")
    way = config.compute.hvp
    checked_way, checked = within_memory(
        objective, lambda: check_product(objective, way, products, config.compute.seed), give_up
    )
    tell("choosing the fastest way to make products")
    planned = within_memory(
        objective,
        lambda: plan_products(
            objective,
            way=way,
            checked=checked_way,
            products=products,
            graph_memory=graphs,
            reserved=demand.basis_bytes + demand.vector_bytes,
            spent=checked.seconds,
            efficiency=busy.efficiency,
            seed=config.compute.seed,
            tell=tell,
        ),
        give_up,
    )
    if demand.blocks:
        room = graphs - planned.operator.bytes_kept
        choose_block(planned.operator, products=products, memory=room)
    beside = orthogonalization_seconds(
        demand.rows, objective.size, dtype=objective.dtype, device=objective.device
    )
    planned = replace(planned, forecast=planned.forecast.with_beside(beside))
    if planned.noise:
        source = f"{checked.noise_source}, and of {planned.operator.way} beside {checked_way}"
        checked = replace(checked, noise=checked.noise + planned.noise, noise_source=source)
    if not demand.certified:
        checked = with_kinks(checked, objective, planned.operator, evaluation, checked_way, give_up)
    return Prepared(
        objective, evaluation, memory, demand, checked, planned, tuple(given_up), halvings
    )


def with_kinks(
    checked: Preflight,
    objective: Objective,
    operator: HessianOperator,
    evaluation: Evaluation,
    way: str,
    give_up: Tell,
) -> Preflight:
    """The checks with the noise of the whole dataset, where a few examples do not show it.

    Args:
        checked: a few examples' checks.
        objective: of all.
        operator: its Hessian, as it will be used.
        evaluation: of the objective.
        way: that was checked.
        give_up: told where the noise could not be measured.

    Returns:
        The checks. Costs about ten gradients where the loss has kinks.

    Raises:
        PreflightError: where the product is too noisy.
    """  # raised below
    try:
        return _with_kinks(checked, objective, operator, evaluation, way)
    except PreflightError:
        raise
    except (RuntimeError, TypeError, ValueError, MemoryError, CurvtoolError) as error:
        # A model may not cast, or its twin may not fit beside it.
        give_up(
            "The noise of rounding at kinks could not be measured in float64 "
            f"({first_line(error, most=120)}): printed errors do not include it."
        )
        return checked


def _with_kinks(
    checked: Preflight,
    objective: Objective,
    operator: HessianOperator,
    evaluation: Evaluation,
    way: str,
) -> Preflight:
    began = time.perf_counter()
    direction_P = evaluation.gradient_P
    if not float(direction_P.norm()):
        return checked
    noise = noise_over_all(objective, operator, direction_P, way=way)
    if noise is None:
        return checked
    if not noise <= ROUGHLY_ALLOWED:
        raise PreflightError(
            "The product rounds too much, or crosses kinks: over the whole dataset it is off by "
            f"{noise:.1e} from the one in float64, {ROUGHLY_ALLOWED:.1e} is allowed. Try --dtype "
            "float64. Nothing was computed, for its eigenvalues would mean nothing."
        )
    seconds = checked.seconds + time.perf_counter() - began
    if noise <= checked.noise:
        return replace(checked, seconds=seconds)
    source = "against float64 over the whole dataset"
    return replace(checked, noise=noise, noise_source=source, seconds=seconds)


def check_product(
    objective: Objective, way: str, products: int, seed: int
) -> tuple[str, Preflight]:
    """Find a way whose product is that of a Hessian.

    Args:
        objective: evaluated.
        way: a name, or `auto` for the first of those that can be right.
        products: of the solve, which decide how many examples the checks may take.
        seed: of the test vectors.

    Returns:
        The way that passed, and the checks.

    Raises:
        PreflightError: where none passes: that of the first.
    """
    examples = int(_EXAMPLES_PER_PRODUCT * products * objective.num_examples)
    least = _LEAST_COUPLED if objective.couples else _LEAST_EXAMPLES
    examples = max(least, min(EXAMPLES, examples))
    refusal: PreflightError | None = None
    for name in _BASES if way == "auto" else (way_named(way).checked_as or way,):
        try:
            exact = way_named(name).exact
            return name, preflight(objective, way=name, seed=seed, examples=examples, exact=exact)
        except PreflightError as error:
            refusal = refusal or error
    assert refusal is not None
    raise refusal
