"""Rates of densities: is the truth within each interval as often as it is said to be?

A cell is a family of spectra with so many pairs taken out, e.g. `network-20`. For each seed fresh
probes, products with noise, all figures.

Letters: P size, d deflated pairs, q probes, k steps.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import beta

from curvtool.algorithms.density.figures import counted
from curvtool.algorithms.density.functions import SpectralSum, schatten_norm, trace
from curvtool.algorithms.density.pooled import Extremes, PooledSpectrum
from curvtool.algorithms.density.probing import probed
from curvtool.algorithms.density.settings import DensitySettings
from curvtool.algorithms.density.steps import step_bounds
from curvtool.operators.base import Counted, FunctionOperator
from curvtool.random_vectors import streams
from curvtool.random_vectors.purposes import Purpose
from curvtool.results import FloatArray

P, Q, K, NOISE = 2000, 4, 40, 1e-7
STEP_CHECKS = 4  # points of each probe, read from both sides
FEW = 12  # seeds of a small cut
# Of an eigenvalue. Products with noise move shares themselves: 20 of 179,200 checks lay further
# out, by 0.0018 at most, and none of 22,400 without noise.
STEP_SLACK = 1e-3
LEVEL = 0.95
# Half widths, relative, that are to be reached within a fifth: |H|_F, nuclear norm, trace (over the
# nuclear norm), effective dimensions at 1e-2 and 1e-3 of the top, log-determinant, count.
FIGURES = ("frobenius", "nuclear", "trace", "eff2", "eff3", "logdet", "rank")
WANTED: dict[str, tuple[float, ...]] = {
    "network-0": (0.33, 0.59, 0.86, 0.15, 0.12, 0.32, 0.26),
    "network-20": (6e-4, 0.044, 0.035, 0.095, 0.084, 0.09, 0.18),
    "uniform-0": (0.018, 0.024, 0.021, 0.0054, 0.0025, 0.012, 5e-4),
    "uniform-20": (0.018, 0.024, 0.021, 0.0054, 0.0025, 0.012, 5e-4),
    "semicircle-0": (0.021, 0.027, 0.04, 0.028, 0.031, 0.021, 0.028),
    "semicircle-20": (0.02, 0.027, 0.039, 0.027, 0.03, 0.02, 0.026),
    "rank66-0": (0.13, 0.27, 0.31, 0.2, 0.2, 0.24, 0.16),
    "rank66-20": (0.018, 0.08, 0.11, 0.15, 0.16, 0.13, 0.14),
    "giant-0": (0.34, 0.92, 2.5, 0.35, 0.061, 0.92, 0.5),
    # The count: 1,980 eigenvalues are told from zero here; a band that holds them all has none.
    "giant-20": (1e-7, 0.0023, 0.0033, 0.026, 0.028, 3e-4, 0.03),
    "inverse-0": (0.33, 0.73, 1.7, 0.3, 0.21, 0.47, 0.23),
    "inverse-20": (6e-6, 0.0087, 0.0074, 0.082, 0.13, 0.0034, 0.17),
    "zero-bulk-0": (0.14, 0.25, 0.49, 0.18, 0.2, 0.2, 0.15),
    "zero-bulk-20": (1e-11, 2e-5, 2e-5, 0.0011, 0.011, 1e-8, 0.0),
}
WITHIN, WITHIN_ZERO_BULK = 1.2, 3.2
QUICK = ("network-20", "rank66-20", "zero-bulk-20")


def _semicircle(n: int) -> FloatArray:
    x = np.linspace(-1, 1, 20_001)
    F = np.cumsum(np.sqrt(1 - x * x))
    return np.asarray(np.interp((np.arange(n) + 0.5) / n, F / F[-1], x))


def _family(name: str) -> FloatArray:
    i = np.arange(1, P + 1.0)
    signs = np.where((np.random.default_rng(97).random(P) < 0.1) & (i > 10), -0.3, 1.0)
    makers: dict[str, Callable[[], FloatArray]] = {
        "network": lambda: i**-1.3 * signs,
        "uniform": lambda: (i - 0.5) / P,
        "semicircle": lambda: _semicircle(P),
        "rank66": lambda: np.where(i <= 66, np.exp(-(i - 1) / 20), 0.0),
        "giant": lambda: np.concatenate([[1e4], _semicircle(P - 1)]),
        "inverse": lambda: i**-2.0,
        "zero-bulk": lambda: np.concatenate([np.linspace(1, 0.1, 20), 1e-6 * _semicircle(P - 20)]),
    }
    values = makers[name]()
    return np.asarray(values[np.argsort(-np.abs(values), kind="stable")])


def _even_share(g: float, x: FloatArray) -> FloatArray:
    size = np.abs(x)
    return np.asarray(size / (size + g))


def _sums(top: float) -> dict[str, SpectralSum]:
    """Norms and trace as they are printed, and the even forms of the two definite functions."""

    def even(name: str, f: Callable[[FloatArray], FloatArray]) -> SpectralSum:
        return SpectralSum(name=name, parameter=None, detail="", f=f, sway=lambda _: (0.0, 0.0))

    return {
        "frobenius": schatten_norm(2.0, top=top),
        "nuclear": schatten_norm(1.0, top=top),
        "trace": trace(),
        **{
            f"eff{n}": even("effective dimension", partial(_even_share, g))
            for n, g in ((1, 0.1 * top), (2, 1e-2 * top), (3, 1e-3 * top))
        },
        "logdet": even("log-determinant", lambda x: np.log1p((x / (0.01 * top)) ** 2)),
    }


def _operator(values: FloatArray, seed: int) -> FunctionOperator:
    """A diagonal matrix whose products are wrong by NOISE of the largest, each in its own way."""
    diagonal = torch.from_numpy(values)
    size = NOISE * float(np.abs(values).max()) / len(values) ** 0.5
    generator = torch.Generator().manual_seed(seed)

    def product(v: torch.Tensor) -> torch.Tensor:
        rounding = torch.randn(len(v), generator=generator, dtype=v.dtype)
        return torch.add(diagonal * v, rounding, alpha=size)

    return FunctionOperator(product, len(values))


def one(values: FloatArray, d: int, seed: int) -> dict[str, Any]:
    """All figures of one seed: whether each held the truth, and its relative half width."""
    top = float(np.abs(values[0]))
    operator = Counted(_operator(values, seed))
    rows = torch.eye(P, dtype=torch.float64)[:d]
    probes = [
        probed(operator, rows, i, steps=K, seed=seed, basis=True, noise=NOISE * top)
        for i in range(Q)
    ]
    extremes = Extremes(values[:d], np.zeros(d), np.zeros(d))
    view = PooledSpectrum(P, extremes, probes, noise=NOISE)
    nuclear = float(np.abs(values).sum())
    hits, widths = {}, {}
    for name, wanted in _sums(top).items():
        low, _, high = (wanted.finish(total) for total in view.sum(wanted))
        truth = wanted.finish(float(wanted.f(values).sum()))
        size = nuclear if name == "trace" else abs(truth)
        hits[name] = bool(low - 1e-9 * size <= truth <= high + 1e-9 * size)
        widths[name] = (high - low) / 2 / size
    counts = counted(view, DensitySettings(noise=NOISE, probes=Q))
    t = counts.band
    for side, where in (("negative", values < -t), ("positive", values > t)):
        low, high = counts.interval[0 if side == "negative" else 2]
        hits[side] = bool(low <= where.sum() <= high)
    number = int((np.abs(values) > t).sum())
    low, high = counts.interval[3]
    hits["rank"] = bool(low <= number <= high)
    widths["rank"] = float(high - low) / 2 / max(number, 1)
    checks, violations = _steps(values, d, seed, view)
    return {"hits": hits, "widths": widths, "checks": checks, "violations": violations}


def _steps(values: FloatArray, d: int, seed: int, view: PooledSpectrum) -> tuple[int, int]:
    """Checks of single steps against each probe's own measure beyond the noise, and violations."""
    # The noise moves shares, too: by less than what limits of counts allow for.
    rng = np.random.default_rng([seed, d])
    checks = violations = 0
    for i, recurrence in enumerate(view.recurrences):
        drawn = streams.normal(Purpose.QUADRATURE, i, seed=seed, size=P, dtype=torch.float64)
        z = drawn.numpy()
        rest, weights = values[d:], z[d:] ** 2 / (z[d:] @ z[d:])
        at = rng.choice(rest, STEP_CHECKS) * rng.choice([0.5, 1.0, 1.01], STEP_CHECKS)
        below, _ = step_bounds(recurrence, at - view.noise)
        _, upto = step_bounds(recurrence, at + view.noise)
        truth = np.array([weights[rest <= x].sum() for x in at])
        checks += 2 * STEP_CHECKS
        violations += int(
            (below > truth + STEP_SLACK / P).sum() + (upto < truth - STEP_SLACK / P).sum()
        )
    return checks, violations


