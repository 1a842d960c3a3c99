"""A `density` run from its config to its result."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from curvtool.algorithms.estimation import Report, silent
from curvtool.algorithms.quadrature import DensitySettings, density
from curvtool.algorithms.spectral_functions import (
    effective_dimension,
    log_determinant,
    numerical_rank,
    schatten_norm,
)
from curvtool.config import DensityConfig
from curvtool.errors import InputError
from curvtool.operators.base import SymmetricOperator
from curvtool.pipeline.continuing import ready, recorded
from curvtool.pipeline.demand import Demand, Tell
from curvtool.pipeline.layers import grouped
from curvtool.pipeline.loading import Loaded
from curvtool.pipeline.opening import opened
from curvtool.pipeline.preparing import Prepared
from curvtool.pipeline.records import solve_record
from curvtool.pipeline.resources import computing
from curvtool.pipeline.sharded import ShardedPrepared
from curvtool.pipeline.subject import Subject
from curvtool.problem.wording import in_bytes
from curvtool.results import DensityEstimate, DensityRun, FloatArray, SpectralFunction
from curvtool.resuming.session import Session

# Vectors that a probe holds beside its basis.
WORKING_VECTORS = 6
# The basis may take so much of the memory; beyond, the recurrence does without one.
SHARE_OF_BASIS = 0.5
# Effective dimension and log-determinant where no damping is named: of the largest node.
DEFAULT_DAMPING = 1e-3


def run_density(
    config: DensityConfig,
    loaded: Loaded,
    *,
    outliers: FloatArray | None = None,
    report: Report = silent,
    tell: Tell = lambda _: None,
    session: Session | None = None,
) -> DensityRun:
    """Estimate the density that the config asks for, or one for every layer's block.

    Args:
        config: the run.
        loaded: from `load`; its module is moved and cast, so that it serves one run.
        outliers: eigenvalues from a spectrum run, drawn over the density.
        report: told of every probe.
        tell: told of every stage in a sentence.
        session: of a run that can be continued.

    Returns:
        The run, ready to be stored and shown.

    Raises:
        InputError: when model, data or limits cannot be used.
    """
    began = time.perf_counter()
    with computing():
        objective, memory = opened(config, loaded, session)
        layers = grouped(objective.layout, config.group) if config.per_layer else {}
        sizes = [sum(objective.layout.sizes[i] for i in places) for places in layers.values()]
        keeps_basis, demand = _demand(config, objective, memory, sizes or [objective.size])
        prepared = ready(config, objective, memory, demand, tell, session)
        settings = DensitySettings(
            steps=config.steps,
            probes=config.num_probes,
            kind=config.probes,
            reorthogonalize=keeps_basis,
            sigma=config.sigma,
            seed=config.compute.seed,
            noise=prepared.preflight.noise,
        )
        estimates = []
        for name, operator in _blocks(prepared, layers, session):
            tell(f"the density of {name}" if name else "estimating the density")
            found = density(operator, settings, outliers=outliers, report=report)
            functions = tuple(_functions(config, found))
            estimates.append(replace(found, layer=name, functions=functions))
    return DensityRun(
        estimates=tuple(estimates),
        **solve_record(
            config,
            loaded,
            prepared,
            began=began,
            seconds=sum(e.seconds for e in estimates),
            hvps=sum(e.hvps for e in estimates),
        ),
    )


def _blocks(
    prepared: Prepared | ShardedPrepared, layers: dict[str, list[int]], session: Session | None
) -> Iterator[tuple[str, SymmetricOperator]]:
    if not layers:
        yield "", recorded(prepared, session)
    for name, places in layers.items():
        yield name, recorded(prepared, session, block=(name, places), whole_vectors=True)


def _functions(config: DensityConfig, found: DensityEstimate) -> Iterator[SpectralFunction]:
    largest = float(np.nanmax(np.abs(found.nodes)))
    for p in config.schatten:
        yield schatten_norm(found, p)
    yield numerical_rank(found, found.tau if config.threshold is None else config.threshold)
    if not config.damping and not largest:
        return
    for a in config.damping or (DEFAULT_DAMPING * largest,):
        yield effective_dimension(found, a)
        yield log_determinant(found, a)


def _demand(
    config: DensityConfig, objective: Subject, memory: int, sizes: Sequence[int]
) -> tuple[bool, Demand]:
    """Whether bases are kept orthogonal, and what the estimates of matrices of such sizes take."""
    number = objective.dtype.itemsize
    working = WORKING_VECTORS * objective.size * number
    # One basis is held at a time: that of the largest block.
    largest = max(min(config.steps, size) * size for size in sizes) * number
    fits = largest + working <= SHARE_OF_BASIS * memory
    keeps = fits if config.reorthogonalize is None else config.reorthogonalize
    basis = largest if keeps else 0
    needed = basis + working
    if needed > memory:
        raise InputError(
            f"The vectors of this density take {in_bytes(needed)}, --memory allows "
            f"{in_bytes(memory)}. Take fewer --steps, leave --reorthogonalize out, or allow more."
        )
    products = config.num_probes * sum(min(config.steps, size) for size in sizes)
    return keeps, Demand(products=products, basis_bytes=basis, vector_bytes=working)
