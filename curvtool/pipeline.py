"""A `spectrum` run from its config to its result: the whole flow on one page.

checkpoint + dataset + loss -> objective -> preflight -> operator -> algorithm -> result
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

import torch

from curvtool.algorithms.dense import DENSE_LIMIT, dense
from curvtool.algorithms.external import scipy_eigsh, scipy_lobpcg
from curvtool.algorithms.lanczos import default_basis, lanczos
from curvtool.algorithms.power import power_iteration
from curvtool.algorithms.settings import EigenSettings, Report, silent
from curvtool.config import BASIS_ABOVE_K, DEFAULT_TOP_K, SpectrumConfig
from curvtool.environment import describe_environment, digest, now
from curvtool.errors import InputError
from curvtool.operators.hessian import HessianOperator
from curvtool.operators.memory import default_memory
from curvtool.operators.preflight import preflight
from curvtool.problem.loading import LoadedProblem, ProblemRequest, load_problem
from curvtool.problem.objective import Evaluation, Objective
from curvtool.problem.twice import full_precision
from curvtool.results import EigenPairs, ParameterEntry, Plan, ProblemSummary, SpectrumRun

_SOLVERS: dict[str, Callable[..., EigenPairs]] = {
    "dense": dense,
    "lanczos": lanczos,
    "power": power_iteration,
    "eigsh": scipy_eigsh,
    "lobpcg": scipy_lobpcg,
}
_DTYPES = {"float32": torch.float32, "float64": torch.float64}
# Vectors of P numbers that a solve and a product hold beside the basis.
_WORKING_VECTORS = 8


@final
@dataclass(frozen=True, eq=False)
class Loaded:
    """A problem read from disk, and what identifies the request it belongs to."""

    problem: LoadedProblem
    request: str  # SHA-256 of what decides the result


def load(config: SpectrumConfig, *, working_directory: Path) -> Loaded:
    """Read checkpoint, data and spec.

    Args:
        config: the run.
        working_directory: what relative paths are relative to.

    Returns:
        The problem with the digest of the request.

    Raises:
        InputError: for whatever cannot be used.
    """
    p = config.problem
    problem = load_problem(
        ProblemRequest(
            checkpoint=p.checkpoint,
            problem=p.problem,
            model=p.model,
            data=p.data,
            loss=p.loss,
            model_kwargs=p.model_kwargs,
            data_kwargs=p.data_kwargs,
            loss_kwargs=p.loss_kwargs,
            batch_size=p.batch_size,
            max_examples=p.max_examples,
            seed=config.compute.seed,
            trust=p.trust,
            working_directory=working_directory,
        )
    )
    decided = {
        "kind": "spectrum",
        "config": config.request(),
        "hashes": problem.hashes,
        "spec": problem.spec.as_dict(),
    }
    return Loaded(problem, digest(decided))


def run_spectrum(
    config: SpectrumConfig,
    loaded: Loaded,
    *,
    report: Report = silent,
    tell: Callable[[str], None] = lambda _: None,
) -> SpectrumRun:
    """Compute the eigenpairs that the config asks for.

    Args:
        config: the run.
        loaded: from `load`; its module is moved and cast, so that it serves one run.
        report: told of every product of the solve.
        tell: told of every stage in a sentence.

    Returns:
        The run, ready to be stored and shown.

    Raises:
        InputError: when model, data or limits cannot be used.
        PreflightError: when the product is not that of a Hessian.
    """
    began = time.perf_counter()
    with full_precision():
        device = _device(config.compute.device)
        memory = config.compute.memory or default_memory(device)
        objective = _objective(config, loaded.problem, device, memory)
        k, method = _pairs_and_method(config, objective.size)
        room = _share_memory(config, objective, k, method, memory)
        tell(f"evaluating the loss on {loaded.problem.examples:,} examples")
        evaluation = objective.evaluate()
        way = "retained-graph" if config.compute.hvp == "auto" else config.compute.hvp
        tell("checking the product against float64 differences")
        checked = preflight(objective, way=way, seed=config.compute.seed)
        settings = EigenSettings(
            k=k,
            which=config.which,
            tol=config.tol,
            accuracy=config.accuracy,
            max_hvps=config.max_hvps,
            basis=room.basis,
            seed=config.compute.seed,
            noise=checked.noise,
            certify_fully=config.certify == "full",
            vectors=config.vectors,
            momentum=config.momentum,
        )
        operator = HessianOperator(objective, way=way, graph_memory=room.graphs)
        tell(f"solving by {method}")
        pairs = _SOLVERS[method](operator, settings, report=report)
    plan = Plan(
        way=operator.way if operator.kept or way != "retained-graph" else "reverse-over-reverse",
        device=str(device),
        dtype=config.compute.dtype,
        batches_kept=len(operator.kept),
        num_batches=objective.num_batches,
        bytes_kept=operator.bytes_kept,
        bytes_basis=room.basis_bytes,
        memory_limit=memory,
        seconds_per_product=pairs.seconds / max(1, pairs.hvps),
    )
    return SpectrumRun(
        pairs=pairs,
        problem=_summary(config, loaded.problem, objective, evaluation),
        plan=plan,
        preflight=checked,
        parameters=_entries(objective),
        config=_plain(asdict(config)),
        environment={
            **describe_environment(device),
            **loaded.problem.hashes,
            "spec": loaded.problem.spec.as_dict(),
            "request": loaded.request,
        },
        seconds=time.perf_counter() - began,
        version=version("curvtool"),
        created=now(),
    )


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda"):
        count = torch.cuda.device_count()
        index = int(name.partition(":")[2] or 0)
        if index >= count:
            raise InputError(
                f"--device {name} needs a GPU of that number; torch sees {count} here. "
                "Use --device cpu, or install a torch build with CUDA support."
            )
        return torch.device("cuda", index)
    return torch.device("cpu")


def _objective(
    config: SpectrumConfig, problem: LoadedProblem, device: torch.device, memory: int
) -> Objective:
    data_bytes = sum(b.nbytes for b in problem.batches)
    return Objective(
        problem.module,
        problem.loss,
        problem.batches,
        device=device,
        dtype=_DTYPES[config.compute.dtype],
        patterns=config.problem.params,
        weight_decay=config.problem.weight_decay,
        train_mode=config.problem.train_mode,
        # A quarter for data that stays; the rest is worth more as kept graphs.
        keep_data_on_device=device.type == "cpu" or data_bytes <= memory // 4,
    )


def _pairs_and_method(config: SpectrumConfig, size: int) -> tuple[int, str]:
    """K and the solver, now that P is known."""
    if config.all_pairs:
        if size > DENSE_LIMIT:
            raise InputError(
                f"--all writes H out as a matrix, for at most {DENSE_LIMIT:,} parameters; this "
                f"model has {size:,}. Ask for the pairs you need with --top-k, or restrict H with "
                "--params."
            )
        return size, "dense"
    k = config.top_k if config.top_k is not None else min(DEFAULT_TOP_K, size)
    if k > size:
        raise InputError(
            f"--top-k {k} asks for more eigenvalues than H has: it is {size} x {size}, one row for "
            f"each differentiated parameter. Use --top-k {size}, or --all."
        )
    if config.method != "auto":
        if config.method == "dense" and size > DENSE_LIMIT:
            raise InputError(
                f"--method dense writes H out as a matrix, for at most {DENSE_LIMIT:,} parameters; "
                f"this model has {size:,}. Use --method lanczos."
            )
        return k, _fitting(config.method, k, size)
    if config.basis is not None or config.certify == "full":
        return k, "lanczos"  # what only Lanczos has was asked for
    # Iterating may take up to max_hvps products; the matrix takes P and hides nothing.
    return k, "dense" if size <= min(config.max_hvps, DENSE_LIMIT) else "lanczos"


def _fitting(method: str, k: int, size: int) -> str:
    """The named solver, unless SciPy's own limits exclude it."""
    most = {"eigsh": size - 1, "lobpcg": (size - 1) // 5}.get(method, size)
    if k > most:
        raise InputError(
            f"--method {method} finds at most {most} pairs of an H of size {size}; --top-k asks "
            f"for {k}. Use --method lanczos or dense."
        )
    return method


@final
@dataclass(frozen=True)
class _Room:
    basis: int
    basis_bytes: int
    graphs: int


def _share_memory(
    config: SpectrumConfig, objective: Objective, k: int, method: str, memory: int
) -> _Room:
    """Divide the memory: parameters and vectors first, then the basis, the rest for graphs."""
    vector = objective.size * objective.dtype.itemsize
    least = min(objective.size, k + BASIS_ABOVE_K)
    basis = min(objective.size, config.basis or default_basis(k, objective.size))
    taken = _WORKING_VECTORS + (k if config.vectors else 0)
    if config.basis is None and method == "lanczos":
        # The basis may take half; a smaller one costs products, fewer graphs cost time.
        basis = max(least, min(basis, int(memory / 2 / vector) - taken))
    # Measured peaks; the matrix and SciPy's workspaces are in double whatever the dtype.
    double = torch.float64.itemsize // objective.dtype.itemsize
    rows = {
        "lanczos": basis,
        "power": 3 * k,
        "dense": 5 * objective.size * double,
        "eigsh": (2 * max(2 * k + 1, 20) + k + 5) * double,
        "lobpcg": 14 * k * double,
    }[method]
    needed = (rows + taken) * vector
    if needed > memory:
        raise InputError(
            f"The vectors of this solve take {_size(needed)}: {rows} of "
            f"{objective.size:,} numbers and {taken} beside them; --memory allows "
            f"{_size(memory)}. Ask for fewer pairs with "
            "--top-k, restrict H with --params, or allow more."
        )
    return _Room(basis=basis, basis_bytes=rows * vector, graphs=memory - needed)


def _size(number: int) -> str:
    """Bytes in the largest unit that they fill: a small limit is not 0.00 GiB."""
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if number >= 2**power:
            return f"{number / 2**power:.1f} {unit}"
    return f"{number:,} B"


def _summary(
    config: SpectrumConfig, problem: LoadedProblem, objective: Objective, evaluation: Evaluation
) -> ProblemSummary:
    notes = [*problem.notes, *objective.notes]
    if evaluation.uses_attention:
        notes.append("Attention runs on the math kernel: fused ones have no second derivative.")
    return ProblemSummary(
        checkpoint=problem.checkpoint,
        model=problem.spec.model.build,
        data=problem.spec.data.source,
        loss=problem.spec.loss.name,
        num_parameters=objective.size,
        num_examples=objective.num_examples,
        num_batches=objective.num_batches,
        total_weight=objective.total_weight,
        loss_value=evaluation.loss,
        gradient_norm=float(evaluation.gradient_P.double().norm()),
        accuracy=evaluation.accuracy,
        weight_decay=config.problem.weight_decay,
        train_mode=config.problem.train_mode,
        notes=tuple(note.rstrip(".") + "." for note in notes),
    )


def _entries(objective: Objective) -> tuple[ParameterEntry, ...]:
    layout = objective.layout
    return tuple(
        ParameterEntry(name=name, shape=tuple(shape), offset=offset, size=size)
        for name, shape, offset, size in zip(
            layout.names, layout.shapes, layout.offsets, layout.sizes, strict=True
        )
    )


def _plain(value: Any) -> Any:
    """The config as JSON will give it back: paths as text, tuples as lists."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
