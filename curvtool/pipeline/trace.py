"""A `trace` run from its config to its result."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from curvtool.algorithms.estimation import Report, TraceSettings, silent
from curvtool.algorithms.exact import exact_trace
from curvtool.algorithms.hutchinson import hutchinson
from curvtool.algorithms.sketched import hutch_plus_plus, xtrace
from curvtool.algorithms.space import space_of
from curvtool.config import DiagConfig, TraceConfig
from curvtool.errors import InputError
from curvtool.pipeline.continuing import ready, recorded, recorded_sum
from curvtool.pipeline.demand import Demand, Tell
from curvtool.pipeline.layers import layers_of
from curvtool.pipeline.loading import Loaded
from curvtool.pipeline.opening import opened
from curvtool.pipeline.preparing import Prepared
from curvtool.pipeline.records import solve_record
from curvtool.pipeline.referencing import reference_of
from curvtool.pipeline.resources import computing
from curvtool.pipeline.sharded import ShardedPrepared
from curvtool.pipeline.subject import Subject
from curvtool.problem.wording import in_bytes
from curvtool.results import Outcome, TraceEstimate, TraceRun
from curvtool.resuming.session import Session

# Vectors of P numbers that an estimate holds beside those of deflation or sketch.
WORKING_VECTORS = 8
# The share of the memory that directions and sketches may take.
SHARE_OF_VECTORS = 0.25
MOST_VECTORS = 64
# Two probes of XTrace hold two each; where even these do not fit, the demand says so.
LEAST_VECTORS = 4
# A guess of products for the plan: 1 % took 20 to 300 on the networks of the benchmarks.
EXPECTED = 100
# So few parameters are multiplied one by one, without asking what probes would take.
SURELY_DENSE = 32


def run_trace(
    config: TraceConfig,
    loaded: Loaded,
    *,
    directions: Any = None,
    report: Report = silent,
    tell: Tell = lambda _: None,
    session: Session | None = None,
) -> TraceRun:
    """Estimate the trace that the config asks for.

    Args:
        config: the run.
        loaded: from `load`; its module is moved and cast, so that it serves one run.
        directions: eigenvectors to take out exactly, shape (k, P), of numpy.
        report: told of every product.
        tell: told of every stage in a sentence.
        session: of a run that can be continued.

    Returns:
        The run, ready to be stored and shown.

    Raises:
        InputError: when model, data or limits cannot be used.
        PreflightError: when the product is not that of a Hessian.
    """  # raised below
    began = time.perf_counter()
    with computing():
        objective, memory = opened(config, loaded, session)
        vectors = as_rows(directions, objective, max_hvps=config.max_hvps, passes=1)
        most = most_vectors(memory, objective)
        demand = demand_of(config, objective, memory, most if vectors is None else len(vectors))
        prepared = ready(config, objective, memory, demand, tell, session)
        settings = TraceSettings(
            rel_err=config.rel_err,
            abs_err=config.abs_err,
            confidence=config.confidence,
            max_hvps=config.max_hvps,
            probes=config.probes,
            sharing=config.sharing,
            frobenius=config.frobenius,
            layers=layers_of(objective.layout, config.group) if config.per_layer else (),
            lanczos=config.lanczos,
            most_vectors=most,
            seed=config.compute.seed,
            noise=prepared.preflight.noise,
        )
        tell("estimating the trace")
        estimate = _estimate(config, prepared, session, settings, vectors, report)
    return TraceRun(
        estimate=estimate,
        **solve_record(
            config, loaded, prepared, began=began, seconds=estimate.seconds, hvps=estimate.hvps
        ),
    )


def _weighted(estimate: TraceEstimate, term_shares: Sequence[float]) -> TraceEstimate:
    """The samples as those of the batches' own Hessians, beside the batches' weights."""
    if estimate.sharing != "per-batch":
        return estimate
    shares = np.array(term_shares)
    return replace(estimate, samples=estimate.samples / shares, batch_weight=shares)


def _estimate(
    config: TraceConfig,
    prepared: Prepared | ShardedPrepared,
    session: Session | None,
    settings: TraceSettings,
    vectors: Tensor | None,
    report: Report,
) -> TraceEstimate:
    P = prepared.objective.size

    def exactly() -> TraceEstimate:
        whole = recorded(prepared, session, whole_vectors=True)
        reference = reference_of(prepared, session, whole_vectors=True)
        return exact_trace(whole, replace(settings, reference=reference), report=report)

    if config.method == "dense" or (
        config.method == "auto"
        and not config.compute.shard_params
        and min(SURELY_DENSE, config.max_hvps) >= P
    ):
        return exactly()
    operator = recorded_sum(prepared, session)
    beside = replace(settings, reference=reference_of(prepared, session))
    if config.method == "hutch++":
        return hutch_plus_plus(operator, beside, report=report)
    if config.method == "xtrace":
        return xtrace(operator, beside, report=report)
    # More products than parameters are never needed: so many give the diagonal itself.
    auto = config.method == "auto"
    most = replace(beside, max_hvps=min(P, config.max_hvps)) if auto else beside
    vectors = None if vectors is None else space_of(operator).share(vectors)
    found = hutchinson(operator, most, vectors=vectors, report=report)
    found = _weighted(found, operator.term_shares)
    spent = int(found.hvps)
    if (
        config.compute.shard_params
        or not auto
        or found.outcome is Outcome.CONVERGED
        or spent + P > config.max_hvps
    ):
        return found
    exact = exactly()
    return replace(
        exact,
        hvps=exact.hvps + spent,
        hvps_by_stage={**exact.hvps_by_stage, "pilot": spent},
        reason=f"{exact.reason} {spent} products with random probes did not get there first.",
    )


def most_vectors(memory: int, objective: Subject) -> int:
    """Vectors of P numbers that deflation or a sketch may hold."""
    vector = objective.size * objective.dtype.itemsize
    return max(LEAST_VECTORS, min(MOST_VECTORS, int(SHARE_OF_VECTORS * memory / vector)))


def demand_of(
    config: TraceConfig | DiagConfig,
    objective: Subject,
    memory: int,
    vectors: int,
) -> Demand:
    """What an estimate takes.

    Args:
        config: the run.
        objective: for P and its dtype.
        memory: bytes that the run may use.
        vectors: that it may hold beside its working ones.

    Returns:
        Products and memory.

    Raises:
        InputError: where the vectors alone do not fit.
    """
    vector = objective.size * objective.dtype.itemsize
    # A Lanczos of its own holds its basis and the Ritz vectors.
    basis = 2 * min(vectors, objective.size) * vector
    needed = basis + WORKING_VECTORS * vector
    if needed > memory:
        raise InputError(
            f"The vectors of this estimate take {in_bytes(needed)}, --memory allows "
            f"{in_bytes(memory)}. Allow more, or restrict H with --params."
        )
    return Demand(
        products=min(EXPECTED, config.max_hvps, objective.size),
        basis_bytes=basis,
        vector_bytes=WORKING_VECTORS * vector,
        blocks=isinstance(config, TraceConfig) and config.method == "dense",
    )


def as_rows(directions: Any, objective: Subject, *, max_hvps: int, passes: int) -> Tensor | None:
    """Directions from a file on the device, in the objective's dtype.

    Args:
        directions: shape (k, P), or None.
        objective: for device and dtype.
        max_hvps: products that may be spent; each direction takes one.
        passes: that have to be left.

    Returns:
        The directions.

    Raises:
        InputError: where they leave no products for probes.
    """
    if directions is None:
        return None
    if len(directions) + passes > max_hvps:
        raise InputError(
            f"--deflate spends a product on each of {len(directions)} directions, and --max-hvps "
            f"is {max_hvps}. Allow {len(directions) + passes} at least, or deflate by fewer."
        )
    return torch.as_tensor(directions).to(device=objective.device, dtype=objective.dtype)
