"""All that the benchmarks call of curvtool: products in a way, the planner, whole solves."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, final

import torch
from bench_common import SEED, load_checked
from torch import Tensor, nn

from curvtool.algorithms.lanczos import default_basis, lanczos
from curvtool.algorithms.settings import EigenSettings
from curvtool.config import DEFAULT_MAX_HVPS, ComputeConfig, ProblemConfig, SpectrumConfig
from curvtool.operators.base import SymmetricOperator
from curvtool.operators.hessian import HessianOperator
from curvtool.operators.memory import default_memory
from curvtool.pipeline import load, run_spectrum
from curvtool.problem.loading import LoadedProblem
from curvtool.problem.model_sources import build_model, resolve_model
from curvtool.problem.objective import Objective
from curvtool.results import EigenPairs, Forecast, SpectrumRun
from curvtool.storage.spectrum import write_spectrum

CPU = torch.device("cpu")
PLANNER = "curvtool.operators.planning.planner"
WAYS = ("retained-graph", "compiled", "auto")
# Vectors of P numbers beside basis and pairs, as a solve reckons with them.
WORKING_VECTORS = 8


def objective(
    folder: Path,
    name: str,
    *,
    batches: int | None = None,
    scale: float = 1.0,
    batch_size: int | None = None,
) -> Objective:
    """The objective of a bench model, evaluated once.

    Args:
        folder: of the models.
        name: of the model.
        batches: only the first so many.
        scale: of all widths; other than 1, the weights are drawn, not trained.
        batch_size: examples a batch; None leaves it to the checkpoint.

    Returns:
        The objective in float32 on the CPU.
    """
    problem = load_checked(folder, name, batch_size)
    module = problem.module if scale == 1 else _scaled(problem, scale)
    made = Objective(
        module, problem.loss, problem.batches[:batches], device=CPU, dtype=torch.float32
    )
    made.evaluate()
    return made


def _scaled(problem: LoadedProblem, scale: float) -> nn.Module:
    """The same architecture with other widths; a model without arguments gets its defaults."""
    spec = problem.spec.model
    changed: dict[str, Any]
    if spec.build == "mlp":
        sizes: Any = spec.kwargs["sizes"]
        changed = {"sizes": [sizes[0], *(int(s * scale) for s in sizes[1:-1]), sizes[-1]]}
    elif spec.build == "gpt":
        width: Any = spec.kwargs["width"]
        changed = {"width": int(width * scale)}
    else:
        net: Any = problem.module
        changed = {
            "stem": int(net.stem[0].out_channels * scale),
            "widths": [int(block.conv1.out_channels * scale) for block in net.blocks],
        }
    torch.manual_seed(SEED)
    wider = replace(spec, kwargs={**spec.kwargs, **changed})
    return build_model(wider, resolve_model(wider))


@final
class NotAvailable(Exception):
    """This version of curvtool does not have the way or the planner."""


def product_in(way: str, made: Objective, *, products: int, k: int) -> tuple[Any, str]:
    """An operator that multiplies in a way, and a word on it.

    Args:
        way: one of `WAYS`; `auto` asks the planner.
        made: from `objective`.
        products: of the solve that the planner plans for.
        k: pairs of that solve; memory for its basis is set aside.

    Returns:
        The operator, and what it does.

    Raises:
        NotAvailable: where there is no such way.
    """
    memory = default_memory(CPU)
    if way == "auto":
        operator, _, word = plan(made, products=products, memory=memory, k=k)
        return operator, word
    try:
        return HessianOperator(made, way=way, graph_memory=memory), ""
    except (ValueError, TypeError) as error:
        raise NotAvailable(f"not available: {error}") from error


def plan(
    made: Objective, *, products: int, memory: int, k: int
) -> tuple[HessianOperator, Forecast, str]:
    """Let the planner choose.

    Args:
        made: from `objective`.
        products: that the solve is to make.
        memory: bytes that it may use.
        k: pairs of the solve.

    Returns:
        The operator, the forecast, and the choice in words.

    Raises:
        NotAvailable: where there is no planner.
    """
    try:
        planner = import_module(PLANNER)
    except ImportError as error:
        raise NotAvailable(f"not available: there is no {PLANNER}") from error
    reserved = solve_bytes(made, k)
    planned = planner.plan_products(
        made, way="auto", products=products, graph_memory=memory - reserved, reserved=reserved
    )
    return (
        planned.operator,
        planned.forecast,
        f"chose {planned.operator.way}: {planned.reason}",
    )


def solve_bytes(made: Objective, k: int) -> int:
    """Memory of a Lanczos solve's vectors, the pairs' vectors included."""
    rows = default_basis(k, made.size) + WORKING_VECTORS + k
    return rows * made.size * made.dtype.itemsize


def config(
    folder: Path,
    name: str,
    *,
    k: int,
    tol: float,
    memory: int | None = None,
    basis: int | None = None,
) -> SpectrumConfig:
    """The run that `curvtool spectrum NAME.pt --top-k K --vectors` asks for, `--tol` as given."""
    return SpectrumConfig(
        problem=ProblemConfig(checkpoint=folder / f"{name}.pt", trust=True),
        compute=ComputeConfig(device="cpu", memory=memory, seed=SEED),
        top_k=k,
        accuracy="vectors",
        tol=tol,
        basis=basis,
        vectors=True,
    )


def prepared(asked: SpectrumConfig) -> Callable[[], SpectrumRun]:
    """Read the problem; the function that comes back does all the rest, preflight and plan too."""
    loaded = load(asked, working_directory=Path.cwd())
    return lambda: run_spectrum(asked, loaded)


def store(path: Path, run: SpectrumRun) -> None:
    """Write the run file."""
    write_spectrum(path, run)


@final
class Stopwatch:
    """An operator that adds up what the products of another one take."""

    def __init__(self, inner: SymmetricOperator) -> None:
        self.inner = inner
        self.seconds = 0.0

    @property
    def size(self) -> int:
        """P of the inner operator."""
        return self.inner.size

    @property
    def dtype(self) -> torch.dtype:
        """Of the inner operator."""
        return self.inner.dtype

    @property
    def device(self) -> torch.device:
        """Of the inner operator."""
        return self.inner.device

    def matvec(self, v_P: Tensor, /) -> Tensor:
        """One product, timed."""
        began = time.perf_counter()
        Hv_P = self.inner.matvec(v_P)
        self.seconds += time.perf_counter() - began
        return Hv_P


def lanczos_with(
    operator: SymmetricOperator,
    *,
    k: int,
    tol: float,
    noise: float,
    basis: int | None = None,
    max_hvps: int = DEFAULT_MAX_HVPS,
) -> EigenPairs:
    """Lanczos as `run_spectrum` calls it, on an operator of ours."""
    settings = EigenSettings(
        k=k,
        tol=tol,
        accuracy="vectors",
        noise=noise,
        basis=basis or default_basis(k, operator.size),
        seed=SEED,
        vectors=True,
        max_hvps=max_hvps,
    )
    return lanczos(operator, settings)
