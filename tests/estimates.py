"""Realistic runs of the kinds trace, density, diag and spectrum-layers; drawn from a seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from curvtool.results import (
    BlockSpectra,
    DensityEstimate,
    DensityRun,
    DiagonalEstimate,
    DiagRun,
    Outcome,
    SpectralFunction,
    SpectrumBlocksRun,
    TraceEstimate,
    TraceRun,
)
from tests import runs

LAYERS = (
    "conv1",
    "layer1.0.conv1",
    "layer1.0.conv2",
    "layer2.0.downsample.0",
    "layer4.1.conv2",
    "fc",
)
SIZES = (9_408, 36_864, 36_864, 8_192, 2_359_296, 513_000)


def parts(**changes: Any) -> dict[str, Any]:
    """What a run has besides its estimate; `changes` replace parts."""
    whole = runs.run()
    names = ("problem", "plan", "preflight", "parameters", "config", "environment", "seconds")
    return {name: getattr(whole, name) for name in (*names, "version", "created")} | changes


def trace(**changes: Any) -> TraceEstimate:
    """A trace to 0.8 %, by layer."""
    rng = np.random.default_rng(0)
    weights = np.full(98, 1 / 98)
    layer_trace = np.array([311.42, 95.131, 120.8, 14.02, -3.1, 702.93])
    facts: dict[str, Any] = {
        "trace": 1241.202,
        "stderr": 4.912,
        "interval": (1231.4, 1251.3),
        "confidence": 0.95,
        "is_interval": True,
        "degrees_of_freedom": 93.4,
        "rel_err": 0.01,
        "abs_err": None,
        "method": "hutchinson",
        "probes": "rademacher",
        "sharing": "per-batch",
        "samples": weights * rng.normal(1241.2, 420, (4, 98)),
        "batch_weight": weights,
        "outcome": Outcome.CONVERGED,
        "hvps": 36.5,
        "hvps_by_stage": {"pilot": 4.0, "deflate": 28.5, "probe": 4.0},
        "seconds": 17.3,
        "noise": runs.NOISE,
        "float64_samples": 2,
        "correction": -0.0031,
        "arithmetic": 0.021,
        "deflated": 8,
        "deflated_trace": 702.13,
        "layers": LAYERS,
        "layer_trace": layer_trace,
        "layer_stderr": np.abs(layer_trace) * 0.01 + 0.9,
        "layer_interval": layer_trace[:, None] + np.array([-2, 2.1]),
        "frobenius_squared": 40_211.7,
        "frobenius_squared_interval": (38_600.0, 41_900.0),
        "frobenius_squared_stderr": 812.0,
        "layer_frobenius_squared": layer_trace**2 / 40,
        "layer_frobenius_squared_stderr": layer_trace**2 / 1200,
        "layer_frobenius_squared_interval": layer_trace[:, None] ** 2 / 40 * [0.9, 1.1],
        "reason": (
            "a probe for every batch has 11.7 times less variance here than a shared one; "
            "taking out 8 directions pays for its 28 products"
        ),
    }
    return TraceEstimate(**facts | changes)


def trace_run(found: TraceEstimate | None = None, **changes: Any) -> TraceRun:
    """A whole `trace` run."""
    return TraceRun(estimate=found or trace(), **parts(**changes))


FUNCTIONS = (
    SpectralFunction(
        name="trace", parameter=None, value=1301.0, interval=(1255.2, 1349.0), detail="sum l"
    ),
    SpectralFunction(
        name="Schatten norm",
        parameter=1.0,
        value=1388.0,
        interval=(1322.4, 1467.1),
        detail="nuclear norm, sum |l|",
    ),
    SpectralFunction(
        name="effective dimension",
        parameter=0.1,
        value=182.31,
        interval=(44.2, 251.8),
        detail="sum l / (l + a)",
    ),
    SpectralFunction(
        name="log-determinant",
        parameter=0.1,
        value=None,
        interval=None,
        detail=(
            "sum log(l + a) has no meaning here: the operator has negative eigenvalues, down to "
            "-0.31. Use one that has none, such as the Gauss-Newton matrix."
        ),
    ),
)


def density(
    *,
    size: int = 11_173_962,
    seed: int = 0,
    probes: int = 4,
    top: float = 12.8,
    layer: str = "",
    **changes: Any,
) -> DensityEstimate:
    """A bulk at zero with outliers, as trained networks have it."""
    rng = np.random.default_rng(seed)
    steps = 40
    nodes = np.sort(rng.normal(0, 0.02 * top, (probes, steps)) * rng.choice([1e-9, 1], steps), 1)
    weights = rng.random(nodes.shape)
    weights /= weights.sum(1, keepdims=True)
    deflated = top * 0.8 ** np.arange(12) * rng.choice([1, -0.1], 12, p=[0.9, 0.1])
    sigma = 0.01 * top
    drawn = np.concatenate([nodes.ravel(), deflated])
    grid = np.linspace(drawn.min() - 4 * sigma, drawn.max() + 4 * sigma, 800)
    apart = (grid[:, None] - nodes.ravel()) / sigma
    height = np.exp(-(apart**2) / 2) / (sigma * np.sqrt(2 * np.pi))
    sharp = np.exp(-(((grid[:, None] - deflated) / sigma) ** 2) / 2) / (sigma * np.sqrt(2 * np.pi))
    curve = height @ weights.ravel() / probes + sharp.sum(1) / size
    least = 6 * runs.NOISE * top
    levels = np.geomspace(least, top, 40)
    # A power law of counts, exact at the large end, open at the small one.
    share = np.minimum(12 * (top / levels) ** 0.7, 0.4 * size)
    open_part = np.where(levels < 0.1 * top, 0.3, 0.0)
    surely = np.maximum.accumulate(np.floor(share * (1 - open_part))[::-1])[::-1]
    above = np.stack([surely, np.ceil(share * (1 + open_part))], 1)
    below = np.floor(above * 0.05)
    band = float(levels[20])
    counts = np.stack([below[20], [0.0, 0.0], above[20], above[20] + below[20]])
    counts[1] = size - counts[3][::-1]
    facts: dict[str, Any] = {
        "nodes": nodes,
        "weights": weights,
        "squared_lengths": np.full(probes, float(size)),
        "couplings": np.full(probes, 0.003 * top),
        "deflated": deflated,
        "deflated_errors": np.full(12, 1e-6 * top),
        "grid": grid,
        "density": curve,
        "cumulative_interval": np.stack([grid - grid[0], grid - grid[0] + 3], 1),
        "sigma": sigma,
        "size": size,
        "ends": (float(drawn.min()) - 1e-5 * top, float(drawn.max()) + 1e-5 * top),
        "reorthogonalized": True,
        "zero_band": band,
        "least_level": least,
        "count_interval": counts,
        "levels": levels,
        "beyond_interval": np.stack([below, above]),
        "functions": FUNCTIONS,
        "confidence": 0.95,
        "method": "probes",
        "outliers": np.array([]),
        "outcome": Outcome.CONVERGED,
        "hvps": probes * steps + 55,
        "hvps_by_stage": {"deflate": 55, "probe": probes * steps},
        "seconds": 96.0,
        "noise": runs.NOISE,
        "layer": layer,
    }
    return DensityEstimate(**facts | changes)


def of_an_earlier_version(**changes: Any) -> DensityEstimate:
    """As a file of schema 1 is read: values, and no interval."""
    functions = tuple(dataclasses.replace(f, interval=None) for f in FUNCTIONS)
    facts: dict[str, Any] = {
        "cumulative_interval": None,
        "count_interval": None,
        "levels": np.zeros(0),
        "beyond_interval": np.zeros((2, 0, 2)),
        "deflated": np.zeros(0),
        "deflated_errors": np.zeros(0),
        "functions": functions,
        "hvps_by_stage": {},
    }
    return density(**facts | changes)


def density_run(*found: DensityEstimate, **changes: Any) -> DensityRun:
    """A whole `density` run."""
    return DensityRun(estimates=found or (density(),), **parts(**changes))


def layer_densities() -> Sequence[DensityEstimate]:
    """A density for each layer, unlike in size and range."""
    tops = (3.1, 0.8, 0.4, 5.5, 0.02, 12.1)
    return [
        density(size=size, seed=i, top=top, layer=name)
        for i, (name, size, top) in enumerate(zip(LAYERS, SIZES, tops, strict=True))
    ]


def diagonal(P: int = 400, **changes: Any) -> DiagonalEstimate:
    """A diagonal to 3 %, by layer."""
    rng = np.random.default_rng(0)
    values = rng.gamma(0.3, 1e-4, P)
    means = np.array([3.31e-2, 2.58e-3, 3.2e-3, 1.71e-3, -1.31e-6, 1.37e-3])
    spread = np.array([-0.4, 0.01, 0.3, 1.1, 9.0])
    facts: dict[str, Any] = {
        "diagonal": values,
        "diagonal_stderr": 0.03 * values,
        "diagonal_error": 0.07 * values,
        "layers": LAYERS,
        "layer_size": np.array(SIZES, dtype=np.float64),
        "layer_mean": means,
        "layer_mean_stderr": np.abs(means) * 0.02,
        "layer_mean_interval": means[:, None] + np.abs(means[:, None]) * [-0.041, 0.043],
        "layer_quantiles": np.sort(means[:, None] * spread[None], 1),
        "degrees_of_freedom": 63.0,
        "levels": (0.05, 0.25, 0.5, 0.75, 0.95),
        "rel_err": 0.031,
        "asked": 0.05,
        "method": "hutchinson",
        "probes": "rademacher",
        "sharing": "per-batch",
        "outcome": Outcome.CONVERGED,
        "hvps": 64.0,
        "seconds": 29.6,
        "noise": runs.NOISE,
        "float64_samples": 2,
        "arithmetic": 2.1e-5,
        "history": {"hvps": np.arange(1.0, 5.0) * 16, "rel_err": 0.12 / np.arange(1.0, 5.0)},
    }
    return DiagonalEstimate(**facts | changes)


def diag_run(found: DiagonalEstimate | None = None, **changes: Any) -> DiagRun:
    """A whole `diag` run."""
    return DiagRun(estimate=found or diagonal(), **parts(**changes))


def blocks(unconverged: Sequence[int] = ()) -> BlockSpectra:
    """Spectra of the layers; those of `unconverged` have an open pair."""
    return BlockSpectra(
        names=LAYERS,
        sizes=SIZES,
        pairs=[
            runs.pairs(
                runs.spectrum(5, seed=i) / (1 + i), unconverged=[4] if i in unconverged else []
            )
            for i in range(len(LAYERS))
        ],
    )


def blocks_run(found: BlockSpectra | None = None, **changes: Any) -> SpectrumBlocksRun:
    """A whole `spectrum --per-layer` run."""
    return SpectrumBlocksRun(blocks=found or blocks(), **parts(**changes))