def _covered(hits: int, runs: int) -> tuple[float, float]:
    low = float(beta.ppf(0.005, hits, runs - hits + 1)) if hits else 0.0
    return low, float(beta.ppf(0.995, hits + 1, runs - hits)) if hits < runs else 1.0


def measured(path: Path | None, cells: list[str], seeds: int) -> dict[str, Any]:
    """Run what is missing, a seed at a time over all cells; the file holds what is done."""
    state: dict[str, Any] = json.loads(path.read_text()) if path and path.exists() else {}
    began = time.monotonic()
    for seed in range(seeds):
        for cell in cells:
            done = state.setdefault(
                cell, {"seeds": 0, "hits": {}, "widths": {}, "checks": 0, "violations": 0}
            )
            if done["seeds"] > seed:
                continue
            name, _, d = cell.rpartition("-")
            found = one(_family(name), int(d), seed)
            for figure, hit in found["hits"].items():
                done["hits"][figure] = done["hits"].get(figure, 0) + hit
            for figure, width in found["widths"].items():
                done["widths"].setdefault(figure, []).append(float(f"{width:.4g}"))
            for key in ("checks", "violations"):
                done[key] += found[key]
            done["seeds"] += 1
        if path is not None:
            partial = path.with_name(path.name + ".partial")
            partial.write_text(json.dumps(state))
            os.replace(partial, path)
        if seed % 10 == 9:
            print(f"{seed + 1} seeds, {time.monotonic() - began:.0f} s", flush=True)
    return state


