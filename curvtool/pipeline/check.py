"""A `check` run: everything of a `spectrum` run but the solve."""

from __future__ import annotations

import time
from importlib.metadata import version

from curvtool.config import SpectrumConfig
from curvtool.environment import now
from curvtool.pipeline.demand import Tell
from curvtool.pipeline.loading import Loaded
from curvtool.pipeline.preparing import prepare
from curvtool.pipeline.records import config_record, environment_record, problem_record
from curvtool.pipeline.resources import computing
from curvtool.pipeline.spectrum import sized_solve
from curvtool.problem.objective import Objective
from curvtool.results import CheckRun


def run_check(config: SpectrumConfig, loaded: Loaded, *, tell: Tell = lambda _: None) -> CheckRun:
    """Evaluate the loss, check the product, and plan the solve that the config asks for.

    Args:
        config: the solve.
        loaded: from `load`; its module is moved and cast, so that it serves one run.
        tell: told of every stage in a sentence.

    Returns:
        What `curvtool check` shows.

    Raises:
        InputError: when model, data or limits cannot be used.
        PreflightError: when the product is not that of a Hessian.
    """
    began = time.perf_counter()
    with computing():
        sized = sized_solve(config, loaded)
        assert isinstance(sized.objective, Objective)  # `check` runs in one process
        prepared = prepare(config, sized.objective, sized.memory, sized.demand, tell)
    objective = prepared.objective
    return CheckRun(
        problem=problem_record(config.problem, loaded.problem, objective, prepared.measured),
        plan=prepared.plan(seconds_per_product=None),
        preflight=prepared.preflight,
        config=config_record(config),
        environment=environment_record(loaded, objective.device),
        seconds=time.perf_counter() - began,
        version=version("curvtool"),
        created=now(),
    )
