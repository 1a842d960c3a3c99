"""A `diag` run from its config to its result."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from torch import Tensor

from curvtool.algorithms.diagonal import stochastic_diagonal
from curvtool.algorithms.diagonal_settings import DiagonalSettings
from curvtool.algorithms.estimation import Report, silent
from curvtool.algorithms.exact_diagonal import dense_diagonal
from curvtool.algorithms.space import space_of
from curvtool.config import DiagConfig
from curvtool.pipeline.continuing import ready, recorded, recorded_sum
from curvtool.pipeline.demand import Tell
from curvtool.pipeline.layers import layers_of
from curvtool.pipeline.loading import Loaded
from curvtool.pipeline.opening import opened
from curvtool.pipeline.preparing import Prepared
from curvtool.pipeline.records import solve_record
from curvtool.pipeline.referencing import reference_of
from curvtool.pipeline.resources import computing
from curvtool.pipeline.sharded import ShardedPrepared
from curvtool.pipeline.trace import as_rows, demand_of, most_vectors
from curvtool.results import DiagonalEstimate, DiagRun, Outcome
from curvtool.resuming.session import Session

# So few parameters are multiplied one by one: a pilot and its float64 take 12 products and know
# little, and rows go through one pass together.
DENSE_AT_ONCE = 128


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
        most = most_vectors(memory, objective)
        demand = demand_of(config, objective, memory, most if vectors is None else len(vectors))
        prepared = ready(config, objective, memory, demand, tell, session)
        settings = DiagonalSettings(
            rel_err=config.rel_err,
            max_hvps=config.max_hvps,
            probes=config.probes,
            sharing=config.sharing,
            layers=layers_of(objective.layout, config.group),
            most_vectors=most,
            seed=config.compute.seed,
            noise=prepared.preflight.noise,
        )
        tell("estimating the diagonal")
        estimate = _estimate(config, prepared, session, settings, vectors, report)
    return DiagRun(
        estimate=estimate,
        **solve_record(
            config, loaded, prepared, began=began, seconds=estimate.seconds, hvps=estimate.hvps
        ),
    )


def _estimate(
    config: DiagConfig,
    prepared: Prepared | ShardedPrepared,
    session: Session | None,
    settings: DiagonalSettings,
    vectors: Tensor | None,
    report: Report,
) -> DiagonalEstimate:
    P = prepared.objective.size
    may_be_dense = not config.compute.shard_params and config.max_hvps >= P

    def exactly() -> DiagonalEstimate:
        whole = recorded(prepared, session, whole_vectors=True)
        reference = reference_of(prepared, session, whole_vectors=True)
        return dense_diagonal(whole, replace(settings, reference=reference), report=report)

    if may_be_dense and P <= DENSE_AT_ONCE:
        return exactly()
    operator = recorded_sum(prepared, session)
    asked = replace(
        settings,
        dense_from=P if may_be_dense else None,
        reference=reference_of(prepared, session),
    )
    vectors = None if vectors is None else space_of(operator).share(vectors)
    found = stochastic_diagonal(operator, asked, vectors=vectors, report=report)
    spent = int(found.hvps)
    if found.outcome is Outcome.CONVERGED or not may_be_dense or spent + P > config.max_hvps:
        return found
    exact = exactly()
    return replace(
        exact,
        hvps=exact.hvps + spent,
        reason=f"{exact.reason} {spent} products said that random probes would not be cheaper.",
    )
