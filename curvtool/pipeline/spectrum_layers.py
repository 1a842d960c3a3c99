"""A `spectrum --per-layer` run: the eigenpairs of every layer's diagonal block."""

from __future__ import annotations

import time
from dataclasses import replace

from curvtool.algorithms.dense import DENSE_LIMIT, dense
from curvtool.algorithms.lanczos import default_basis, lanczos
from curvtool.algorithms.settings import EigenSettings, Report, silent
from curvtool.config import DEFAULT_TOP_K, SpectrumConfig
from curvtool.errors import InputError
from curvtool.pipeline.continuing import ready, recorded
from curvtool.pipeline.demand import Demand, Tell
from curvtool.pipeline.layers import grouped
from curvtool.pipeline.loading import Loaded
from curvtool.pipeline.opening import opened
from curvtool.pipeline.records import solve_record
from curvtool.pipeline.referencing import noise_of, reference_of
from curvtool.pipeline.resources import computing
from curvtool.pipeline.sizing import WORKING_VECTORS, expected_products
from curvtool.pipeline.subject import Subject
from curvtool.problem.wording import in_bytes
from curvtool.results import BlockSpectra, EigenPairs, SpectrumBlocksRun
from curvtool.resuming.session import Session

# The matrix hides nothing; it is written out where that takes at most so many times the products.
DENSE_WORTH = 3


def run_spectrum_layers(
    config: SpectrumConfig,
    loaded: Loaded,
    *,
    report: Report = silent,
    tell: Tell = lambda _: None,
    session: Session | None = None,
) -> SpectrumBlocksRun:
    """Compute the eigenpairs of every layer's block, with products of shared graphs.

    Args:
        config: the run; `top_k` pairs of each block, or all where it is smaller.
        loaded: from `load`; its module is moved and cast, so that it serves one run.
        report: told of every product.
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
        layers = grouped(objective.layout, config.group)
        sizes = {n: sum(objective.layout.sizes[i] for i in at) for n, at in layers.items()}
        demand = _demand(config, objective, memory, list(sizes.values()))
        prepared = ready(config, objective, memory, demand, tell, session)
        settings = EigenSettings(
            k=1,
            which=config.which,
            tol=config.tol,
            accuracy=config.accuracy,
            max_hvps=config.max_hvps,
            seed=config.compute.seed,
            noise=prepared.preflight.noise,
            doubt=prepared.preflight.doubt,
            complete=config.complete,
            certify_fully=config.certify == "full",
            vectors=config.vectors,
        )
        found: list[EigenPairs] = []
        for name, places in layers.items():
            tell(f"solving {name} ({sizes[name]:,} parameters)")
            block = recorded(prepared, session, block=(name, places), whole_vectors=True)
            reference = reference_of(prepared, session, block=(name, places))
            k, method = _pairs_and_method(config, block.size)
            asked = replace(
                settings,
                k=k,
                basis=config.basis or default_basis(k, block.size),
                noise=noise_of(prepared, reference),
                reference=reference,
            )
            solve = dense if method == "dense" else lanczos
            found.append(solve(block, asked, report=report))
    blocks = BlockSpectra(names=tuple(layers), sizes=tuple(sizes.values()), pairs=tuple(found))
    return SpectrumBlocksRun(
        blocks=blocks,
        **solve_record(
            config, loaded, prepared, began=began, seconds=blocks.seconds, hvps=blocks.hvps
        ),
    )


def _pairs_and_method(config: SpectrumConfig, size: int) -> tuple[int, str]:
    k = size if config.all_pairs else min(config.top_k or DEFAULT_TOP_K, size)
    if config.all_pairs or config.method == "dense":
        if size > DENSE_LIMIT:
            raise InputError(
                f"A block of {size:,} parameters is too large to be written out as a matrix (at "
                f"most {DENSE_LIMIT:,}). Ask for fewer pairs with --top-k, by --method lanczos."
            )
        return k, "dense"
    few = size <= min(DENSE_LIMIT, DENSE_WORTH * expected_products("lanczos", k, size, size))
    return k, "dense" if few and config.method == "auto" else "lanczos"


def _demand(config: SpectrumConfig, objective: Subject, memory: int, sizes: list[int]) -> Demand:
    number = objective.dtype.itemsize
    basis = products = 0
    for size in sizes:
        k, method = _pairs_and_method(config, size)
        # The dense solver's matrix and workspaces are in double.
        taken = 5 * size * 8 if method == "dense" else default_basis(k, size) * number
        basis = max(basis, taken * size)
        products += expected_products(method, k, size, config.max_hvps)
    vectors = WORKING_VECTORS * objective.size * number
    if basis + vectors > memory:
        raise InputError(
            f"The vectors of the largest block take {in_bytes(basis + vectors)}, --memory allows "
            f"{in_bytes(memory)}. Ask for fewer pairs with --top-k, or allow more."
        )
    return Demand(products=products, basis_bytes=basis, vector_bytes=vectors, certified=True)
