"""Rates of bounds: is every value within its error of an eigenvalue, and how tight is that?"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from curvtool.algorithms.lanczos import default_basis, lanczos
from curvtool.algorithms.settings import EigenSettings
from trust.rates import Row, at_most, computed, print_table
from trust.spectra import NOISES, bounds_family, matrix, wanted_values

FAMILIES = ("deep", "cluster", "copies", "plusminus", "SA", "BE", "scale")
PAIRS = (2, 10, 20)
P = 240


def cell(family: str, noise: str, k: int, seeds: int) -> Row:
    """Solves of one family with one noise."""
    row: Row = {name: 0 for name in ("runs", "values", "outside", "misplaced", "met", "false")}
    row |= {"ratio": [], "certify": [], "solve": [], "probe": [], "complete": 0}
    for seed in range(seeds):
        rng = np.random.default_rng([seed, k, FAMILIES.index(family), NOISES.index(noise)])
        values, which = bounds_family(family, P, k, rng)
        H = matrix(values, noise, rng)
        asked = EigenSettings(
            k=k,
            which=which,
            basis=default_basis(k, P),
            noise=4e-15,
            reference=H.exact,
            seed=seed,
            max_hvps=600,
        )
        found = lanczos(H.noisy, asked)
        largest = float(np.abs(H.values).max())
        rounding = 1e-17 * largest
        errors = found.eigenvalue_errors * (1 + 1e-9) + rounding
        nearest = np.abs(found.eigenvalues[:, None] - H.values).min(axis=1)
        # Ties of both signs come in any order.
        true = np.sort(wanted_values(H.values, which, k))
        apart = np.abs(np.sort(found.eigenvalues) - true)[np.argsort(np.argsort(found.eigenvalues))]
        row["runs"] += 1
        row["values"] += k
        row["outside"] += int((nearest > errors).sum())
        if found.completeness.complete:
            row["complete"] += 1
            row["misplaced"] += int(
                (
                    apart
                    > errors
                    + np.maximum(1e-4 * np.abs(found.eigenvalues), found.completeness.least_margin)
                ).sum()
            )
        row["met"] += int(found.converged.sum())
        row["ratio"] += (found.eigenvalue_errors / np.maximum(apart, rounding)).tolist()
        for stage in ("solve", "certify", "probe"):
            row[stage].append(found.hvps_by_stage[stage])
    return row


def run(seeds: int, store: Path | None) -> int:
    """Print the tables; the number of violations."""
    cells = [(f, n, k, seeds) for f in FAMILIES for n in NOISES for k in PAIRS]
    rows = computed(cells, cell, "B", store)
    violations = 0
    print(f"\nBounds: {sum(r['runs'] for r in rows)} solves, P = {P}, tolerance 1e-4\n")
    head = ["", "values", "outside", "at most", "bound / error", "met", "solve", "float64", "probe"]
    lines = []
    groups = (
        [(f"k = {k}", [r for c, r in zip(cells, rows, strict=True) if c[2] == k]) for k in PAIRS]
        + [(f, [r for c, r in zip(cells, rows, strict=True) if c[0] == f]) for f in FAMILIES]
        + [(n, [r for c, r in zip(cells, rows, strict=True) if c[1] == n]) for n in NOISES]
        + [("all", rows)]
    )
    for name, some in groups:
        values, outside = (sum(r[key] for r in some) for key in ("values", "outside"))
        outside += sum(r["misplaced"] for r in some)
        medians = [
            np.median([x for r in some for x in r[key]])
            for key in ("ratio", "solve", "certify", "probe")
        ]
        met = sum(r["met"] for r in some) / values
        lines.append([
            name,
            values,
            outside,
            f"{at_most(outside, values):.1e}",
            f"{medians[0]:.1f}",
            f"{met:.3f}",
            *(f"{m:.0f}" for m in medians[1:]),
        ])
        violations = outside
    print_table(head, lines)
    return violations
