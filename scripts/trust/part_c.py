"""Rates of completeness: is any statement false, complete or partial, and what does one cost?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from curvtool.algorithms.lanczos import default_basis, lanczos
from curvtool.algorithms.settings import EigenSettings
from curvtool.operators.base import FunctionOperator
from curvtool.results import EigenPairs
from trust.rates import Row, at_least, at_most, computed, print_table
from trust.spectra import COMPLETENESS_FAMILIES, Floats, completeness_family, wanted_values

SIZES = (400, 600, 1000)
TOLERANCES = (1e-3, 1e-4)


def cell(family: str, k: int, first: int, seeds: int) -> Row:
    """Solves of one family."""
    row: Row = {name: 0 for name in ("runs", "false", "false_partial", "wrong", "found")}
    row |= {"complete_within": [], "solve": [], "probe": [], "gap": []}
    for seed in range(first, first + seeds):
        rng = np.random.default_rng([seed, k, COMPLETENESS_FAMILIES.index(family)])
        P, tol = int(SIZES[rng.integers(3)]), TOLERANCES[rng.integers(2)]
        values, which = completeness_family(family, P, k, rng)
        diagonal = torch.from_numpy(values).float()
        values, P = diagonal.double().numpy(), len(values)
        double = diagonal.double()
        asked = EigenSettings(
            k=k,
            which=which,
            basis=default_basis(k, P),
            noise=4e-15,
            reference=FunctionOperator(lambda v, d=double: d * v, P),  # type: ignore[misc]
            seed=seed,
            tol=tol,
        )
        operator = FunctionOperator(lambda v, d=diagonal: d * v, P, torch.float32)  # type: ignore[misc]
        found = lanczos(operator, asked)
        missing, gap = _missing(values, which, found, tol)
        stated = found.completeness
        row["runs"] += 1
        row["wrong"] += int(missing)
        row["found"] += stated.found
        row["false"] += int(stated.complete and missing)
        row["false_partial"] += _false_ends(values, found)
        row["gap"].append(gap)
        row["solve"].append(found.hvps_by_stage["solve"])
        row["probe"].append(found.hvps_by_stage["probe"])
        row["complete_within"].append(
            found.hvps_by_stage["probe"] / found.hvps_by_stage["solve"] if stated.complete else 1e9
        )
    return row


def _missing(values: Floats, which: str, found: EigenPairs, tol: float) -> tuple[bool, float]:
    """Whether a wanted value is missing by more than the margin, and the gap behind the list."""
    largest = float(np.abs(values).max())
    least = max(found.completeness.least_margin, 0.01 * tol * largest)
    theta, true = found.eigenvalues, wanted_values(values, which, len(found.eigenvalues))
    rest = np.sort(values)
    k = len(theta)
    if which == "LM":
        theta, true = np.sort(np.abs(theta))[::-1], np.sort(np.abs(true))[::-1]
        others = np.sort(np.abs(values))[::-1][k:]
        gap = (true[-1] - others[0]) / (rest[-1] - rest[0])
    elif which == "BE":
        top = (k + 1) // 2
        sign = np.r_[np.ones(top), -np.ones(k - top)]
        theta, true = sign * theta, sign * true
        left = rest[k - top : len(rest) - top]
        gap = (
            min(true[top - 1] - left[-1], left[0] + true[top]) / (left[-1] - left[0])
            if k > top
            else 1.0
        )
    else:
        gap = (true[-1] - rest[-k - 1]) / (rest[-k - 1] - rest[0])
    allowed = np.maximum(tol * np.abs(theta), least) + 1e-9 * largest
    return bool((true - theta > allowed).any()), float(gap)


def _false_ends(values: Floats, found: EigenPairs) -> int:
    """Partial statements that are false: more than r eigenvalues beyond the point."""
    false = 0
    largest = float(np.abs(values).max())
    for name, end in found.completeness.ends:
        if end.nothing_beyond is not None:
            sign = 1.0 if name == "upper" else -1.0
            outermost = np.sort(sign * values)[::-1]
            slack = (found.noise + 1e-9) * largest
            false += int(outermost[end.proved_rank] > sign * end.nothing_beyond + slack)
    return false


def run(k: int, seeds: int, store: Path | None) -> int:
    """Print the table; the number of false statements."""
    families = [f for f in COMPLETENESS_FAMILIES if k > 2 or f != "piled edge"]
    chunk = max(1, min(50, seeds))
    cells = [
        (f, k, first, min(chunk, seeds - first))
        for f in families
        for first in range(0, seeds, chunk)
    ]
    rows = computed(cells, cell, "C", store)
    print(f"\nCompleteness: k = {k}, {sum(r['runs'] for r in rows)} solves, 99.95 % an end\n")
    lines, false_all, runs_all = [], 0, 0
    for family in [*families, "all"]:
        some = [r for c, r in zip(cells, rows, strict=True) if family in {c[0], "all"}]
        runs = sum(r["runs"] for r in some)
        gathered = {
            key: np.array([x for r in some for x in r[key]])
            for key in ("complete_within", "solve", "probe", "gap")
        }
        clear = gathered["gap"] > 0.02
        within = gathered["complete_within"][clear]
        false = sum(r["false"] + r["false_partial"] for r in some)
        shares = [
            f"{100 * (within <= x).mean():.0f} %" if len(within) else "-"
            for x in (0.35, 0.5, 1.0, 1e8)
        ]
        lines.append([
            family,
            runs,
            f"{np.median(gathered['solve']):.0f}",
            f"{np.median(gathered['probe']):.0f} / {np.percentile(gathered['probe'], 90):.0f}",
            false,
            sum(r["wrong"] for r in some),
            sum(r["found"] for r in some),
            int(clear.sum()),
            *shares,
        ])
        false_all, runs_all = false, runs
    print_table(
        [
            "",
            "solves",
            "products",
            "probe: median / 90 %",
            "false",
            "lists that lack a value",
            "found and added",
            "gap > 2 %",
            "complete within +35 %",
            "+50 %",
            "+100 %",
            "at all",
        ],
        lines,
    )
    print(f"\nfalse statements: at most {at_most(false_all, runs_all):.1e} (99 %)")
    return false_all


def calibration_cell(first: int, seeds: int, chance: float) -> Row:
    """A tight copy of a leading value, and probes that may fail often."""
    from trust.calibration import false_at

    return {
        "false": sum(false_at(seed, chance) for seed in range(first, first + seeds)),
        "runs": seeds,
    }


def calibrate(seeds: int, store: Path | None, chance: float = 0.1) -> tuple[float, float]:
    """Limits of the share of false statements where a tenth may be: a probe must be able to err."""
    chunk = max(1, seeds // 8)
    cells = [(first, min(chunk, seeds - first), chance) for first in range(0, seeds, chunk)]
    rows = computed(cells, calibration_cell, "calibration", store)
    false, runs = (sum(r[key] for r in rows) for key in ("false", "runs"))
    low, high = at_least(false, runs), at_most(false, runs)
    share, limits = 100 * false / runs, f"{100 * low:.1f} to {100 * high:.1f} %, 99 %"
    print(f"\nCalibration: at a = {chance:g} {share:.1f} % of {runs} are false ({limits})")
    return low, high
