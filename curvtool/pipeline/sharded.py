"""Solves of models whose parameters are shared out over ranks (`--shard-params`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch

from curvtool.config import ComputeConfig, ProblemConfig
from curvtool.distributed.group import Group
from curvtool.errors import InputError
from curvtool.operators.sharding.hessian import ShardedHessian
from curvtool.operators.sharding.placing import ShardedModule
from curvtool.operators.sharding.preflight import preflight_sharded
from curvtool.pipeline.demand import Demand, Tell
from curvtool.pipeline.subject import Measured
from curvtool.problem.batch import Loss
from curvtool.problem.parameters import ParameterLayout
from curvtool.problem.stored import AnyBatch
from curvtool.results import Plan, Preflight

WAY = "sharded-forward-over-reverse"
# Examples of the preflight, for each rank.
_EXAMPLES = 4


@final
@dataclass(frozen=True, eq=False)
class ShardedModel:
    """A model of which this rank has its part.

    Attributes:
        module: in the dtype of the run.
        twin: makes the same in float64, for the preflight.
    """

    module: ShardedModule
    twin: Callable[[], ShardedModule]


def require_shardable(problem: ProblemConfig, compute: ComputeConfig) -> None:
    """Refuse what sharded parameters cannot serve, before anything is read.

    Args:
        problem: model, data and loss.
        compute: where and how precisely.

    Raises:
        InputError: for an option that needs the whole model on every rank.
    """
    for wanted, option in (
        (problem.partial, "--partial"),
        (problem.skip_unused, "--skip-unused"),
        (problem.train_mode, "--train-mode"),
        (compute.hvp != "auto", "--hvp"),
    ):
        if wanted:
            raise InputError(
                f"{option} needs the whole model on every rank, and with --shard-params none has "
                "it. Leave one of them out."
            )


@final
class ShardedSubject:
    """The mean loss of such a model; see `Subject`."""

    def __init__(
        self, model: ShardedModel, loss: Loss, batches: Sequence[AnyBatch], *, weight_decay: float
    ) -> None:
        self.model, self.loss, self.batches = model, loss, batches
        self.weight_decay = weight_decay
        self.hessian = self.of(model.module, batches)

    def of(self, module: ShardedModule, batches: Sequence[AnyBatch]) -> ShardedHessian:
        """H over other batches, or of a twin."""
        return ShardedHessian(module, self.loss, batches, weight_decay=self.weight_decay)

    @property
    def group(self) -> Group:
        """The ranks."""
        return self.hessian.group

    @property
    def size(self) -> int:
        """P."""
        return self.hessian.size

    @property
    def dtype(self) -> torch.dtype:
        """Of parameters and vectors."""
        return self.hessian.dtype

    @property
    def device(self) -> torch.device:
        """Of this rank's parts."""
        return self.hessian.device

    @property
    def layout(self) -> ParameterLayout:
        """Of the flat vector."""
        return self.hessian.layout

    @property
    def notes(self) -> Sequence[str]:
        """What a reader of the result has to know."""
        return self.model.module.notes

    @property
    def num_examples(self) -> int:
        """Of the dataset."""
        return sum(batch.examples for batch in self.batches)

    @property
    def num_batches(self) -> int:
        """Of the dataset."""
        return len(self.batches)

    @property
    def total_weight(self) -> float:
        """Denominator of the mean."""
        return self.hessian.total_weight


@final
@dataclass(frozen=True, eq=False)
class ShardedPrepared:
    """All that a solve needs.

    Attributes:
        objective: the function.
        measured: its value at the checkpoint.
        memory: bytes that the run may use.
        demand: of the solve.
        preflight: that the product passed.
    """

    objective: ShardedSubject
    measured: Measured
    memory: int
    demand: Demand
    preflight: Preflight
    whole: None = None

    def plan(self, *, seconds_per_product: float | None, hvps: float = 0.0) -> Plan:
        """The record of how products are made."""
        group = self.objective.group
        return Plan(
            way=WAY,
            device=str(self.objective.device),
            dtype=str(self.objective.dtype).removeprefix("torch."),
            batches_kept=0,
            num_batches=self.objective.num_batches,
            bytes_kept=0,
            bytes_basis=self.demand.basis_bytes,
            memory_limit=self.memory,
            seconds_per_product=seconds_per_product,
            reason="parameters are shared out: gathered for a call, and again on the way back",
            planning_seconds=self.preflight.seconds,
            ranks=group.size,
            bytes_moved=group.traffic / max(1.0, hvps),
            waiting=group.waited,
        )


def ready_sharded(
    objective: ShardedSubject, memory: int, demand: Demand, tell: Tell, *, seed: int
) -> ShardedPrepared:
    """Evaluate and check.

    Args:
        objective: of the solve.
        memory: bytes that the run may use.
        demand: of the solve.
        tell: told of every stage in a sentence.
        seed: of the test vectors.

    Returns:
        All that the solve needs. Costs a gradient, and some 20 of a few examples in float64, for
        which this rank holds its part of the parameters in float64, too.

    Raises:
        InputError: where loss or gradient are not finite, or the gradient is zero.
        PreflightError: when the product is not that of a Hessian.
    """  # raised below
    tell(f"evaluating the loss on {objective.num_examples:,} examples")
    began = time.perf_counter()
    there = objective.hessian.evaluate()
    square = (there.gradient_p.double() ** 2).sum().view(1)
    norm = float(objective.group.sum_(square)) ** 0.5
    if not (norm < float("inf") and abs(there.loss) < float("inf")):
        raise InputError(
            f"The loss at the checkpoint is {there.loss:g} and its gradient is not finite: "
            "curvature has no meaning there. Check the data's normalisation, or try --dtype "
            "float64."
        )
    if not norm:
        raise InputError(
            "The gradient at the checkpoint is zero in every parameter: the loss does not depend "
            "on them, or is fitted to the last bit. Nothing could be checked."
        )
    tell(
        "checking the product against float64 differences "
        f"({time.perf_counter() - began:.1f} s a gradient)"
    )
    few = _few(objective)
    twin = objective.of(objective.model.twin(), few)
    found = preflight_sharded(objective.of(objective.model.module, few), twin, seed=seed)
    del twin
    # What moved so far is not the products'.
    objective.group.traffic = 0
    return ShardedPrepared(
        objective, Measured(loss=there.loss, gradient_norm=norm), memory, demand, found
    )


def _few(objective: ShardedSubject) -> list[AnyBatch]:
    """Examples of the first batches, several for every rank."""
    wanted = _EXAMPLES * objective.group.size
    for batch in objective.batches:
        if batch.examples >= objective.group.size:
            return [batch.part(0, min(batch.examples, wanted))]
    return list(objective.batches)


def decided(prepared: ShardedPrepared, memory_option: int | None) -> dict[str, Any]:
    """What a state of the run says of it."""
    return {
        "way": WAY,
        "device": str(prepared.objective.device),
        "memory": prepared.memory,
        "memory_option": memory_option,
    }
