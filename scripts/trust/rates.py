"""Cells of a table of rates: computed on two processes, kept in a file, gone on with."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from scipy.stats import beta

Row = dict[str, Any]
PROCESSES = 2


def single_threaded() -> None:
    """Many small solves side by side: threads would slow each of them."""
    torch.set_num_threads(1)


def computed(
    cells: Sequence[Sequence[Any]], compute: Callable[..., Row], part: str, store: Path | None
) -> list[Row]:
    """What `compute` gives for each cell, those in the store taken from there.

    Args:
        cells: arguments.
        compute: a function at the top of a module.
        part: names the store's entries.
        store: JSON file that is written after every cell; None for none.

    Returns:
        Rows in the order of the cells.
    """
    known: dict[str, Row] = {}
    if store is not None and store.exists():
        known = json.loads(store.read_text())
    keys = [f"{part} {json.dumps(list(cell))}" for cell in cells]
    missing = [i for i, key in enumerate(keys) if key not in known]
    with ProcessPoolExecutor(PROCESSES, initializer=single_threaded) as pool:
        made = [(i, pool.submit(compute, *cells[i])) for i in missing]
        for i, future in made:
            known[keys[i]] = future.result()
            if store is not None:
                beside = store.with_suffix(".part")
                beside.write_text(json.dumps(known))
                os.replace(beside, store)
    return [known[key] for key in keys]


def at_most(failures: int, runs: int, confidence: float = 0.99) -> float:
    """Upper end of the exact interval of a rate (Clopper, Pearson 1934)."""
    return (
        1.0
        if failures >= runs
        else float(beta.ppf(1 - (1 - confidence) / 2, failures + 1, runs - failures))
    )


def at_least(failures: int, runs: int, confidence: float = 0.99) -> float:
    """Lower end of the exact interval of a rate."""
    return (
        0.0
        if not failures
        else float(beta.ppf((1 - confidence) / 2, failures, runs - failures + 1))
    )


def print_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table in Markdown."""
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |", flush=True)
