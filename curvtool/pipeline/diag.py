"""A `diag` run from its config to its result."""

from __future__ import annotations

import time
from typing import Any

from curvtool.algorithms.diagonal import DiagonalSettings, dense_diagonal, stochastic_diagonal
from curvtool.algorithms.estimation import Report, silent
from curvtool.algorithms.space import space_of
from curvtool.config import DiagConfig
from curvtool.pipeline.continuing import ready, recorded, recorded_sum
from curvtool.pipeline.demand import Tell
from curvtool.pipeline.layers import layers_of
from curvtool.pipeline.loading import Loaded
from curvtool.pipeline.opening import opened
from curvtool.pipeline.records import solve_record
from curvtool.pipeline.resources import computing
from curvtool.pipeline.trace import SURELY_DENSE, as_rows, demand_of
from curvtool.results import DiagRun
from curvtool.resuming.session import Session


def run_diag(
    config: DiagConfig,
    loaded: Loaded,
    *,
    directions: Any = None,
    report: Report = silent,
    tell: Tell = lambda _: None,
    session: Session | None = None,
) -> DiagRun:
    """Estimate the diagonal that the config asks for.

    Args:
        config: the run.
        loaded: from `load`; its module is moved and cast, so that it serves one run.
        directions: eigenvectors to take out exactly, shape (k, P), of numpy.
        report: told of every product.
        tell: told of every stage in a sentence.
        session: of a run that can be continued.

    Returns:
        The run, ready to be stored and shown.
    """
    began = time.perf_counter()
    with computing():
        objective, memory = opened(config, loaded, session)
        vectors = as_rows(directions, objective, max_hvps=config.max_hvps, passes=2)
        demand = demand_of(config, objective, memory, 0 if vectors is None else len(vectors))
        prepared = ready(config, objective, memory, demand, tell, session)
        settings = DiagonalSettings(
            rel_err=config.rel_err,
            max_hvps=config.max_hvps,
            probes=config.probes,
            sharing=config.sharing,
            layers=layers_of(objective.layout, config.group),
            seed=config.compute.seed,
            noise=prepared.preflight.noise,
        )
        few = objective.size <= min(SURELY_DENSE, config.max_hvps)
        dense = few and not config.compute.shard_params
        tell("estimating the diagonal")
        if dense:
            operator = recorded(prepared, session, whole_vectors=True)
            estimate = dense_diagonal(operator, settings, report=report)
        else:
            operator = recorded_sum(prepared, session)
            vectors = None if vectors is None else space_of(operator).share(vectors)
            estimate = stochastic_diagonal(operator, settings, vectors=vectors, report=report)
    return DiagRun(
        estimate=estimate,
        **solve_record(
            config, loaded, prepared, began=began, seconds=estimate.seconds, hvps=estimate.hvps
        ),
    )
