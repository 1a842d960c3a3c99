"""The kind `trace`: the trace with its interval, the samples, and what came with them.

Letters: R passes, B terms, L layers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from curvtool.results import Outcome, TraceEstimate, TraceRun
from curvtool.storage import axes, optional, strictjson
from curvtool.storage.atomic import replacing
from curvtool.storage.file import RunHeader, opened, read_header, read_json, require_kind
from curvtool.storage.layers import add_layer_axis
from curvtool.storage.solve import read_solve, write_solve

KIND = "trace"
_UNIT = "loss / parameter^2"
_SQUARED = "loss^2 / parameter^4"
# Series over layers: name, what it is, unit.
_OF_LAYERS = (
    ("layer_trace", "the layer's part of the trace", _UNIT),
    ("layer_stderr", "standard error of layer_trace", _UNIT),
    ("layer_frobenius_squared", "squared Frobenius norm of the layer's row block", _SQUARED),
    (
        "layer_frobenius_squared_stderr",
        "standard error of layer_frobenius_squared",
        _SQUARED,
    ),
)
# Ends of intervals over layers: name, what it is, unit.
_ENDS_OF_LAYERS = (
    ("layer_interval", "low and high end of layer_trace", _UNIT),
    (
        "layer_frobenius_squared_interval",
        "low and high end of layer_frobenius_squared",
        _SQUARED,
    ),
)
# Single figures: name, what it is, unit.
_NUMBERS = (
    ("trace", "trace of the operator", _UNIT),
    ("stderr", "standard error of the trace, of the probes alone", _UNIT),
    ("confidence", "with which the interval holds the truth", "1"),
    ("frobenius_squared", "squared Frobenius norm of the operator", _SQUARED),
    ("frobenius_squared_stderr", "standard error of frobenius_squared", _SQUARED),
)


def write_trace(path: Path, run: TraceRun) -> None:
    """Write a trace run, whole or not at all.

    Args:
        path: file to create or replace. Its folder must exist.
        run: what to write.

    Raises:
        InputError: where the file cannot be written.
        TypeError: where `config` or `environment` hold what JSON cannot.
        ValueError: where arrays of the run have shapes that do not fit.
    """
    found = run.estimate
    _require_shapes(found)
    with replacing(path) as file:
        write_solve(file, run, kind=KIND, outcome=found.outcome, hvps=found.hvps)
        _write_facts(file, found)
        _write_figures(file, found)


def read_trace(path: Path) -> TraceRun:
    """Read a trace run.

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
        return TraceRun(estimate=_read_estimate(file, header), **read_solve(file, header))


def _write_facts(file: Any, found: TraceEstimate) -> None:
    file.attrs["is_interval"] = found.is_interval
    file.attrs["degrees_of_freedom"] = found.degrees_of_freedom
    optional.put_attribute(file, "rel_err", found.rel_err)
    optional.put_attribute(file, "abs_err", found.abs_err)
    file.attrs["method"] = found.method
    file.attrs["probes"] = found.probes
    file.attrs["sharing"] = found.sharing
    file.attrs["deflated"] = found.deflated
    file.attrs["deflated_trace"] = found.deflated_trace
    file.attrs["noise"] = found.noise
    optional.put_attribute(file, "float64_samples", found.float64_samples)
    file.attrs["correction"] = found.correction
    file.attrs["arithmetic"] = found.arithmetic
    file.attrs["reason"] = strictjson.dumps(found.reason)
    file.attrs["hvps_by_stage"] = strictjson.dumps(found.hvps_by_stage)
    file.attrs["solve_seconds"] = found.seconds


