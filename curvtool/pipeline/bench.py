"""A `bench` run: every way to make a product, on one batch of the user's own model."""

from __future__ import annotations

import time
from importlib.metadata import version

import torch

from curvtool.config import BenchConfig
from curvtool.environment import now
from curvtool.errors import CurvtoolError
from curvtool.operators.memory import is_shortage
from curvtool.operators.planning.comparison import compare_ways
from curvtool.operators.planning.threads import choose_threads
from curvtool.operators.ways.registry import WAYS
from curvtool.pipeline.demand import Tell
from curvtool.pipeline.loading import Loaded
from curvtool.pipeline.preparing import check_product, opened_whole
from curvtool.pipeline.records import (
    config_record,
    environment_record,
    parameter_records,
    problem_record,
)
from curvtool.pipeline.resources import computing, within_memory
from curvtool.pipeline.subject import measured
from curvtool.problem.objective import Objective
from curvtool.results import BenchRun, Outcome

# Products that the preflight is sized for: a solve's.
_PRODUCTS = 100


def run_bench(config: BenchConfig, loaded: Loaded, *, tell: Tell = lambda _: None) -> BenchRun:
    """Compare the ways that the config names.

    Args:
        config: the run.
        loaded: from `load`; its module is moved and cast, so that it serves one run.
        tell: told of every stage in a sentence.

    Returns:
        What `curvtool bench` shows and stores.

    Raises:
        InputError: when model, data or limits cannot be used.
        PreflightError: when no exact way gives the product of a Hessian.
    """
    began = time.perf_counter()
    seed = config.compute.seed
    with computing():
        objective, _ = opened_whole(config, loaded)
        tell(f"evaluating the loss on {loaded.problem.examples:,} examples")
        evaluation = within_memory(objective, objective.evaluate, tell)
        busy = choose_threads(objective)
        if busy.sentence:
            tell(busy.sentence)
        threads = torch.get_num_threads()
        tell("checking the product against float64 differences")
        checked, preflight = check_product(objective, "auto", _PRODUCTS, seed)
        first = objective.examples(objective.active[0])
        comparison = compare_ways(
            objective.sample(first),
            _in_double(objective, first),
            config.ways or tuple(WAYS),
            checked=checked,
            noise=preflight.noise,
            rounds=config.rounds,
            seed=seed,
            tell=tell,
        )
    return BenchRun(
        problem=problem_record(config.problem, loaded.problem, objective, measured(evaluation)),
        trials=comparison.trials,
        gradient_seconds=comparison.gradient_seconds,
        batches_timed=1,
        rounds=config.rounds,
        threads=threads,
        device=str(objective.device),
        dtype=config.compute.dtype,
        outcome=Outcome.CONVERGED,
        preflight=preflight,
        parameters=parameter_records(objective),
        config=config_record(config),
        environment=environment_record(loaded, objective.device),
        seconds=time.perf_counter() - began,
        version=version("curvtool"),
        created=now(),
    )


def _in_double(objective: Objective, examples: int) -> Objective | None:
    try:
        double = objective.sample(examples, dtype=torch.float64)
        double.evaluate()
    except (RuntimeError, TypeError, ValueError, CurvtoolError) as error:
        if is_shortage(error):
            raise
        return None  # a model that does not cast is compared to the way that was checked
    return double
