"""The kind `diag`: the diagonal with its errors, and what it is like in every layer.

Letters: P parameters, L layers, q quantiles.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from curvtool.results import DiagonalEstimate, DiagRun, Outcome
from curvtool.storage import axes, optional, strictjson
from curvtool.storage.atomic import replacing
from curvtool.storage.digests import read_long
from curvtool.storage.file import RunHeader, opened, read_header, require_kind
from curvtool.storage.history import read_history, require_history, write_history
from curvtool.storage.layers import add_layer_axis
from curvtool.storage.solve import read_solve, write_solve
from curvtool.storage.vectors import add_vectors, on_host

KIND = "diag"
_UNIT = "loss / parameter^2"
_OF_PARAMETERS = (
    ("diagonal", "H_ii, in the order of `parameters`"),
    ("diagonal_stderr", "standard error of diagonal, of the probes alone"),
    ("diagonal_error", "half-width of the interval of diagonal, entry by entry"),
)
_OF_LAYERS = (
    ("layer_size", "parameters of the layer", "1"),
    ("layer_mean", "mean of the layer's diagonal", _UNIT),
    ("layer_mean_stderr", "standard error of layer_mean, of the probes alone", _UNIT),
)


def write_diag(path: Path, run: DiagRun) -> None:
    """Write a diag run, whole or not at all.

    Args:
        path: file to create or replace. Its folder must exist.
        run: what to write; the diagonal may lie on any device.

    Raises:
        InputError: where the file cannot be written.
        TypeError: where `config` or `environment` hold what JSON cannot.
        ValueError: where arrays have shapes that do not fit, or the diagonal was left in a file.
    """
    found = run.estimate
    _require_shapes(found)
    with replacing(path) as file:
        write_solve(file, run, kind=KIND, outcome=found.outcome, hvps=found.hvps)
        _write_facts(file, found)
        parameter = axes.add_axis(file, "parameter", int(found.diagonal.shape[0]))
        for name, long_name in _OF_PARAMETERS:
            if getattr(found, name) is None:
                continue
            values = on_host(getattr(found, name))
            dataset = add_vectors(file, name, values.shape, values.dtype, [parameter], long_name)
            dataset[...] = values
            dataset.attrs["units"] = _UNIT
        _write_layers(file, found)
        write_history(file, found.history)


def read_diag(path: Path, *, vectors: bool = True) -> DiagRun:
    """Read a diag run.

    Args:
        path: of the run file.
        vectors: whether to read the diagonal and its errors: 3 P numbers of memory. Otherwise
            they are None.

    Returns:
        The run.

    Raises:
        InputError: for no such file, a foreign or damaged one, a newer schema, or another kind.
    """
    with opened(path) as file:
        header = read_header(file)
        require_kind(path, header.kind, KIND)
        return DiagRun(estimate=_read_estimate(file, header, vectors), **read_solve(file, header))


def _write_facts(file: Any, found: DiagonalEstimate) -> None:
    file.attrs["rel_err"] = found.rel_err
    optional.put_attribute(file, "asked", found.asked)
    file.attrs["confidence"] = found.confidence
    file.attrs["degrees_of_freedom"] = found.degrees_of_freedom
    file.attrs["reason"] = strictjson.dumps(found.reason)
    file.attrs["method"] = found.method
    file.attrs["probes"] = found.probes
    file.attrs["sharing"] = found.sharing
    file.attrs["noise"] = found.noise
    optional.put_attribute(file, "float64_samples", found.float64_samples)
    file.attrs["arithmetic"] = found.arithmetic
    file.attrs["deflated"] = found.deflated
    file.attrs["solve_seconds"] = found.seconds


def _write_layers(file: Any, found: DiagonalEstimate) -> None:
    layer = add_layer_axis(file, found.layers)
    for name, long_name, units in _OF_LAYERS:
        values = np.asarray(getattr(found, name), dtype=np.float64)
        axes.add_series(file, name, values, [layer], long_name=long_name, units=units)
    end = axes.add_axis(file, "end", 2)
    optional.put_series(
        file,
        "layer_mean_interval",
        found.layer_mean_interval,
        [layer, end],
        long_name="low and high end of layer_mean",
        units=_UNIT,
    )
    levels = np.array(found.levels, dtype=np.float64)
    level = axes.add_coordinate(file, "level", levels, long_name="share of a layer below")
    quantiles = np.asarray(found.layer_quantiles, dtype=np.float64)
    long_name = "quantile of the layer's estimates, their scatter included"
    axes.add_series(
        file, "layer_quantiles", quantiles, [layer, level], long_name=long_name, units=_UNIT
    )


def _require_shapes(found: DiagonalEstimate) -> None:
    if found.diagonal is None or found.diagonal_stderr is None:
        raise ValueError(
            "write_diag needs the diagonal and its errors; this run was read without them"
        )
    long = [getattr(found, name) for name, _ in _OF_PARAMETERS]
    shapes = [tuple(vector.shape) for vector in long if vector is not None]
    if len(shapes[0]) != 1 or len(set(shapes)) > 1:
        raise ValueError(f"write_diag needs a diagonal and errors of one shape (P,), not {shapes}")
    L, q = len(found.layers), len(found.levels)
    expected: dict[str, tuple[int, ...]] = {name: (L,) for name, *_ in _OF_LAYERS}
    expected |= {"layer_quantiles": (L, q), "layer_mean_interval": (L, 2)}
    for name, shape in expected.items():
        values = getattr(found, name)
        if values is not None and np.shape(values) != shape:
            raise ValueError(f"write_diag needs {name} of shape {shape}, not {np.shape(values)}")
    require_history(found.history, "write_diag")


def _read_estimate(file: Any, header: RunHeader, vectors: bool) -> DiagonalEstimate:
    long: dict[str, Any] = {
        name: read_long(file[name]) if vectors and name in file else None
        for name, _ in _OF_PARAMETERS
    }
    return DiagonalEstimate(
        layers=tuple(str(name) for name in file["layer"].asstr()[...]),
        layer_mean_interval=optional.series(file, "layer_mean_interval"),
        layer_quantiles=file["layer_quantiles"][...],
        levels=tuple(float(level) for level in file["level"]),
        rel_err=float(file.attrs["rel_err"]),
        asked=optional.attribute(file, "asked"),
        confidence=float(file.attrs.get("confidence", 0.95)),
        degrees_of_freedom=float(file.attrs["degrees_of_freedom"]),
        reason=str(strictjson.loads(file.attrs["reason"])),
        method=str(file.attrs["method"]),
        probes=str(file.attrs["probes"]),
        sharing=str(file.attrs["sharing"]),
        outcome=Outcome(header.outcome),
        hvps=float(header.hvps),
        seconds=float(file.attrs["solve_seconds"]),
        noise=float(file.attrs["noise"]),
        float64_samples=optional.whole_attribute(file, "float64_samples"),
        arithmetic=float(file.attrs.get("arithmetic", 0.0)),
        deflated=int(file.attrs.get("deflated", 0)),
        history=read_history(file),
        **long,
        **{name: file[name][...] for name, *_ in _OF_LAYERS},
    )
