"""The peers, each used as its documentation shows, over all batches and with the same mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from bench_common import SEED, Bench
from torch import Tensor

Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Found:
    """Eigenpairs as a tool returned them, vectors as rows (k, P)."""

    values: list[float]
    vectors: Tensor
    products: int
    note: str = ""


def curvlinops_product(bench: Bench) -> Product:
    """`HessianLinearOperator` with its checks for determinism, which cost about five passes."""
    operator = _curvlinops(bench)
    return lambda v_P: operator @ v_P


def _curvlinops(bench: Bench) -> Any:
    from curvlinops import HessianLinearOperator

    return HessianLinearOperator(bench.module, bench.criterion, bench.parameters, bench.data)


def curvlinops_compiled_product(bench: Bench) -> Product:
    """The same with its product of a batch under `torch.compile`, in one graph.

    Release 3.0.1 does not trace: `numpy.cumsum` in a helper, and `functools.partial` where `jacrev`
    calls `functools.wraps`, break the graph, and all of it then runs eagerly. Both are replaced by
    equivalents here, so that the peer is seen at its best.

    Returns:
        The product; the first one compiles.
    """
    import curvlinops.hessian as module

    def split_list(items: Sequence[Any], sizes: Sequence[int]) -> list[list[Any]]:
        ends = [0, *accumulate(sizes)]
        return [list(items[a:b]) for a, b in pairwise(ends)]

    def partial(function: Callable[..., Any], *first: Any) -> Callable[..., Any]:
        def called(*rest: Any) -> Any:
            return function(*first, *rest)

        return called

    module.split_list = split_list
    module.partial = partial
    operator = _curvlinops(bench)
    # A cached property, made anew: the checks above have filled it with the eager one.
    operator.__dict__["_mp"] = torch.compile(operator._mp, fullgraph=True)
    return lambda v_P: operator @ v_P


def eigenthings_product(bench: Bench) -> Product:
    """`HessianOperator` over the list of batches."""
    product: Product = _eigenthings(bench).matvec
    return product


def _eigenthings(bench: Bench) -> Any:
    from hessian_eigenthings import HessianOperator, supervised_loss

    return HessianOperator(bench.module, bench.data, supervised_loss(bench.criterion))


def pyhessian_product(bench: Bench) -> Product:
    """`dataloader_hv_product`: the graph it can keep is that of a single batch, another H."""
    tool = _pyhessian(bench)
    sizes = [p.numel() for p in bench.parameters]

    def product(v_P: Tensor) -> Tensor:
        parts = zip(torch.split(v_P, sizes), bench.parameters, strict=True)
        _, Hv = tool.dataloader_hv_product([part.view_as(p) for part, p in parts])
        return torch.cat([piece.reshape(-1) for piece in Hv]).detach()

    return product


def _pyhessian(bench: Bench) -> Any:
    from pyhessian import hessian

    return hessian(bench.module, bench.criterion, dataloader=bench.data, cuda=False)


PRODUCTS: dict[str, tuple[Callable[[Bench], Product], str]] = {
    "curvlinops": (curvlinops_product, ""),
    "curvlinops compiled": (
        curvlinops_compiled_product,
        "two helpers replaced: as released it breaks the graph and runs eagerly",
    ),
    "hessian-eigenthings": (eigenthings_product, ""),
    "PyHessian": (pyhessian_product, "over its dataloader; its kept graph is for one batch only"),
}


def solve_curvlinops(bench: Bench, *, k: int, tol: float) -> Found:
    """The operator handed to SciPy's `eigsh`, in double as `to_scipy` has it by default."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    operator = _curvlinops(bench).to_scipy()
    calls = 0

    def counted(v_P: Any) -> Any:
        nonlocal calls
        calls += 1
        return operator.matvec(v_P)

    start_P = np.random.default_rng(SEED).standard_normal(bench.size)
    values, vectors = eigsh(
        LinearOperator(operator.shape, matvec=counted, dtype=operator.dtype),
        k=k,
        which="LM",
        tol=tol,
        v0=start_P,
    )
    return Found(values.tolist(), torch.from_numpy(vectors.T.copy()), calls)


