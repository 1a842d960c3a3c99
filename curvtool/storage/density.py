"""The kind `density`: nodes and weights of the quadrature, and the curve drawn from them.

Nodes and weights are the data; width and grid are choices of display. One estimate lies in the
root of the file, those of several layers in a group each. Letters: n probes, m steps, g points.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from curvtool.results import DensityEstimate, DensityRun, Outcome, SpectralFunction
from curvtool.storage import axes
from curvtool.storage.atomic import replacing
from curvtool.storage.file import opened, read_header, require_kind
from curvtool.storage.layers import add_layers, read_layers
from curvtool.storage.solve import read_solve, write_solve

KIND = "density"
_UNIT = "loss / parameter^2"


def write_density(path: Path, run: DensityRun) -> None:
    """Write a density run, whole or not at all.

    Args:
        path: file to create or replace. Its folder must exist.
        run: what to write. An estimate that names a layer gets a group, whether alone or not.

    Raises:
        InputError: where the file cannot be written.
        TypeError: where `config` or `environment` hold what JSON cannot.
        ValueError: where arrays have shapes that do not fit, or of several estimates one names no
            layer.
    """
    layers = _layers(run.estimates)
    for found in run.estimates:
        _require_shapes(found)
    with replacing(path) as file:
        write_solve(file, run, kind=KIND, outcome=run.outcome, hvps=run.hvps)
        if not layers:
            _write_estimate(file, run.estimates[0])
            return
        _, groups = add_layers(file, layers)
        for group, found in zip(groups, run.estimates, strict=True):
            _write_estimate(group, found)


def read_density(path: Path) -> DensityRun:
    """Read a density run.

    Args:
        path: of the run file.

    Returns:
        The run.

    Raises:
        InputError: for no such file, a foreign or damaged one, a newer schema, or another kind.
    """
    with opened(path) as file:
        header = read_header(file)
        require_kind(path, header.kind, KIND)
        places = read_layers(file) if "layers" in file else [("", file)]
        estimates = tuple(_read_estimate(group, name) for name, group in places)
        return DensityRun(estimates=estimates, **read_solve(file, header))


def _layers(estimates: Sequence[DensityEstimate]) -> list[str]:
    """Names of the layers; none where the one estimate is of the whole."""
    names = [found.layer for found in estimates]
    if names == [""]:
        return []
    if not names or "" in names:
        raise ValueError(
            f"write_density needs one estimate of the whole, or a layer's name in each; not {names}"
        )
    return names


def _write_estimate(group: Any, found: DensityEstimate) -> None:
    for name in (
        "sigma",
        "size",
        "probes",
        "reorthogonalized",
        "tau",
        "negative_mass",
        "negative_mass_stderr",
        "hvps",
        "noise",
    ):
        group.attrs[name] = getattr(found, name)
    group.attrs["outcome"] = found.outcome.value
    group.attrs["solve_seconds"] = found.seconds
    probe = axes.add_axis(group, "probe", found.nodes.shape[0])
    step = axes.add_axis(group, "step", found.nodes.shape[1])
    for name, long_name, units in (
        ("nodes", "Ritz values; NaN past the end of a Krylov space that closed early", _UNIT),
        ("weights", "share of the spectrum at a node", "1"),
    ):
        values = np.asarray(getattr(found, name), dtype=np.float64)
        axes.add_series(group, name, values, [probe, step], long_name=long_name, units=units)
    points = np.asarray(found.grid, dtype=np.float64)
    grid = axes.add_coordinate(group, "grid", points, long_name="eigenvalue", units=_UNIT)
    for name, long_name in (
        ("density", "spectral density, Gaussians of width sigma around the nodes"),
        ("density_stderr", "standard error of density over probes"),
    ):
        values = np.asarray(getattr(found, name), dtype=np.float64)
        axes.add_series(group, name, values, [grid], long_name=long_name, units=f"1 / ({_UNIT})")
    outlier = axes.add_axis(group, "outlier", len(found.outliers))
    outliers = np.asarray(found.outliers, dtype=np.float64)
    long_name = "eigenvalues from a spectrum run"
    axes.add_series(group, "outliers", outliers, [outlier], long_name=long_name, units=_UNIT)
    _write_functions(group, found.functions)


def _write_functions(group: Any, functions: Sequence[SpectralFunction]) -> None:
    function = axes.add_axis(group, "function", len(functions))
    text = h5py.string_dtype()
    for name, long_name in (
        ("name", "function of the spectrum, summed over all eigenvalues"),
        ("detail", "its formula, or why it has no value"),
    ):
        texts = np.array([getattr(f, name) for f in functions], dtype=text)
        axes.add_series(group, f"function_{name}", texts, [function], long_name=long_name)
    for name, long_name in (
        ("parameter", "of the function; NaN where it has none"),
        ("value", "the estimate; NaN where it has no meaning"),
        ("stderr", "standard error over probes; NaN where unknown"),
    ):
        found = [getattr(f, name) for f in functions]
        values = np.array([np.nan if x is None else x for x in found], dtype=np.float64)
        axes.add_series(group, f"function_{name}", values, [function], long_name=long_name)


def _require_shapes(found: DensityEstimate) -> None:
    if np.ndim(found.nodes) != 2 or np.shape(found.weights) != np.shape(found.nodes):
        raise ValueError(
            "write_density needs nodes and weights of one shape (n, m), not "
            f"{np.shape(found.nodes)} and {np.shape(found.weights)}"
        )
    shapes = {np.shape(found.grid), np.shape(found.density), np.shape(found.density_stderr)}
    if len(shapes) != 1 or np.ndim(found.grid) != 1:
        raise ValueError(
            f"write_density needs grid, density and its error of one shape (g,), not {shapes}"
        )


def _read_estimate(group: Any, layer: str) -> DensityEstimate:
    return DensityEstimate(
        nodes=group["nodes"][...],
        weights=group["weights"][...],
        grid=group["grid"][...],
        density=group["density"][...],
        density_stderr=group["density_stderr"][...],
        sigma=float(group.attrs["sigma"]),
        size=int(group.attrs["size"]),
        probes=str(group.attrs["probes"]),
        reorthogonalized=bool(group.attrs["reorthogonalized"]),
        tau=float(group.attrs["tau"]),
        negative_mass=float(group.attrs["negative_mass"]),
        negative_mass_stderr=float(group.attrs["negative_mass_stderr"]),
        functions=_read_functions(group),
        outliers=group["outliers"][...],
        outcome=Outcome(group.attrs["outcome"]),
        hvps=int(group.attrs["hvps"]),
        seconds=float(group.attrs["solve_seconds"]),
        noise=float(group.attrs["noise"]),
        layer=layer,
    )


def _read_functions(group: Any) -> tuple[SpectralFunction, ...]:
    texts = (group["function_name"].asstr()[...], group["function_detail"].asstr()[...])
    figures = (group[f"function_{name}"][...] for name in ("parameter", "value", "stderr"))
    return tuple(
        SpectralFunction(
            name=name,
            detail=detail,
            parameter=_known(parameter),
            value=_known(value),
            stderr=_known(stderr),
        )
        for name, detail, parameter, value, stderr in zip(*texts, *figures, strict=True)
    )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
