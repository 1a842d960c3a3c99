"""What the planner foresees of a solve, and what then happens: time and peak memory.

python scripts/make_bench_models.py FOLDER --mnist mnist_5k.csv.gz
python scripts/bench_plan.py FOLDER

Each model, in a process of its own, is planned for so many products; then Lanczos makes so many on
the operator that was chosen, with a tolerance that it cannot meet. Ratios are predicted over
measured. Nothing is judged: the script ends with 0 whatever they are.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import torch
from bench_common import (
    MODELS,
    Row,
    forget_peak,
    load_bench,
    machine,
    resident_bytes,
    run_child,
    warm_up,
)
from bench_curvtool import CPU, Stopwatch, lanczos_with, objective, plan
from bench_tables import Column, number, remark, table, word

from curvtool.operators.memory import default_memory

COLUMNS: list[Column] = [
    ("model", word("model")),
    ("way", word("way")),
    ("products", number("products", "d")),
    ("ms foreseen", number("foreseen_seconds_per_product", ".1f", 1e3)),
    ("measured", number("seconds_per_product", ".1f", 1e3)),
    ("ratio", number("ratio_per_product", ".2f")),
    ("total s foreseen", number("foreseen_seconds", ".1f")),
    ("measured", number("seconds", ".1f")),
    ("ratio", number("ratio_seconds", ".2f")),
    ("planning s", number("planning_seconds", ".2f")),
    ("MiB foreseen", number("foreseen_bytes", ".0f", 2.0**-20)),
    ("measured", number("bytes", ".0f", 2.0**-20)),
    ("ratio", number("ratio_bytes", ".2f")),
    ("", remark),
]


def run(folder: Path, job: Row) -> list[Row]:
    """Plan, then do what was planned.

    Args:
        folder: of the models.
        job: `model`, `products`, `k`, `memory` in bytes or None for curvtool's default.

    Returns:
        One row: what was foreseen, what was measured, the ratios. The measured total is that of
        planning (which makes the graphs and compiles) and solving.
    """
    bench = load_bench(folder, job["model"])
    warm_up(bench)
    made = objective(folder, job["model"])
    memory = job["memory"] or default_memory(CPU)
    forget_peak()
    before = resident_bytes()
    began = time.perf_counter()
    operator, forecast, why = plan(made, products=job["products"], memory=memory, k=job["k"])
    planned = time.perf_counter()
    watch = Stopwatch(operator)
    # The tolerance and the noise leave no way to be done early.
    pairs = lanczos_with(
        watch,
        k=job["k"],
        tol=torch.finfo(torch.float64).tiny,
        noise=0.0,
        max_hvps=job["products"],
    )
    ended = time.perf_counter()
    peak = resident_bytes("VmHWM") - before
    each = watch.seconds / pairs.hvps
    return [
        {
            "way": operator.way,
            "note": why,
            "products": pairs.hvps,
            "foreseen_seconds_per_product": forecast.seconds_per_product,
            "seconds_per_product": each,
            "ratio_per_product": forecast.seconds_per_product / each,
            "foreseen_seconds": forecast.seconds,
            "seconds": ended - began,
            "ratio_seconds": forecast.seconds / (ended - began),
            "planning_seconds": planned - began,
            "solve_seconds": ended - planned,
            "foreseen_bytes": forecast.bytes,
            "bytes": peak,
            "ratio_bytes": forecast.bytes / peak,
        }
    ]


def main() -> None:
    """Run every model in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="that make_bench_models.py wrote")
    parser.add_argument("--models", default=",".join(MODELS), help="comma-separated")
    parser.add_argument("--products", type=int, default=200, help="to plan for and to make")
    parser.add_argument("--top-k", type=int, default=20, help="pairs of the solve")
    parser.add_argument("--memory", type=float, help="MiB that the solve may use")
    parser.add_argument("--timeout", type=float, default=7200, help="seconds a process may take")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        warnings.simplefilter("ignore")
        with redirect_stdout(sys.stderr):
            rows = run(arguments.folder, arguments.child)
        print(json.dumps(rows))
        return
    memory = None if arguments.memory is None else int(arguments.memory * 2**20)
    rows = []
    for model in arguments.models.split(","):
        job = {"model": model, "products": arguments.products, "k": arguments.top_k}
        rows += run_child(
            Path(__file__).resolve(),
            arguments.folder,
            {**job, "memory": memory},
            timeout=arguments.timeout,
        )
    print(table("Foreseen and measured", COLUMNS, rows))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