def lines(state: dict[str, Any]) -> Iterator[str]:
    """The table, and what falls short of what is to be reached."""
    short, counts = [], [0, 0]
    for cell, found in state.items():
        runs = found["seeds"]
        parts = []
        for figure, hits in found["hits"].items():
            low, high = _covered(hits, runs)
            if high < LEVEL:
                short.append(f"{cell} {figure}: {hits} of {runs}, {low:.1%} to {high:.1%}")
            if figure in {"negative", "positive", "rank"}:
                counts[0] += hits
                counts[1] += runs
            width = found["widths"].get(figure)
            median = f":{np.median(width):.2g}" if width else ""
            parts.append(f"{figure} {100 * hits / runs:.0f}{median}")
        yield f"{cell:14} {runs:4} seeds  " + "  ".join(parts)
        factor = WITHIN_ZERO_BULK if cell == "zero-bulk-20" else WITHIN
        for figure, wanted in zip(FIGURES, WANTED.get(cell, ()), strict=False):
            middle = float(np.median(found["widths"][figure]))
            # Figures of the table are rounded to two digits.
            if middle > factor * wanted * 1.05 + 1e-9:
                short.append(f"{cell} {figure}: width {middle:.3g}, {wanted:.2g} wanted")
    checks = sum(found["checks"] for found in state.values())
    violations = sum(found["violations"] for found in state.values())
    yield f"counts held in {100 * counts[0] / max(counts[1], 1):.2f} % of {counts[1]:,}"
    yield f"{checks:,} checks of steps, {violations} violated"
    yield "falls short: " + ("nothing" if not short else "")
    yield from short


def run(seeds: int | None, store: Path | None) -> int:
    """Print the table; the number of figures whose coverage falls short, and of steps violated.

    Args:
        seeds: of each cell; None for a small cut.
        store: JSON file that is written after each seed; None for none.

    Returns:
        Violations. A width that falls short is printed, and is none.
    """
    cells = list(QUICK if seeds is None else WANTED)
    state = measured(store, cells, seeds or FEW)
    print("\nDensities: coverage in %, median half width, for each figure\n")
    said = list(lines({cell: state[cell] for cell in cells}))
    print("\n".join(said))
    steps = sum(int(state[cell]["violations"]) for cell in cells)
    return steps + sum(" of " in line and "width" not in line for line in _short(said))


def _short(said: list[str]) -> list[str]:
    at = next(i for i, line in enumerate(said) if line.startswith("falls short"))
    return said[at + 1 :]
