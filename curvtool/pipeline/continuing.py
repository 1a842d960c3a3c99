"""A solve that is ready to go on: as an earlier run prepared it, or prepared now.

What an earlier run measured is not measured again, so that sums are made in the same order and a
run that was interrupted ends with the bits of one that was not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from curvtool.errors import InputError
from curvtool.operators.base import MeanOperator, SymmetricOperator
from curvtool.operators.hessian import HessianOperator
from curvtool.operators.planning.planner import Planned
from curvtool.operators.recorded import Recorded, RecordedSum
from curvtool.operators.restricted import RestrictedHessian
from curvtool.operators.sharing import ShardedSum, Summed, SummedSum, shared_out
from curvtool.operators.workers import Workers
from curvtool.pipeline.demand import Demand, Tell
from curvtool.pipeline.preparing import Config, Prepared, prepare
from curvtool.pipeline.resources import within_memory
from curvtool.pipeline.sharded import (
    ShardedPrepared,
    ShardedSubject,
    decided,
    ready_sharded,
)
from curvtool.pipeline.together import prepared_together
from curvtool.problem.objective import Objective
from curvtool.problem.wording import in_bytes
from curvtool.resuming.session import Session, planned_of, preflight_of

# More than any machine has; without a limit what is kept would not be counted.
_NO_LIMIT = 2**62
TO_ROUNDING = "the result will be that of an uninterrupted run to rounding, not to the bit"


def ready(
    config: Config,
    objective: Objective | ShardedSubject,
    memory: int,
    demand: Demand,
    tell: Tell,
    session: Session | None,
    *,
    began: str = "",
) -> Prepared | ShardedPrepared:
    """Evaluate, check and plan, or take that over from an earlier run.

    Args:
        config: the run; `computing` stands around the call.
        objective: from `opened`.
        memory: bytes that the run may use.
        demand: of the solve.
        tell: told of every stage in a sentence.
        session: of a run that can be continued; None for one that cannot.
        began: name of the run that the solve begins from, if any.

    Returns:
        All that the solve needs.

    Raises:
        InputError: when model, data or limits cannot be used.
        PreflightError: when the product is not that of a Hessian.
    """  # raised below
    given = config.compute.memory
    if isinstance(objective, ShardedSubject):
        sharded = ready_sharded(objective, memory, demand, tell, seed=config.compute.seed)
        if session is not None:
            session.begin(lambda: {**decided(sharded, given), "started_from": began})
        return sharded
    decisions = None if session is None else session.decisions
    if decisions is not None and decisions["device"] != str(objective.device):
        tell(f"continuing on {objective.device}, no longer on {decisions['device']}: {TO_ROUNDING}")
        decisions = None

    def made() -> Prepared:
        if decisions is None:
            return prepare(config, objective, memory, demand, tell)
        return _taken_over(objective, memory, demand, decisions, tell)

    if session is None or session.group.size == 1:
        prepared = made()
    else:
        prepared = prepared_together(
            session.group,
            made,
            lambda first: _decided(first, given),
            lambda theirs: _taken_over(objective, memory, demand, theirs, tell),
            tell,
            afresh=decisions is None,
        )
    if session is not None:
        session.begin(lambda: {**_decided(prepared, given), "started_from": began})
    return prepared


def recorded(
    prepared: Prepared | ShardedPrepared,
    session: Session | None,
    *,
    block: tuple[str, Sequence[int]] | None = None,
    whole_vectors: bool = False,
) -> SymmetricOperator:
    """The operator of a solve, with its products on record, and the sums inside them.

    Args:
        prepared: by `ready`.
        session: None where nothing is recorded.
        block: name and tensors of a diagonal block that is meant; None for the whole.
        whole_vectors: whether every process has whole vectors: for solvers that need them.

    Returns:
        The operator; of several processes, their sum.

    Raises:
        InputError: for whole vectors or a block where parameters are shared out.
    """
    if block is None and not whole_vectors:
        return recorded_sum(prepared, session)
    if isinstance(prepared, ShardedPrepared):
        raise InputError(
            "With --shard-params no rank has a whole vector, which this method or --per-layer "
            "needs. Use --method lanczos or power for a spectrum, hutchinson for a trace, leave "
            "--per-layer out of spectrum and density, or run without --shard-params."
        )
    operator = prepared.planned.operator
    name, places = block or ("", ())
    made = operator if block is None else RestrictedHessian(operator, places)
    if session is None:
        return made
    operator.recorder = session.local_recorder
    label = f"{name}: " if block is not None else ""
    if prepared.whole is None:
        return Recorded(made, session.recorder, label)
    summed = Summed(made, prepared.whole.group, share=prepared.whole.share)
    summed.local_recorder = session.local_recorder
    return Recorded(summed, session.recorder, f"{label}whole ")


def recorded_sum(prepared: Prepared | ShardedPrepared, session: Session | None) -> MeanOperator:
    """The same of the whole, which is a sum of terms; processes share its vectors out."""
    if isinstance(prepared, ShardedPrepared):
        hessian = prepared.objective.hessian
        return hessian if session is None else RecordedSum(hessian, session.recorder)
    operator, whole = prepared.planned.operator, prepared.whole
    if session is None:
        return operator
    operator.recorder = session.local_recorder
    if whole is None:
        return RecordedSum(operator, session.recorder)
    summed: ShardedSum | SummedSum
    if shared_out(operator, whole.group):
        places = operator.objective.batches_of_terms
        summed = ShardedSum(operator, whole.group, share=whole.share, batches=places)
    else:
        summed = SummedSum(operator, whole.group, share=whole.share)
    summed.local_recorder = session.local_recorder
    return RecordedSum(summed, session.recorder)


def _decided(prepared: Prepared, memory_option: int | None) -> dict[str, Any]:
    """All that a run which continues this one does not measure again, as JSON values."""
    operator, planned = prepared.planned.operator, prepared.planned
    objective = prepared.objective
    return {
        "device": str(objective.device),
        "threads": torch.get_num_threads(),
        "memory": prepared.memory,
        "memory_option": memory_option,
        "loss": prepared.evaluation.loss,
        "halvings_before": prepared.halvings,
        "halvings": objective.halvings,
        "way": operator.way,
        "rest": operator.rest,
        "kept": len(operator.kept),
        "bytes_kept": operator.bytes_kept,
        "workers": operator.workers.count if operator.workers else 0,
        "block": operator.block,
        "given_up": [*prepared.given_up, *operator.adjustments],
        "reason": planned.reason,
        "forecast": asdict(planned.forecast),
        "trials": [asdict(trial) for trial in planned.trials],
        "seconds": planned.seconds,
        "noise": planned.noise,
        "preflight": asdict(prepared.preflight),
    }


def _taken_over(
    objective: Objective,
    memory: int,
    demand: Demand,
    decisions: Mapping[str, Any],
    tell: Tell,
) -> Prepared:
    given_up: list[str] = list(decisions["given_up"])

    def give_up(sentence: str) -> None:
        given_up.append(sentence)
        tell(f"{sentence.rstrip('.')}: {TO_ROUNDING}")

    threads = decisions["threads"]
    if threads > torch.get_num_threads():
        tell(f"there are {torch.get_num_threads()} threads, no longer {threads}: {TO_ROUNDING}")
    else:
        torch.set_num_threads(threads)
    _halve(objective, decisions["halvings_before"])
    tell(f"continuing: evaluating the loss on {objective.num_examples:,} examples")
    evaluation = within_memory(objective, objective.evaluate, give_up)
    if evaluation.loss != decisions["loss"]:
        tell(f"this machine rounds the loss otherwise: {TO_ROUNDING}")
    before = objective.halvings
    _halve(objective, decisions["halvings"] - objective.halvings)
    kept, room = decisions["kept"], memory - demand.basis_bytes - demand.vector_bytes
    fits = decisions["bytes_kept"] <= room
    if not fits:
        tell(
            f"what is kept of {kept} batches takes {in_bytes(decisions['bytes_kept'])}, and there "
            f"is room for {in_bytes(max(0, room))}: {TO_ROUNDING}"
        )
    operator = HessianOperator(
        objective,
        way=decisions["way"],
        rest=decisions["rest"],
        graph_memory=_NO_LIMIT if fits else max(0, room),
        most_kept=kept,
        tell=tell,
    )
    if decisions["workers"] and operator.concurrent:
        operator.workers = Workers(decisions["workers"], operator.dtype)
    operator.block = decisions["block"]
    planned = Planned(
        operator=operator,
        reason=decisions["reason"],
        seconds=decisions["seconds"],
        noise=decisions["noise"],
        **planned_of(decisions),
    )
    preflight = preflight_of(decisions)
    return Prepared(
        objective=objective,
        evaluation=evaluation,
        memory=memory,
        demand=demand,
        preflight=preflight,
        planned=planned,
        given_up=tuple(given_up),
        halvings=before,
    )


def _halve(objective: Objective, times: int) -> None:
    for _ in range(times):
        objective.halve_batches()