def _write_figures(file: Any, found: TraceEstimate) -> None:
    for name, long_name, units in _NUMBERS:
        value = getattr(found, name)
        if value is not None:
            axes.add_number(file, name, value, long_name=long_name, units=units)
    end = axes.add_axis(file, "end", 2)
    ends = np.array(found.interval, dtype=np.float64)
    long_name = "low and high end of the interval" if found.is_interval else "estimated width"
    axes.add_series(file, "interval", ends, [end], long_name=long_name, units=_UNIT)
    squared = found.frobenius_squared_interval
    optional.put_series(
        file,
        "frobenius_squared_interval",
        None if squared is None else np.array(squared),
        [end],
        long_name="low and high end of frobenius_squared",
        units=_SQUARED,
    )
    passes = axes.add_axis(file, "pass", found.samples.shape[0])
    batch = axes.add_axis(file, "batch", found.samples.shape[1])
    samples = np.asarray(found.samples, dtype=np.float64)
    weights = np.asarray(found.batch_weight, dtype=np.float64)
    long_name = "z'H_b z of every pass and batch, in its share of the mean"
    axes.add_series(file, "samples", samples, [passes, batch], long_name=long_name, units=_UNIT)
    axes.add_series(file, "batch_weight", weights, [batch], long_name="share of the dataset mean")
    layer = add_layer_axis(file, found.layers)
    for name, long_name, units in _OF_LAYERS:
        values = getattr(found, name)
        optional.put_series(file, name, values, [layer], long_name=long_name, units=units)
    for name, long_name, units in _ENDS_OF_LAYERS:
        values = getattr(found, name)
        optional.put_series(file, name, values, [layer, end], long_name=long_name, units=units)


def _require_shapes(found: TraceEstimate) -> None:
    if np.ndim(found.samples) != 2 or np.shape(found.batch_weight) != found.samples.shape[1:]:
        raise ValueError(
            "write_trace needs samples of shape (R, B) and batch_weight of shape (B,), not "
            f"{np.shape(found.samples)} and {np.shape(found.batch_weight)}"
        )
    L = len(found.layers)
    expected: dict[str, tuple[int, ...]] = {name: (L,) for name, *_ in _OF_LAYERS}
    expected |= {name: (L, 2) for name, *_ in _ENDS_OF_LAYERS}
    for name, shape in expected.items():
        values = getattr(found, name)
        if values is not None and np.shape(values) != shape:
            raise ValueError(f"write_trace needs {name} of shape {shape}, not {np.shape(values)}")


def _read_estimate(file: Any, header: RunHeader) -> TraceEstimate:
    low, high = (float(end) for end in file["interval"])
    squared = optional.series(file, "frobenius_squared_interval")
    return TraceEstimate(
        trace=float(file["trace"][()]),
        stderr=float(file["stderr"][()]),
        interval=(low, high),
        confidence=float(file["confidence"][()]),
        is_interval=bool(file.attrs["is_interval"]),
        degrees_of_freedom=float(file.attrs["degrees_of_freedom"]),
        rel_err=optional.attribute(file, "rel_err"),
        abs_err=optional.attribute(file, "abs_err"),
        method=str(file.attrs["method"]),
        probes=str(file.attrs["probes"]),
        sharing=str(file.attrs["sharing"]),
        samples=file["samples"][...],
        batch_weight=file["batch_weight"][...],
        outcome=Outcome(header.outcome),
        hvps=float(header.hvps),
        hvps_by_stage=read_json(file, "hvps_by_stage"),
        seconds=float(file.attrs["solve_seconds"]),
        noise=float(file.attrs["noise"]),
        float64_samples=optional.whole_attribute(file, "float64_samples"),
        correction=float(file.attrs.get("correction", 0.0)),
        arithmetic=float(file.attrs.get("arithmetic", 0.0)),
        deflated=int(file.attrs["deflated"]),
        deflated_trace=float(file.attrs["deflated_trace"]),
        layers=tuple(str(name) for name in file["layer"].asstr()[...]),
        frobenius_squared=optional.number(file, "frobenius_squared"),
        frobenius_squared_stderr=optional.number(file, "frobenius_squared_stderr"),
        frobenius_squared_interval=(
            None if squared is None else (float(squared[0]), float(squared[1]))
        ),
        reason=str(strictjson.loads(file.attrs["reason"])),
        **{name: optional.series(file, name) for name, *_ in (*_OF_LAYERS, *_ENDS_OF_LAYERS)},
    )