def solve_eigenthings(
    bench: Bench, *, k: int, tol: float, steps: int | None, reorthogonalize: bool | None
) -> tuple[Found, bool]:
    """One Lanczos run of so many steps (None: its default); and whether it calls all converged."""
    from hessian_eigenthings import lanczos

    result = lanczos(
        _eigenthings(bench),
        k=k,
        max_iter=steps,
        tol=tol,
        reorthogonalize=reorthogonalize,
        which="LM",
        seed=SEED,
    )
    converged = int(result.converged.sum())
    found = Found(
        [float(x) for x in result.eigenvalues],
        result.eigenvectors,
        result.iterations,
        f"{result.iterations} steps, {converged} of {k} reported converged",
    )
    return found, converged == k


def solve_eigenthings_doubling(bench: Bench, *, k: int, tol: float, most: int) -> Found:
    """Its default of steps, then twice as many from the start, until it calls all converged."""
    steps: int | None = None
    spent = 0
    while True:
        found, done = solve_eigenthings(bench, k=k, tol=tol, steps=steps, reorthogonalize=None)
        spent += found.products
        steps = 2 * found.products
        if done or steps > most:
            given_up = "" if done else ", given up"
            return Found(found.values, found.vectors, spent, f"{found.note}{given_up}")


def least_steps(bench: Bench, *, k: int, tol: float, most: int) -> int:
    """The least steps at which hessian-eigenthings, orthogonalising, has k pairs to `tol`.

    One long run is cut off at every length: the first steps of a run are the run of so many steps.
    An oracle that no user has; its time is not counted.

    Args:
        bench: the problem.
        k: pairs.
        tol: relative residual.
        most: steps at most.

    Returns:
        The steps, by its own estimates.

    Raises:
        ValueError: where `most` steps do not suffice.
    """
    from hessian_eigenthings import lanczos_tridiagonal

    operator = _eigenthings(bench)
    start_P = torch.randn(
        bench.size, dtype=operator.dtype, generator=torch.Generator().manual_seed(SEED)
    )
    length = min(4 * k, most)
    while True:
        run = lanczos_tridiagonal(operator, start_P, length, reorthogonalize=True)
        beta_m = [*run.betas.tolist(), run.last_beta]
        for m in range(k + 1, run.iterations + 1):
            T_mm = torch.diag(run.alphas[:m].double())
            off = run.betas[: m - 1].double()
            T_mm += torch.diag(off, 1) + torch.diag(off, -1)
            theta_m, S_mm = torch.linalg.eigh(T_mm)
            chosen = theta_m.abs().argsort(descending=True)[:k]
            residual_k = S_mm[-1, chosen].abs() * beta_m[m - 1]
            if bool((residual_k < tol * theta_m[chosen].abs()).all()):
                return m
        if length >= most:
            raise ValueError(f"{most} steps do not bring {k} pairs to {tol:g}.")
        length = min(2 * length, most)


def solve_pyhessian(bench: Bench, *, k: int) -> Found:
    """Its power iteration with its own tolerance and limit."""
    tool = _pyhessian(bench)
    calls = 0
    inner = tool.dataloader_hv_product

    def counted(v: Any) -> Any:
        nonlocal calls
        calls += 1
        return inner(v)

    tool.dataloader_hv_product = counted
    values, vectors = tool.eigenvalues(top_n=k)
    rows = [torch.cat([piece.reshape(-1) for piece in v]).detach() for v in vectors]
    return Found([float(x) for x in values], torch.stack(rows), calls, "its default tolerance")


def trace_samples_pyhessian(bench: Bench, *, number: int) -> list[float]:
    """Samples z'Hz of its `trace`, which stops only at so many of them here."""
    samples: list[float] = _pyhessian(bench).trace(maxIter=number, tol=-np.inf)
    return samples


def trace_samples_curvlinops(bench: Bench, *, number: int) -> list[float]:
    """Estimates of its `hutchinson_trace`, each of a single product, so that they are samples."""
    from curvlinops import hutchinson_trace

    operator = _curvlinops(bench)
    return [float(hutchinson_trace(operator, num_matvecs=1)) for _ in range(number)]


TRACES: dict[str, Callable[..., list[float]]] = {
    "PyHessian": trace_samples_pyhessian,
    "curvlinops": trace_samples_curvlinops,
}
