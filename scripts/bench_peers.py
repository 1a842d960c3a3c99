"""Hold curvtool against curvlinops, hessian-eigenthings and PyHessian on the bench models.

pip install -e '.[bench]'
python scripts/make_bench_models.py FOLDER --mnist mnist_5k.csv.gz
python scripts/bench_peers.py FOLDER --json figures.json
python scripts/bench_peers.py FOLDER --only product --models mlp --rounds 2

Everybody gets the same weights, batches, dtype (float32), threads and attention kernel (the one
with second derivatives). Every pair runs in a process of its own, its runs taking turns; seconds
are medians, the spread is the distance between the quartiles over the median. Products are held
against one in float64 made here of plain backward passes, and so are the residuals of all returned
pairs. A figure is never judged: the script ends with 0 whatever they are, and a peer that fails
is a row with the reason. PyHessian's kept graph serves one batch only, which is another H: it takes
part by its product over a dataloader. SciPy has no product of its own; its `eigsh` solves with
curvlinops' product.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import bench_costs
import bench_product
import bench_solve
import bench_tables
from bench_common import MODELS, Row, machine, run_child

SECTIONS = ("product", "solve", "overhead", "growth", "memory")
# What the sections run on unless models are named: the figures ask for no more.
MODELS_OF = {"solve": ("residual", "gpt"), "overhead": ("gpt",)}
CHILDREN: dict[str, Callable[[Path, Row], list[Row]]] = {
    "product": bench_product.run,
    "solve": bench_solve.run,
    "overhead": bench_costs.run_overhead,
    "growth": bench_costs.run_growth,
    "graphs": bench_costs.run_graphs,
    "memory": bench_costs.run_memory,
}


def child(folder: Path, job: Row) -> None:
    """Run a job and print its rows as JSON, alone on standard output."""
    warnings.simplefilter("ignore")
    with redirect_stdout(sys.stderr):
        rows = CHILDREN[job["section"]](folder, job)
    print(json.dumps(rows))


def section_rows(section: str, arguments: argparse.Namespace) -> list[Row]:
    """All rows of a section, a process for each job."""
    common = {"k": arguments.top_k, "tol": arguments.tol, "long_solve": arguments.products}
    rounds = arguments.solve_rounds if section == "solve" else arguments.rounds
    models = list(arguments.models or MODELS_OF.get(section, MODELS))

    def run(jobs: list[Row]) -> list[Row]:
        found = []
        for job in jobs:
            asked = {**job, **common, "rounds": rounds}
            found += run_child(
                Path(__file__).resolve(), arguments.folder, asked, timeout=arguments.timeout
            )
        return found

    if section == "product":
        return run(bench_product.jobs(models))
    if section == "solve":
        return run(bench_solve.jobs(models))
    rows = run(bench_costs.jobs(section, models))
    if section != "memory":
        return rows
    sized = [row for row in rows if "graphs" in row]
    limited = [job for row in sized for job in bench_costs.memory_jobs(row["model"], row)]
    return [row for row in rows if "reason" in row] + run(limited)


def show(section: str, rows: list[Row], arguments: argparse.Namespace) -> None:
    """Print the tables of a section."""
    tables = bench_tables
    if section == "product":
        title = f"One product; `with setup`: amortised over {arguments.products:,} products"
        print(tables.table(title, tables.PRODUCT, bench_product.pooled(rows)))
        title = "Times that curvtool is faster, setup included, from the same process"
        print(tables.table(title, tables.RATIO, bench_product.ratios(rows)))
    elif section == "solve":
        title = f"Pairs to a relative residual of {arguments.tol:g}, from Python call to result"
        print(tables.table(title, tables.SOLVE, rows))
    elif section == "overhead":
        print(tables.table("Lanczos beside its products", tables.OVERHEAD, rows))
    elif section == "growth":
        title = "Cost over size: of one product (examples, parameters), of a solve (k)"
        print(tables.table(title, tables.GROWTH, rows))
    else:
        title = "Growth of resident memory over a run, model and data being loaded"
        print(tables.table(title, tables.MEMORY, rows))


def names(allowed: tuple[str, ...]) -> Callable[[str], list[str]]:
    """A parser of comma-separated names."""

    def parse(text: str) -> list[str]:
        given = [name.strip() for name in text.split(",")]
        for name in given:
            if name not in allowed:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(allowed)}")
        return given

    return parse


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="that make_bench_models.py wrote")
    parser.add_argument("--only", type=names(SECTIONS), default=SECTIONS, help="sections to run")
    parser.add_argument("--models", type=names(MODELS), help="models to run")
    parser.add_argument("--rounds", type=int, default=11, help="repetitions of a product")
    parser.add_argument("--solve-rounds", type=int, default=3, help="repetitions of a solve")
    parser.add_argument("--top-k", type=int, default=20, help="pairs of a solve")
    parser.add_argument("--tol", type=float, default=1e-3, help="relative residual of a solve")
    parser.add_argument("--products", type=int, default=2000, help="products of a long solve")
    parser.add_argument("--timeout", type=float, default=7200, help="seconds a process may take")
    parser.add_argument("--json", type=Path, help="where to write all rows")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Run the sections that are asked for, one after another."""
    arguments = parsed()
    if arguments.child is not None:
        child(arguments.folder, arguments.child)
        return
    record: Row = {"machine": machine(), "asked": {}, "sections": {}}
    record["asked"] = {
        name: getattr(arguments, name)
        for name in ("rounds", "solve_rounds", "top_k", "tol", "products")
    }
    about = record["machine"]
    print(f"{about['date']}, {about['cpu']}, {about['cores']} cores, {about['threads']} threads")
    print(", ".join(f"{name} {number}" for name, number in about["versions"].items()), "\n")
    for section in arguments.only:
        rows = section_rows(section, arguments)
        record["sections"][section] = rows
        show(section, rows, arguments)
        if arguments.json is not None:  # after every section, since all of them take an hour
            arguments.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
