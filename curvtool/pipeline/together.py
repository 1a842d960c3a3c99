"""A solve that several processes make ready together: rank 0 decides, the others take it over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from curvtool.distributed.group import Group, shared_sum
from curvtool.operators.ways.registry import way_named
from curvtool.pipeline.demand import Tell
from curvtool.pipeline.preparing import Prepared, Whole, with_kinks
from curvtool.problem.objective import Evaluation, Objective

Decisions = Mapping[str, Any]


def prepared_together(
    group: Group,
    first: Callable[[], Prepared],
    decided: Callable[[Prepared], Decisions],
    taken_over: Callable[[Decisions], Prepared],
    tell: Tell,
    *,
    afresh: bool,
) -> Prepared:
    """Check and plan on rank 0, with its share of the examples, and do likewise on the others.

    Args:
        group: the processes.
        first: evaluates, checks and plans; called on rank 0.
        decided: what was decided, as JSON values.
        taken_over: makes the same of decisions; called on the others.
        tell: told in a sentence what a user should know.
        afresh: whether nothing was taken over from an earlier run, so that noise is measured.

    Returns:
        The solve of this process's share, with the evaluation of the whole dataset, and the largest
        noise of all shares.

    Raises:
        InputError: when model, data or limits cannot be used.
        PreflightError: when the product is not that of a Hessian.
    """  # raised below
    made: Prepared | None = None

    def decide() -> tuple[Decisions, bool]:
        nonlocal made
        made = first()
        return decided(made), afresh

    decisions, is_new = group.from_first(decide)
    if made is None:
        made = taken_over(decisions)
        if is_new and not made.demand.certified:
            operator = made.planned.operator
            way = way_named(operator.way).checked_as or operator.way
            found = with_kinks(made.preflight, made.objective, operator, made.evaluation, way, tell)
            made = replace(made, preflight=found)
    noises = group.of_all(made.preflight.noise)
    loudest = max(range(group.size), key=lambda rank: noises[rank])
    checked = made.preflight
    if noises[loudest] > noises[0]:
        source = f"against float64 over the examples of rank {loudest}"
        checked = replace(checked, noise=noises[loudest], noise_source=source)
    evaluation, whole = evaluated_together(group, made.objective, made.evaluation)
    return replace(made, preflight=checked, evaluation=evaluation, whole=whole)


def evaluated_together(
    group: Group, objective: Objective, evaluation: Evaluation
) -> tuple[Evaluation, Whole]:
    """Loss, gradient and score of the whole dataset.

    Args:
        group: the processes.
        objective: of this process's share, evaluated.
        evaluation: of that share.

    Returns:
        The evaluation, and what the whole is. One all-reduce of P numbers.
    """
    weight = objective.total_weight
    total, examples = shared_sum(group, [weight, objective.num_examples])
    share = weight / total
    (loss,) = shared_sum(group, [share * evaluation.loss])
    scores = group.of_all(evaluation.score)
    score = scores[0]
    for other in scores[1:]:
        score = score.joined(other)
    gradient_P = group.sum_(evaluation.gradient_P.to(torch.float64) * share)
    batches = {place for places in group.of_all(objective.places) for place in places}
    whole = Whole(group, share, int(examples), len(batches), total)
    found = replace(evaluation, loss=loss, gradient_P=gradient_P.to(objective.dtype), score=score)
    return found, whole
