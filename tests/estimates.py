"""Realistic runs of the kinds trace, density, diag and spectrum-layers; drawn from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
        name="effective dimension",
        parameter=0.1,
        value=182.31,
        stderr=6.2,
        detail="sum of l / (l + a) over eigenvalues above zero",
    ),
    SpectralFunction(
        name="log-determinant",
        parameter=0.1,
        value=None,
        stderr=None,
        detail="H is not positive semi-definite: 2.1 % of its eigenvalues lie below -tau",
    ),
    SpectralFunction(
        name="Schatten norm",
        parameter=1.0,
        value=1388.0,
        stderr=21.5,
        detail="sum of |l|",
    ),
    SpectralFunction(
        name="rank",
        parameter=3e-5,
        value=240_113.0,
        stderr=9_120.0,
        detail="eigenvalues with |l| above the threshold",
    ),
)


def density(
    *,
    size: int = 11_173_962,
    seed: int = 0,
    probes: int = 6,
    top: float = 12.8,
    layer: str = "",
    **changes: Any,
) -> DensityEstimate:
    """A bulk at zero with outliers, as trained networks have it."""
    rng = np.random.default_rng(seed)
    steps = 60
    bulk = rng.normal(0, 0.02 * top, (probes, steps - 10)) * rng.choice([1e-9, 1], steps - 10)
    nodes = np.sort(np.hstack([bulk, top * rng.power(1.2, (1, 10)) + np.zeros((probes, 1))]), 1)
    weights = np.where(np.abs(nodes) < 0.1 * top, rng.random(nodes.shape), 0)
    weights /= weights.sum(1, keepdims=True)
    weights += rng.chisquare(1, nodes.shape) / size * (np.abs(nodes) >= 0.1 * top)
    weights /= weights.sum(1, keepdims=True)
    sigma = 0.01 * top
    grid = np.linspace(nodes.min() - 4 * sigma, nodes.max() + 4 * sigma, 800)
    each = curve(nodes, weights, grid, sigma)
    tau = 10 * runs.NOISE * top
    below = np.where(nodes < -tau, weights, 0).sum(1)
    facts: dict[str, Any] = {
        "nodes": nodes,
        "weights": weights,
        "grid": grid,
        "density": each.mean(0),
        "density_stderr": each.std(0, ddof=1) / probes**0.5 if probes > 1 else each[0] * np.nan,
        "sigma": sigma,
        "size": size,
        "probes": "rademacher",
        "reorthogonalized": True,
        "tau": tau,
        "negative_mass": float(below.mean()),
        "negative_mass_stderr": float(below.std(ddof=1) / probes**0.5) if probes > 1 else np.nan,
        "functions": FUNCTIONS,
        "outliers": np.array([]),
        "outcome": Outcome.CONVERGED,
        "hvps": probes * steps,
        "seconds": 96.0,
        "noise": runs.NOISE,
        "layer": layer,
    }
    return DensityEstimate(**facts | changes)


def curve(
    nodes: NDArray[np.float64],
    weights: NDArray[np.float64],
    grid: NDArray[np.float64],
    sigma: float,
) -> NDArray[np.float64]:
    """Gaussians around the nodes, a row for each probe."""
    apart = (grid[None, :, None] - nodes[:, None, :]) / sigma
    height = np.exp(-(apart**2) / 2) / (sigma * np.sqrt(2 * np.pi))
    drawn: NDArray[np.float64] = (height * weights[:, None, :]).sum(-1)
    return drawn


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
