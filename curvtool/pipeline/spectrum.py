"""A `spectrum` run from its config to its result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch

from curvtool.algorithms.basis import BasisPlace
from curvtool.algorithms.dense import dense
from curvtool.algorithms.external import scipy_eigsh, scipy_lobpcg
from curvtool.algorithms.lanczos import lanczos
from curvtool.algorithms.power import power_iteration
from curvtool.algorithms.settings import EigenSettings, Report, silent
from curvtool.algorithms.space import space_of
from curvtool.algorithms.warm import warm_start
from curvtool.config import SpectrumConfig
from curvtool.pipeline.continuing import ready, recorded
from curvtool.pipeline.demand import Demand, Tell
from curvtool.pipeline.loading import Loaded
from curvtool.pipeline.opening import opened
from curvtool.pipeline.records import parameter_records, solve_record
from curvtool.pipeline.referencing import noise_of, reference_of
from curvtool.pipeline.resources import computing
from curvtool.pipeline.sharded import ShardedSubject
from curvtool.pipeline.sizing import average_rows, expected_products, pairs_and_method, share_memory
from curvtool.problem.objective import Objective
from curvtool.results import EigenPairs, FloatArray, ParameterEntry, SpectrumRun
from curvtool.resuming.session import Session

_SOLVERS: dict[str, Callable[..., EigenPairs]] = {
    "dense": dense,
    "lanczos": lanczos,
    "power": power_iteration,
    "eigsh": scipy_eigsh,
    "lobpcg": scipy_lobpcg,
}
_ON_WHOLE_VECTORS = {"dense", "eigsh", "lobpcg"}


@final
@dataclass(frozen=True, eq=False)
class Neighbour:
    """A solved checkpoint of the same training, to begin from.

    Attributes:
        name: that the record says.
        parameters: which must be those of the solve, or it is no neighbour.
        eigenvalues: shape (k,).
        vectors: gives the eigenvectors one by one, in the order of the eigenvalues.
    """

    name: str
    parameters: Sequence[ParameterEntry]
    eigenvalues: FloatArray
    vectors: Callable[[], Iterable[Any]]


@final
@dataclass(frozen=True, eq=False)
class SizedSolve:
    """A solve of which P is known: what is to be done, and what it takes."""

    objective: Objective | ShardedSubject
    memory: int
    k: int
    method: str
    basis: int
    demand: Demand


def sized_solve(
    config: SpectrumConfig, loaded: Loaded, session: Session | None = None
) -> SizedSolve:
    """Choose solver, pairs and basis for the number of parameters.

    Args:
        config: the run; `computing` stands around the call.
        loaded: from `load`.
        session: of a run that can be continued.

    Returns:
        The solve, nothing computed yet.

    Raises:
        InputError: for more pairs than there are, or vectors that do not fit into the memory.
    """  # raised below
    objective, memory = opened(config, loaded, session)
    k, method = pairs_and_method(config, objective.size)
    if config.compute.shard_params and config.method == "auto" and not config.all_pairs:
        method = "lanczos"  # the matrix takes whole vectors
    room = share_memory(
        config, objective, k, method, memory, ranks=1 if session is None else session.group.size
    )
    products = expected_products(method, k, objective.size, config.max_hvps)
    demand = Demand(
        products=products,
        basis_bytes=room.basis_bytes,
        vector_bytes=room.vector_bytes,
        blocks=method == "dense",
        rows=average_rows(products, room.basis) if method == "lanczos" else 0,
        certified=True,
    )
    return SizedSolve(objective, memory, k, method, room.basis, demand)


def run_spectrum(
    config: SpectrumConfig,
    loaded: Loaded,
    *,
    report: Report = silent,
    tell: Tell = lambda _: None,
    session: Session | None = None,
    neighbour: Neighbour | None = None,
) -> SpectrumRun:
    """Compute the eigenpairs that the config asks for.

    Args:
        config: the run.
        loaded: from `load`; its module is moved and cast, so that it serves one run.
        report: told of every product of the solve.
        tell: told of every stage in a sentence.
        session: of a run that can be continued.
        neighbour: to begin from, where Lanczos solves; certificate and completeness are as ever. A
            run that began without goes on without.

    Returns:
        The run, ready to be stored and shown.

    Raises:
        InputError: when model, data or limits cannot be used.
        PreflightError: when the product is not that of a Hessian.
    """
    began = time.perf_counter()
    with computing():
        sized = sized_solve(config, loaded, session)
        start = _start(neighbour, sized, session)
        from_whom = neighbour.name if neighbour is not None and start is not None else ""
        prepared = ready(
            config, sized.objective, sized.memory, sized.demand, tell, session, began=from_whom
        )
        whole_vectors = sized.method in _ON_WHOLE_VECTORS
        reference = reference_of(prepared, session, whole_vectors=whole_vectors)
        settings = EigenSettings(
            k=sized.k,
            which=config.which,
            tol=config.tol,
            accuracy=config.accuracy,
            max_hvps=config.max_hvps,
            basis=sized.basis,
            place=BasisPlace(config.basis_device, config.basis_dtype),
            seed=config.compute.seed,
            noise=noise_of(prepared, reference),
            reference=reference,
            doubt=prepared.preflight.doubt,
            complete=config.complete,
            certify_fully=config.certify == "full",
            vectors=config.vectors,
            momentum=config.momentum,
            start=start,
        )
        beginning = f", beginning from {from_whom}" if from_whom else ""
        tell(f"solving by {sized.method}{beginning}")
        operator = recorded(prepared, session, whole_vectors=whole_vectors)
        pairs = _SOLVERS[sized.method](operator, settings, report=report)
        if pairs.eigenvectors is not None and not whole_vectors:
            vectors = space_of(operator).gathered(pairs.eigenvectors)
            pairs = replace(pairs, eigenvectors=vectors)
    run = SpectrumRun(
        pairs=pairs,
        **solve_record(
            config, loaded, prepared, began=began, seconds=pairs.seconds, hvps=pairs.hvps
        ),
    )
    if not from_whom:
        return run
    return replace(run, environment={**run.environment, "started_from": from_whom})


def _start(
    neighbour: Neighbour | None, sized: SizedSolve, session: Session | None
) -> torch.Tensor | None:
    """A direction to begin with, where it serves."""
    if neighbour is None or sized.method != "lanczos":
        return None
    before = None if session is None else session.decisions
    if before is not None and not before.get("started_from"):
        return None
    if tuple(neighbour.parameters) != parameter_records(sized.objective):
        return None
    return warm_start(neighbour.eigenvalues, neighbour.vectors())
