"""The kind `density`: nodes and weights of the quadrature, what they limit, and a curve.

Nodes, weights and what was taken out are the data; width and grid are choices of display. One
estimate lies in the root of the file, those of several layers in a group each. A file of an earlier
version has errors of its probes in the place of intervals: it is read without them.

Letters: n probes, k steps, d taken out, g points, t levels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from curvtool.results import DensityEstimate, DensityRun, Outcome, SpectralFunction
from curvtool.results.density import SIDES
from curvtool.storage import axes
from curvtool.storage.atomic import replacing
from curvtool.storage.file import opened, read_header, require_kind
from curvtool.storage.layers import add_layers, read_layers
from curvtool.storage.solve import read_solve, write_solve

KIND = "density"
SIGNS = ("negative", "positive")
_UNIT = "loss / parameter^2"
_NO_LEVELS = np.zeros((2, 0, 2))
_ATTRIBUTES: dict[str, Callable[[Any], Any]] = {
    "sigma": float,
    "size": int,
    "reorthogonalized": bool,
    "least_level": float,
    "confidence": float,
    "method": str,
    "hvps": int,
    "noise": float,
}


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
    for name in _ATTRIBUTES:
        group.attrs[name] = getattr(found, name)
    group.attrs["ends"] = np.asarray(found.ends, dtype=np.float64)
    group.attrs["outcome"] = found.outcome.value
    group.attrs["solve_seconds"] = found.seconds
    group.attrs["hvps_by_stage"] = json.dumps(dict(found.hvps_by_stage))
    end = axes.add_axis(group, "end", 2)
    _write_data(group, found)
    points = np.asarray(found.grid, dtype=np.float64)
    grid = axes.add_coordinate(group, "grid", points, long_name="eigenvalue", units=_UNIT)
    axes.add_series(
        group,
        "density",
        np.asarray(found.density, dtype=np.float64),
        [grid],
        long_name="spectral density, Gaussians of width sigma, for display",
        units=f"1 / ({_UNIT})",
    )
    if found.cumulative_interval is not None:
        axes.add_series(
            group,
            "cumulative_interval",
            np.asarray(found.cumulative_interval, dtype=np.float64),
            [grid, end],
            long_name="limits of the number of eigenvalues that are at most the grid's",
        )
    _write_counts(group, found, end)
    _write_functions(group, found.functions, end)


def _write_data(group: Any, found: DensityEstimate) -> None:
    probe = axes.add_axis(group, "probe", found.nodes.shape[0])
    step = axes.add_axis(group, "step", found.nodes.shape[1])
    deflated = axes.add_axis(group, "extreme", len(found.deflated))
    outlier = axes.add_axis(group, "outlier", len(found.outliers))
    for name, over, long_name, units in (
        ("nodes", [probe, step], "Ritz values of the rest; NaN past the end of a row", _UNIT),
        ("weights", [probe, step], "share of the rest at a node", "1"),
        ("squared_lengths", [probe], "squared length of the probe: its share in means", "1"),
        ("couplings", [probe], "last beta of the recurrence", _UNIT),
        ("deflated", [deflated], "eigenvalues that were taken out", _UNIT),
        ("deflated_errors", [deflated], "their errors", _UNIT),
        ("outliers", [outlier], "eigenvalues from a spectrum run", _UNIT),
    ):
        values = np.asarray(getattr(found, name), dtype=np.float64)
        axes.add_series(group, name, values, over, long_name=long_name, units=units)


def _write_counts(group: Any, found: DensityEstimate, end: Any) -> None:
    axes.add_number(
        group,
        "zero_band",
        found.zero_band,
        long_name="t: eigenvalues within -t..t have no sign that is known",
        units=_UNIT,
    )
    if found.count_interval is None:
        return
    side = axes.add_coordinate(
        group, "side", np.array(SIDES, dtype=h5py.string_dtype()), long_name="where they lie"
    )
    axes.add_series(
        group,
        "count_interval",
        np.asarray(found.count_interval, dtype=np.float64),
        [side, end],
        long_name="limits of the number of eigenvalues below -t, within, above t, beyond either",
    )
    level = axes.add_coordinate(
        group,
        "level",
        np.asarray(found.levels, dtype=np.float64),
        long_name="distance from zero",
        units=_UNIT,
    )
    signs = np.array(SIGNS, dtype=h5py.string_dtype())
    sign = axes.add_coordinate(group, "sign", signs, long_name="side of zero")
    axes.add_series(
        group,
        "beyond_interval",
        np.asarray(found.beyond_interval, dtype=np.float64),
        [sign, level, end],
        long_name="limits of the number of eigenvalues beyond the level",
    )


def _write_functions(group: Any, functions: Sequence[SpectralFunction], end: Any) -> None:
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
    ):
        found = [getattr(f, name) for f in functions]
        values = np.array([np.nan if x is None else x for x in found], dtype=np.float64)
        axes.add_series(group, f"function_{name}", values, [function], long_name=long_name)
    ends = np.array([f.interval or (np.nan, np.nan) for f in functions], dtype=np.float64)
    axes.add_series(
        group,
        "function_interval",
        ends.reshape(len(functions), 2),
        [function, end],
        long_name="limits of the value; NaN where there is none",
    )


def _require_shapes(found: DensityEstimate) -> None:
    n, g, t = len(found.nodes), np.size(found.grid), np.size(found.levels)
    expected = {
        "weights": np.shape(found.nodes),
        "squared_lengths": (n,),
        "couplings": (n,),
        "deflated_errors": np.shape(found.deflated),
        "grid": (g,),
        "density": (g,),
        "cumulative_interval": (g, 2),
        "count_interval": (len(SIDES), 2),
        "levels": (t,),
        "beyond_interval": (len(SIGNS), t, 2),
    }
    if np.ndim(found.nodes) != 2:
        raise ValueError(f"write_density needs nodes of shape (n, k), not {np.shape(found.nodes)}")
    for name, shape in expected.items():
        values = getattr(found, name)
        if values is not None and np.shape(values) != shape:
            raise ValueError(f"write_density needs {name} of shape {shape}, not {np.shape(values)}")


def _read_estimate(group: Any, layer: str) -> DensityEstimate:
    common: dict[str, Any] = {
        "nodes": group["nodes"][...],
        "weights": group["weights"][...],
        "grid": group["grid"][...],
        "density": group["density"][...],
        "outliers": group["outliers"][...],
        "outcome": Outcome(group.attrs["outcome"]),
        "seconds": float(group.attrs["solve_seconds"]),
        "layer": layer,
    }
    if "zero_band" not in group:
        return _of_an_earlier_version(group, common)
    for name, kind in _ATTRIBUTES.items():
        common[name] = kind(group.attrs[name])
    for name in ("squared_lengths", "couplings", "deflated", "deflated_errors"):
        common[name] = group[name][...]
    low, high = group.attrs["ends"]
    counted = "count_interval" in group
    return DensityEstimate(
        **common,
        ends=(float(low), float(high)),
        hvps_by_stage=json.loads(group.attrs["hvps_by_stage"]),
        zero_band=float(group["zero_band"][()]),
        cumulative_interval=group["cumulative_interval"][...] if counted else None,
        count_interval=group["count_interval"][...] if counted else None,
        levels=group["level"][...] if counted else np.zeros(0),
        beyond_interval=group["beyond_interval"][...] if counted else _NO_LEVELS,
        functions=_read_functions(group),
    )


def _of_an_earlier_version(group: Any, common: dict[str, Any]) -> DensityEstimate:
    """A record of schema 1, without what it gave for errors: none of it was proved."""
    nodes = common["nodes"]
    finite = nodes[np.isfinite(nodes)]
    lowest, highest = (finite.min(), finite.max()) if finite.size else (np.nan, np.nan)
    texts = (group["function_name"].asstr()[...], group["function_detail"].asstr()[...])
    figures = (group[f"function_{name}"][...] for name in ("parameter", "value"))
    return DensityEstimate(
        **common,
        squared_lengths=np.ones(len(nodes)),
        couplings=np.full(len(nodes), np.nan),
        deflated=np.zeros(0),
        deflated_errors=np.zeros(0),
        cumulative_interval=None,
        sigma=float(group.attrs["sigma"]),
        size=int(group.attrs["size"]),
        ends=(float(lowest), float(highest)),
        reorthogonalized=bool(group.attrs["reorthogonalized"]),
        zero_band=float(group.attrs["tau"]),
        least_level=float(group.attrs["tau"]),
        count_interval=None,
        levels=np.zeros(0),
        beyond_interval=_NO_LEVELS,
        functions=tuple(
            SpectralFunction(
                name=name,
                detail=detail,
                parameter=_known(parameter),
                value=_known(value),
                interval=None,
            )
            for name, detail, parameter, value in zip(*texts, *figures, strict=True)
        ),
        confidence=0.0,
        method="probes",
        hvps=int(group.attrs["hvps"]),
        hvps_by_stage={},
        noise=float(group.attrs["noise"]),
    )


def _read_functions(group: Any) -> tuple[SpectralFunction, ...]:
    texts = (group["function_name"].asstr()[...], group["function_detail"].asstr()[...])
    figures = (group[f"function_{name}"][...] for name in ("parameter", "value", "interval"))
    return tuple(
        SpectralFunction(
            name=name,
            detail=detail,
            parameter=_known(parameter),
            value=_known(value),
            interval=None if np.isnan(ends).any() else (float(ends[0]), float(ends[1])),
        )
        for name, detail, parameter, value, ends in zip(*texts, *figures, strict=True)
    )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
