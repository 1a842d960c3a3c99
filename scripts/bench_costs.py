"""What curvtool's own cost is made of: overhead beside the products, growth, peak memory."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from bench_common import (
    Row,
    forget_peak,
    interleaved,
    load_bench,
    random_vector,
    resident_bytes,
    spread,
    timed,
    warm_up,
)
from bench_curvtool import (
    Stopwatch,
    config,
    lanczos_with,
    objective,
    prepared,
    product_in,
    solve_bytes,
    store,
)

# The basis that the figure for the overhead is named for.
BASIS = 60
AXES = ("examples", "parameters", "k")
SHARES_OF_EXAMPLES = (0.25, 0.5, 1.0)
SCALES_OF_WIDTH = (0.5, 1.0, 2.0)
SHARES_OF_K = (0.25, 0.5, 1.0)
# Limits on memory: the vectors, and this share of all graphs on top.
SHARES_OF_GRAPHS = (0.25, 0.5, 1.0)


def jobs(section: str, models: list[str]) -> list[Row]:
    """The jobs of a section; those of `memory` come from what `graphs` finds."""
    if section == "overhead":
        return [{"section": section, "model": m} for m in models]
    if section == "growth":
        return [{"section": section, "model": m, "axis": a} for m in models for a in AXES]
    return [{"section": "graphs", "model": m} for m in models]


def run_overhead(folder: Path, job: Row) -> list[Row]:
    """Where the time of a solve goes.

    Args:
        folder: of the models.
        job: `model`, `k`, `tol`, `long_solve` in products that the planner plans for.

    Returns:
        One row: seconds of the solve, of its products, of the run file; `share`, what is not
        products of the solve and the file together; and the run's seconds before the solve.
    """
    asked = config(folder, job["model"], k=job["k"], tol=job["tol"], basis=BASIS)
    whole, solved = timed(prepared(asked))
    with tempfile.TemporaryDirectory() as there:
        output, _ = timed(lambda: store(Path(there, "run.h5"), solved))
    made = objective(folder, job["model"])
    operator, _ = product_in("retained-graph", made, products=job["long_solve"], k=job["k"])
    watch = Stopwatch(operator)
    seconds, pairs = timed(
        lambda: lanczos_with(
            watch, k=job["k"], tol=job["tol"], noise=solved.pairs.noise, basis=BASIS
        )
    )
    return [
        {
            "tool": operator.way,
            "basis": BASIS,
            "products": pairs.hvps,
            "solve_seconds": seconds,
            "product_seconds": watch.seconds,
            "output_seconds": output,
            "share": 1 - watch.seconds / (seconds + output),
            "run_seconds": whole,
            "before_seconds": whole - solved.pairs.seconds,
            "preflight_seconds": solved.preflight.seconds,
            "planning_seconds": solved.plan.planning_seconds,
        }
    ]


def run_growth(folder: Path, job: Row) -> list[Row]:
    """How cost grows along one axis.

    Args:
        folder: of the models.
        job: `model`, `axis`, `rounds`, `k`, `tol`, `long_solve`.

    Returns:
        A row a size with its `seconds` (of one product with kept graphs; of a whole solve for k),
        all with the fitted `exponent` of log seconds over log size.
    """
    rows = _solves(folder, job) if job["axis"] == "k" else _products(folder, job)
    sizes, seconds = ([row[name] for row in rows] for name in ("size", "seconds"))
    exponent = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
    return [row | {"exponent": exponent} for row in rows]


def _products(folder: Path, job: Row) -> list[Row]:
    name = job["model"]
    if job["axis"] == "examples":
        whole = len(load_bench(folder, name).data)
        few = sorted({max(1, round(share * whole)) for share in SHARES_OF_EXAMPLES})
        made = [objective(folder, name, batches=batches) for batches in few]
        sizes = [one.num_examples for one in made]
    else:
        made = [objective(folder, name, scale=scale) for scale in SCALES_OF_WIDTH]
        sizes = [one.size for one in made]
    runs: dict[str, Any] = {}
    for one, size in zip(made, sizes, strict=True):
        operator, _ = product_in("retained-graph", one, products=job["long_solve"], k=job["k"])
        v_P = random_vector(one.size)
        runs[str(size)] = lambda operator=operator, v_P=v_P: operator.matvec(v_P)
        runs[str(size)]()
    seconds = interleaved(runs, job["rounds"])
    return [
        {"size": size, "seconds": statistics.median(series), "spread": spread(series)}
        for size, series in zip(sizes, seconds.values(), strict=True)
    ]


def _solves(folder: Path, job: Row) -> list[Row]:
    rows = []
    for k in sorted({max(1, round(share * job["k"])) for share in SHARES_OF_K}):
        taken, solved = timed(prepared(config(folder, job["model"], k=k, tol=job["tol"])))
        rows.append({"size": k, "seconds": taken, "products": solved.pairs.hvps})
    return rows


def run_graphs(folder: Path, job: Row) -> list[Row]:
    """What all kept graphs take, to set limits by; in a process that measures nothing else.

    Args:
        folder: of the models.
        job: `model`, `k`.

    Returns:
        One row: bytes of `graphs` and of the solve's `vectors`.
    """
    made = objective(folder, job["model"])
    operator, _ = product_in("retained-graph", made, products=1, k=job["k"])
    return [{"graphs": operator.bytes_kept, "vectors": solve_bytes(made, job["k"])}]


def memory_jobs(model: str, graphs: Row) -> list[Row]:
    """A job a limit: room for the vectors, and for a share of the graphs."""
    return [
        {
            "section": "memory",
            "model": model,
            "limit": graphs["vectors"] + int(share * graphs["graphs"]),
        }
        for share in SHARES_OF_GRAPHS
    ]


def run_memory(folder: Path, job: Row) -> list[Row]:
    """Peak memory of a run under a limit.

    Args:
        folder: of the models.
        job: `model`, `limit` in bytes, `k`, `tol`.

    Returns:
        One row: the `peak` that resident memory grew by, from just before the run, its `ratio` to
        the limit, the `forecast`, and the plan.
    """
    warm_up(load_bench(folder, job["model"]))
    asked = config(folder, job["model"], k=job["k"], tol=job["tol"], memory=job["limit"])
    begin = prepared(asked)
    forget_peak()
    before = resident_bytes()
    solved = begin()
    peak = resident_bytes("VmHWM") - before
    forecast = solved.plan.forecast
    return [
        {
            "peak": peak,
            "ratio": peak / job["limit"],
            "forecast": None if forecast is None else forecast.bytes,
            "way": solved.plan.way,
            "batches_kept": solved.plan.batches_kept,
            "batches": solved.plan.num_batches,
            "products": solved.pairs.hvps,
            "adjustments": list(solved.plan.adjustments),
        }
    ]
