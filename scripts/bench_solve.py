"""What whole solves cost, from the Python call to the result, and how good the results are."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bench_common import (
    Bench,
    Row,
    copies,
    load_bench,
    reason,
    relative_residuals,
    second_derivatives,
    spread,
    timed,
)
from bench_curvtool import config, prepared
from bench_rivals import (
    Found,
    least_steps,
    solve_curvlinops,
    solve_eigenthings,
    solve_eigenthings_doubling,
    solve_pyhessian,
)

OURS = "curvtool"
RIVALS = (
    "curvlinops + eigsh",
    "hessian-eigenthings, least steps",
    "hessian-eigenthings, doubling",
    "PyHessian",
)
# PyHessian's power iteration is compared on few pairs.
FEW_PAIRS = 2
# Steps of Lanczos at which a search or a patient user gives up, in multiples of k.
MOST_STEPS = 32
# Steps added where those that suffice by the tool's estimate do not by an independent product.
MORE_STEPS = 2
MOST_TRIALS = 10


def jobs(models: list[str]) -> list[Row]:
    """One job a model and rival."""
    return [{"section": "solve", "model": m, "peer": rival} for m in models for rival in RIVALS]


def run(folder: Path, job: Row) -> list[Row]:
    """Solve by curvtool and by one rival, in turns.

    Args:
        folder: of the models.
        job: `model`, `peer`, `rounds`, `k`, `tol`.

    Returns:
        A row each: `seconds` (median), `spread`, `products`, the largest relative `residual` of all
        pairs by an independent product in float64, whether it is `fair` (at most `tol`), `copies`
        among the vectors, `times` that curvtool is faster, `differs` (largest relative difference
        of the eigenvalues from curvtool's).
    """
    bench = load_bench(folder, job["model"])
    k = FEW_PAIRS if job["peer"] == "PyHessian" else job["k"]
    asked = config(folder, job["model"], k=k, tol=job["tol"])
    rival = _rival(bench, job["peer"], k, job["tol"])
    seconds: dict[str, list[float]] = {OURS: [], job["peer"]: []}
    results: dict[str, Found] = {}
    failed = ""
    for _ in range(job["rounds"]):
        begin = prepared(asked)
        taken, solved = timed(begin)
        seconds[OURS].append(taken)
        results[OURS] = _ours(solved)
        if failed:
            continue
        try:
            with second_derivatives():
                taken, results[job["peer"]] = timed(rival)
            seconds[job["peer"]].append(taken)
        except Exception as error:  # noqa: BLE001 - whatever a tool raises is its row
            failed = reason(error)
    rows = [
        _row(bench, name, results[name], seconds[name], k=k, tol=job["tol"]) for name in results
    ]
    if failed:
        rows.append({"tool": job["peer"], "k": k, "reason": failed})
        return rows
    mine = np.sort(results[OURS].values)
    theirs = np.sort(results[job["peer"]].values)
    rows[1]["differs"] = float(np.max(np.abs(theirs - mine) / np.abs(mine)))
    rows[1]["times"] = rows[1]["seconds"] / rows[0]["seconds"]
    return rows


def _ours(solved: Any) -> Found:
    pairs, before = solved.pairs, solved.seconds - solved.pairs.seconds
    return Found(
        pairs.eigenvalues.tolist(),
        pairs.eigenvectors,
        pairs.hvps,
        f"{solved.plan.way}; {pairs.outcome.value}, "
        f"{'complete' if pairs.completeness.complete else 'not proved complete'}; {before:.1f} s "
        f"before the solve, {solved.preflight.seconds:.1f} s of it preflight",
    )


def _rival(bench: Bench, name: str, k: int, tol: float) -> Callable[[], Found]:
    most = MOST_STEPS * k
    if name == "curvlinops + eigsh":
        return lambda: solve_curvlinops(bench, k=k, tol=tol)
    if name == "hessian-eigenthings, doubling":
        return lambda: solve_eigenthings_doubling(bench, k=k, tol=tol, most=most)
    if name == "PyHessian":
        return lambda: solve_pyhessian(bench, k=k)
    with second_derivatives():
        steps = _enough_steps(bench, k=k, tol=tol, most=most)
    return lambda: solve_eigenthings(bench, k=k, tol=tol, steps=steps, reorthogonalize=True)[0]


def _enough_steps(bench: Bench, *, k: int, tol: float, most: int) -> int:
    """The least steps by the tool's estimate, or a few more until an independent product agrees."""
    steps = least_steps(bench, k=k, tol=tol, most=most)
    for _ in range(MOST_TRIALS):
        found, _ = solve_eigenthings(bench, k=k, tol=tol, steps=steps, reorthogonalize=True)
        if max(relative_residuals(bench, found.values, found.vectors)) <= tol:
            break
        steps += MORE_STEPS
    return steps


def _row(bench: Bench, name: str, found: Found, seconds: list[float], *, k: int, tol: float) -> Row:
    residuals = relative_residuals(bench, found.values, found.vectors)
    return {
        "tool": name,
        "k": k,
        "seconds": statistics.median(seconds),
        "spread": spread(seconds),
        "all_seconds": seconds,
        "products": found.products,
        "residual": max(residuals),
        "residuals": residuals,
        "fair": max(residuals) <= tol,
        "copies": copies(found.vectors),
        "eigenvalues": found.values,
        "note": found.note,
    }
