"""A `density` run from its config to its result."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

from curvtool.algorithms.density.driver import density, exact_density
from curvtool.algorithms.density.settings import DensitySettings
from curvtool.algorithms.estimation import Report, silent
from curvtool.algorithms.lanczos import default_basis
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
from curvtool.pipeline.referencing import noise_of, reference_of
from curvtool.pipeline.resources import computing
from curvtool.pipeline.sharded import ShardedPrepared
from curvtool.pipeline.subject import Subject
from curvtool.problem.wording import in_bytes
from curvtool.results import DensityRun, FloatArray
from curvtool.resuming.session import Session

# Vectors that a probe holds beside its basis, and a deflating solve beside its own.
WORKING_VECTORS = 6
# Basis and extremes may take so much of the memory; beyond, less is kept.
SHARE_OF_VECTORS = 0.5
# What a deflation takes of products, for each pair: 55 for 20 on decaying spectra.
EXPECTED_A_PAIR = 3
# Bytes of a matrix that is written out, for each of its numbers.
DENSE_BYTES = 40


@final
@dataclass(frozen=True, kw_only=True)
class _Room:
    """What the memory allows: pairs to take out, and whether bases are kept orthogonal."""

    deflate: int
    keeps: bool
    bytes_basis: int


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
        outliers: eigenvalues from a spectrum run, drawn with the density.
        report: told of every probe.
        tell: told of every stage in a sentence.
        session: of a run that can be continued.

    Returns:
        The run, ready to be stored and shown. A matrix of no more parameters than products would be
        spent on it is written out: every eigenvalue, for as many products.

    Raises:
        InputError: when model, data or limits cannot be used.
    """
    began = time.perf_counter()
    with computing():
        objective, memory = opened(config, loaded, session)
        layers = grouped(objective.layout, config.group) if config.per_layer else {}
        sizes = {
            name: sum(objective.layout.sizes[i] for i in places) for name, places in layers.items()
        } or {"": objective.size}
        written = {name for name, size in sizes.items() if _written_out(config, size, memory)}
        probed = [size for name, size in sizes.items() if name not in written]
        room = _room(config, objective, memory, probed)
        demand = _demand(config, objective, room, sizes, written)
        prepared = ready(config, objective, memory, demand, tell, session)
        settings = DensitySettings(
            steps=config.steps,
            probes=config.num_probes,
            deflate=room.deflate,
            reorthogonalize=room.keeps,
            sigma=config.sigma,
            damping=config.damping,
            schatten=config.schatten,
            threshold=config.threshold,
            rel_err=config.rel_err,
            max_hvps=config.max_hvps,
            seed=config.compute.seed,
            noise=prepared.preflight.noise,
        )
        estimates = []
        for name, operator, reference in _blocks(prepared, layers, session, whole="" in written):
            tell(f"the density of {name}" if name else "estimating the density")
            solve = exact_density if name in written else density
            asked = replace(settings, reference=reference, rounding=noise_of(prepared, reference))
            found = solve(operator, asked, outliers=outliers, report=report)
            estimates.append(replace(found, layer=name))
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
    prepared: Prepared | ShardedPrepared,
    layers: dict[str, list[int]],
    session: Session | None,
    *,
    whole: bool,
) -> Iterator[tuple[str, SymmetricOperator, SymmetricOperator | None]]:
    if not layers:
        reference = reference_of(prepared, session, whole_vectors=whole)
        yield "", recorded(prepared, session, whole_vectors=whole), reference
    for name, places in layers.items():
        block = recorded(prepared, session, block=(name, places), whole_vectors=True)
        yield name, block, reference_of(prepared, session, block=(name, places))


def _products(config: DensityConfig, size: int) -> int:
    """What extremes and probes are expected to take of a matrix."""
    probes = config.num_probes * min(config.steps, size)
    # What an accuracy takes is not known; it is asked for where the first probes do not suffice.
    more = 1 if config.rel_err is None else 2
    return more * probes + EXPECTED_A_PAIR * min(config.deflate, size)


def _written_out(config: DensityConfig, size: int, memory: int) -> bool:
    """Whether every eigenvalue costs no more products than probes would."""
    if config.compute.shard_params:
        return False
    fits = DENSE_BYTES * size * size <= SHARE_OF_VECTORS * memory
    return fits and size <= min(_products(config, size), config.max_hvps)


def _room(config: DensityConfig, objective: Subject, memory: int, sizes: Sequence[int]) -> _Room:
    """What of bases and extremes fits, for the largest matrix that probes are sent through."""
    largest = max(sizes, default=0)
    number = objective.dtype.itemsize

    def taken(deflate: int, keeps: bool) -> _Room:
        probing = min(deflate + (config.steps if keeps else 0), largest)
        solving = default_basis(deflate, largest) + deflate if deflate else 0
        return _Room(
            deflate=deflate, keeps=keeps, bytes_basis=max(probing, solving) * largest * number
        )

    d = min(config.deflate, largest)
    if config.reorthogonalize is None:
        ways = [taken(d, True), taken(0, True), taken(0, False)]
    else:
        ways = [taken(d, config.reorthogonalize), taken(0, config.reorthogonalize)]
    working = WORKING_VECTORS * objective.size * number
    for way in ways:
        if way.bytes_basis + working <= SHARE_OF_VECTORS * memory:
            return way
    least = ways[-1]
    if least.bytes_basis + working > memory:
        raise InputError(
            f"The vectors of this density take {in_bytes(least.bytes_basis + working)}, --memory "
            f"allows {in_bytes(memory)}. Take fewer --steps, leave --reorthogonalize out, or allow "
            "more."
        )
    return least


def _demand(
    config: DensityConfig,
    objective: Subject,
    room: _Room,
    sizes: Mapping[str, int],
    written: set[str],
) -> Demand:
    """What the densities of all matrices take."""
    products = sum(
        size if name in written else _products(config, size) for name, size in sizes.items()
    )
    dense = max((DENSE_BYTES * sizes[name] ** 2 for name in written), default=0)
    return Demand(
        products=products,
        basis_bytes=max(room.bytes_basis, dense),
        vector_bytes=WORKING_VECTORS * objective.size * objective.dtype.itemsize,
        blocks=bool(written),
        certified=True,
    )
