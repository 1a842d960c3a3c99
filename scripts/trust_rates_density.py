"""How often densities hold the truth, with curvtool's own code on spectra that are known.

    python scripts/trust_rates_density.py [--quick] [--seeds 400] [--out FILE.json] [CELL ...]

A cell is a family of spectra with so many pairs taken out, e.g. `network-20`. For each seed fresh
probes, products with noise, all figures; the file is written after each seed, and a run that is
repeated goes on from there. Prints coverage with the 99 % interval of Clopper and Pearson, median
widths beside those that are to be reached, and checks of single steps: without noise, which is what
is proved, and with it, which moves the shares themselves.

Letters: P size, d deflated pairs, q probes, k steps.
"""

from __future__ import annotations

import argparse
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
from curvtool.algorithms.density.pooled import Extremes, PooledSpectrum, Probed
from curvtool.algorithms.density.probing import probed
from curvtool.algorithms.density.settings import DensitySettings
from curvtool.algorithms.density.steps import step_bounds
from curvtool.algorithms.probes import QUADRATURE, probe
from curvtool.operators.base import Counted, FunctionOperator
from curvtool.results import FloatArray

P, Q, K, NOISE = 2000, 4, 40, 1e-7
STEP_CHECKS = 4  # points of each probe, read from both sides
STEP_SEEDS = 50
# Of a probe's mass, beyond which a bound counts as violated: rounding, and with noise.
EXACTLY, NOISILY = 1e-9, 1e-7
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
    "giant-20": (1e-7, 0.0023, 0.0033, 0.026, 0.028, 3e-4, 0.0),
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


def _operator(values: FloatArray, seed: int, noise: float = NOISE) -> FunctionOperator:
    """A diagonal matrix whose products are wrong by `noise` of the largest, each in its own way."""
    diagonal = torch.from_numpy(values)
    size = noise * float(np.abs(values).max()) / len(values) ** 0.5
    generator = torch.Generator().manual_seed(seed)

    def product(v: torch.Tensor) -> torch.Tensor:
        rounding = torch.randn(len(v), generator=generator, dtype=v.dtype)
        return torch.add(diagonal * v, rounding, alpha=size)

    return FunctionOperator(product, len(values))


def _probes(values: FloatArray, d: int, seed: int, noise: float) -> list[Probed]:
    """Of the rest, the d largest taken out exactly."""
    operator = Counted(_operator(values, seed, noise))
    rows = torch.eye(P, dtype=torch.float64)[:d]
    floor = max(noise, 1e-16) * float(np.abs(values[0]))
    return [
        probed(operator, rows, i, steps=K, seed=seed, basis=True, noise=floor) for i in range(Q)
    ]


def one(values: FloatArray, d: int, seed: int) -> dict[str, Any]:
    """All figures of one seed: whether each held the truth, and its relative half width."""
    top = float(np.abs(values[0]))
    probes = _probes(values, d, seed, NOISE)
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
    return {"hits": hits, "widths": widths}


def excess(values: FloatArray, d: int, seed: int, noise: float) -> FloatArray:
    """By how much bounds of steps miss each probe's own measure: positive where they do.

    Args:
        values: of the whole spectrum, the largest first.
        d: taken out.
        seed: of probes and points.
        noise: of a product, relative to the largest: bounds are read at three times that beyond.

    Returns:
        Two for each point, as shares of the mass.
    """
    rng = np.random.default_rng([seed, d])
    beyond = 3 * noise * float(np.abs(values[0]))
    found = []
    for i, each in enumerate(_probes(values, d, seed, noise)):
        z = probe(
            P,
            kind="gaussian",
            seed=seed,
            use=QUADRATURE,
            sweep=i,
            dtype=torch.float64,
            device=torch.device("cpu"),
        ).numpy()
        rest, weights = values[d:], z[d:] ** 2 / (z[d:] @ z[d:])
        at = rng.choice(rest, STEP_CHECKS) * rng.choice([0.5, 1.0, 1.01], STEP_CHECKS)
        below, _ = step_bounds(each.recurrence, at - beyond)
        _, upto = step_bounds(each.recurrence, at + beyond)
        truth = np.array([weights[rest <= x].sum() for x in at])
        found += [below - truth, truth - upto]
    return np.concatenate(found)


def _covered(hits: int, runs: int) -> tuple[float, float]:
    low = float(beta.ppf(0.005, hits, runs - hits + 1)) if hits else 0.0
    return low, float(beta.ppf(0.995, hits + 1, runs - hits)) if hits < runs else 1.0


def measured(path: Path, cells: list[str], seeds: int) -> dict[str, Any]:
    """Run what is missing, a seed at a time over all cells; the file holds what is done."""
    state: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    began = time.monotonic()
    for seed in range(seeds):
        for cell in cells:
            name, _, d = cell.rpartition("-")
            done = state.setdefault(cell, {"seeds": 0, "hits": {}, "widths": {}, "steps": {}})
            if done["seeds"] <= seed:
                found = one(_family(name), int(d), seed)
                for figure, hit in found["hits"].items():
                    done["hits"][figure] = done["hits"].get(figure, 0) + hit
                for figure, width in found["widths"].items():
                    done["widths"].setdefault(figure, []).append(float(f"{width:.4g}"))
                done["seeds"] += 1
            if done["steps"].get("seeds", 0) <= seed < STEP_SEEDS:
                _add_steps(done["steps"], _family(name), int(d), seed)
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(state))
        os.replace(partial, path)
        if seed % 10 == 9:
            print(f"{seed + 1} seeds, {time.monotonic() - began:.0f} s", flush=True)
    return state


def _add_steps(steps: dict[str, Any], values: FloatArray, d: int, seed: int) -> None:
    """Checks of one seed, without noise and with it; the worst in eigenvalues."""
    for kind, noise, most in (("exact", 0.0, EXACTLY), ("noisy", NOISE, NOISILY)):
        missed = excess(values, d, seed, noise)
        steps[f"{kind}_checks"] = steps.get(f"{kind}_checks", 0) + len(missed)
        steps[kind] = steps.get(kind, 0) + int((missed > most).sum())
        worst = max(steps.get(f"{kind}_worst", 0.0), float(missed.max()) * (P - d))
        steps[f"{kind}_worst"] = worst
    steps["seeds"] = seed + 1


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
            if middle > factor * wanted:
                short.append(f"{cell} {figure}: width {middle:.3g}, {wanted:.2g} wanted")
    for kind, words in (("exact", "without noise"), ("noisy", f"noise of {NOISE:g}")):
        steps = [found["steps"] for found in state.values()]
        checks = sum(each.get(f"{kind}_checks", 0) for each in steps)
        violated = sum(each.get(kind, 0) for each in steps)
        worst = max((each.get(f"{kind}_worst", 0.0) for each in steps), default=0.0)
        said = f"{checks:,} checks of steps, {words}: {violated} violated"
        yield f"{said}, the worst by {worst:.1g} of an eigenvalue"
        if violated:
            short.append(said)
    yield "falls short: " + ("nothing" if not short else "")
    yield from short


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cells", nargs="*", choices=[*WANTED, []], metavar="CELL")
    parser.add_argument("--quick", action="store_true", help="12 seeds of three cells")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--out", type=Path, default=Path("trust_rates_density.json"))
    asked = parser.parse_args()
    cells = asked.cells or list(QUICK if asked.quick else WANTED)
    state = measured(asked.out, cells, asked.seeds or (12 if asked.quick else 400))
    for line in lines({cell: state[cell] for cell in cells}):
        print(line)


if __name__ == "__main__":
    main()
