"""What one product costs: curvtool's ways and a peer, taking turns in a process of their own."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from bench_common import (
    Bench,
    Row,
    interleaved,
    load_bench,
    plain_gradient,
    plain_products,
    random_vector,
    reason,
    second_derivatives,
    spread,
    timed,
)
from bench_curvtool import WAYS, NotAvailable, objective, product_in
from bench_rivals import PRODUCTS
from torch import Tensor

from curvtool.operators.heap import kept_heap

Product = Callable[[Tensor], Tensor]
GRADIENT = "gradient"
DEFAULT_KERNELS = "gradient, torch's own choice of kernels"


def jobs(models: list[str]) -> list[Row]:
    """One job a model and peer."""
    return [{"section": "product", "model": m, "peer": p} for m in models for p in PRODUCTS]


def run(folder: Path, job: Row) -> list[Row]:
    """Time one pair.

    Args:
        folder: of the models.
        job: `model`, `peer`, `rounds`, `long_solve` in products, `k` of its pairs.

    Returns:
        A row for the gradient and for every tool: `seconds` of one product (median), `spread`
        (distance of the quartiles over it), `setup_seconds` of everything before the first product
        that is not made again, `gradients` and `gradients_amortised` (setup spread over them),
        `error` against the plain product in float64. A tool that fails has a `reason` instead.
    """
    bench = load_bench(folder, job["model"])
    v_P = random_vector(bench.size)
    truth_P = plain_products(bench, v_P[None])[0]
    runs: dict[str, Callable[[], Any]] = {}
    rows: dict[str, Row] = {}
    # Everybody has the heap of curvtool's commands: it cannot be set back within a process.
    with second_derivatives(), kept_heap():
        made = objective(folder, job["model"])
        for way in WAYS:
            rows[way] = _try(lambda: _way(way, made, job), v_P, truth_P, runs, way)  # noqa: B023
        rows[job["peer"]] = _try(
            lambda: (PRODUCTS[job["peer"]][0](bench), PRODUCTS[job["peer"]][1]),
            *(v_P, truth_P, runs, job["peer"]),
        )
        runs[GRADIENT] = lambda: plain_gradient(bench)
        rows[GRADIENT] = {"tool": GRADIENT}
        runs[GRADIENT]()
        seconds = interleaved(runs, job["rounds"])
    rows[DEFAULT_KERNELS] = {"tool": DEFAULT_KERNELS}
    seconds |= interleaved({DEFAULT_KERNELS: lambda: plain_gradient(bench)}, job["rounds"])
    unit = statistics.median(seconds[GRADIENT])
    for name, series in seconds.items():
        rows[name] |= _figures(series, rows[name], unit=unit, products=job["long_solve"])
    return list(rows.values())


def _way(way: str, made: Any, job: Row) -> tuple[Product, str]:
    operator, word = product_in(way, made, products=job["long_solve"], k=job["k"])
    return operator.matvec, word


def _try(
    build: Callable[[], tuple[Product, str]],
    v_P: Tensor,
    truth_P: Tensor,
    runs: dict[str, Callable[[], Any]],
    name: str,
) -> Row:
    """Set a tool up, hold its first product against the truth, and enter it among the runs."""
    row: Row = {"tool": name}
    try:
        setup, (product, note) = timed(build)
        first, found_P = timed(lambda: product(v_P))
    except NotAvailable as error:
        return row | {"reason": str(error)}
    except Exception as error:  # noqa: BLE001 - whatever a tool raises is its row
        return row | {"reason": reason(error)}
    runs[name] = lambda: product(v_P)
    distance = float((found_P.double() - truth_P).norm() / truth_P.norm())
    return row | {"note": note, "build_seconds": setup, "first_seconds": first, "error": distance}


def _figures(series: list[float], row: Row, *, unit: float, products: int) -> Row:
    """Medians and prices of one run."""
    middle = statistics.median(series)
    setup = 0.0
    if "build_seconds" in row:
        setup = row["build_seconds"] + max(0.0, row["first_seconds"] - middle)
    return {
        "seconds": middle,
        "spread": spread(series),
        "setup_seconds": setup,
        "gradients": middle / unit,
        "gradients_amortised": (middle + setup / products) / unit,
        "threads": torch.get_num_threads(),
    }


def ratios(rows: list[Row]) -> list[Row]:
    """How many times faster each of curvtool's ways is than the peer beside it, setup included."""
    found = []
    for model, peer in dict.fromkeys((r["model"], r["peer"]) for r in rows):
        pair = {
            r["tool"]: r for r in rows if (r["model"], r["peer"]) == (model, peer) and "tool" in r
        }
        theirs = pair.get(peer, {}).get("gradients_amortised")
        ours = {way: pair.get(way, {}).get("gradients_amortised") for way in WAYS}
        found.append(
            {"model": model, "peer": peer}
            | {way: theirs / own if theirs and own else None for way, own in ours.items()}
        )
    return found


def pooled(rows: list[Row]) -> list[Row]:
    """One row a model and tool: the middle one of the processes that the tool ran in."""
    found = []
    for model, tool in dict.fromkeys((r["model"], r.get("tool", r.get("peer"))) for r in rows):
        same = [r for r in rows if r["model"] == model and r.get("tool", r.get("peer")) == tool]
        ran = sorted((r for r in same if "seconds" in r), key=lambda r: float(r["gradients"]))
        if not ran:
            found.append(same[0] | {"tool": tool})
            continue
        prices = [r["gradients"] for r in ran]
        found.append(ran[len(ran) // 2] | {"low": prices[0], "high": prices[-1], "runs": len(ran)})
    return found


def overview(bench: Bench) -> str:
    """The problem in words."""
    inputs, targets = bench.data[0]
    return (
        f"{bench.name}: {bench.size:,} parameters, {len(bench.data)} batches of {len(inputs)} "
        f"({targets.numel()} targets)"
    )
