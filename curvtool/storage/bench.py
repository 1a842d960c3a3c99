"""The kind `bench`: what every way to make a product cost on one model and machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from curvtool.results import BenchRun, Outcome, Verdict, WayTrial
from curvtool.storage import axes
from curvtool.storage.atomic import replacing
from curvtool.storage.file import (
    RunHeader,
    opened,
    read_header,
    read_parameters,
    require_kind,
    write_header,
    write_parameters,
)
from curvtool.storage.records import read_preflight, read_problem, write_record

KIND = "bench"
# Series of floats, NaN where a way did not run: name, what it is, unit.
_FLOATS = (
    ("seconds", "median of one product of the batches timed", "s"),
    ("spread", "half the distance between the quartiles of seconds, relative", "1"),
    ("setup_seconds", "taken once: graphs, traces, compilation", "s"),
    ("gradients", "seconds over those of one gradient of the same batches", "1"),
    ("error", "relative distance to the product in float64", "1"),
)
# Series of bytes, -1 where a way did not run.
_BYTES = (
    ("bytes_kept", "memory between products"),
    ("bytes_peak", "most memory above what was there before"),
)


def write_bench(path: Path, run: BenchRun) -> None:
    """Write a bench run, whole or not at all.

    Args:
        path: file to create or replace. Its folder must exist.
        run: what to write.

    Raises:
        InputError: where the file cannot be written.
    """
    with replacing(path) as file:
        write_header(
            file,
            RunHeader(
                kind=KIND,
                outcome=run.outcome.value,
                hvps=0,  # a comparison spends no product on an answer
                seconds=run.seconds,
                version=run.version,
                created=run.created,
                config=run.config,
                environment=run.environment,
            ),
        )
        write_record(file, "problem", run.problem)
        write_record(file, "preflight", run.preflight)
        file.attrs["gradient_seconds"] = run.gradient_seconds
        file.attrs["batches_timed"] = run.batches_timed
        file.attrs["rounds"] = run.rounds
        file.attrs["threads"] = run.threads
        file.attrs["device"] = run.device
        file.attrs["dtype"] = run.dtype
        write_parameters(file, run.parameters)
        _write_trials(file, run.trials)


def read_bench(path: Path) -> BenchRun:
    """Read a bench run.

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
        return BenchRun(
            problem=read_problem(file),
            trials=_read_trials(file),
            gradient_seconds=float(file.attrs["gradient_seconds"]),
            batches_timed=int(file.attrs["batches_timed"]),
            rounds=int(file.attrs["rounds"]),
            threads=int(file.attrs["threads"]),
            device=str(file.attrs["device"]),
            dtype=str(file.attrs["dtype"]),
            outcome=Outcome(header.outcome),
            preflight=read_preflight(file),
            parameters=read_parameters(file),
            config=header.config,
            environment=header.environment,
            seconds=header.seconds,
            version=header.version,
            created=header.created,
        )


def _write_trials(file: Any, trials: Sequence[WayTrial]) -> None:
    way = axes.add_axis(file, "way", len(trials))
    text = h5py.string_dtype()
    for name, values, long_name in (
        ("name", [t.way for t in trials], "name of the way"),
        ("verdict", [t.verdict.value for t in trials], "what became of it"),
        ("detail", [t.detail for t in trials], "why it did not run, or what it cannot do"),
    ):
        axes.add_series(file, name, np.array(values, dtype=text), [way], long_name=long_name)
    exact = np.array([t.exact for t in trials], dtype=np.bool_)
    axes.add_series(file, "exact", exact, [way], long_name="whether it differentiates")
    for name, long_name, units in _FLOATS:
        found = [getattr(t, name) for t in trials]
        series = np.array([np.nan if x is None else x for x in found], dtype=np.float64)
        axes.add_series(file, name, series, [way], long_name=long_name, units=units)
    for name, long_name in _BYTES:
        found = [getattr(t, name) for t in trials]
        series = np.array([-1 if x is None else x for x in found], dtype=np.int64)
        axes.add_series(file, name, series, [way], long_name=long_name, units="byte")


def _read_trials(file: Any) -> tuple[WayTrial, ...]:
    floats = {name: file[name][...] for name, *_ in _FLOATS}
    sizes = {name: file[name][...] for name, _ in _BYTES}
    texts = {name: file[name].asstr()[...] for name in ("name", "verdict", "detail")}

    def trial(i: int) -> WayTrial:
        figures: dict[str, Any] = {
            **{name: None if np.isnan(x[i]) else float(x[i]) for name, x in floats.items()},
            **{name: None if x[i] < 0 else int(x[i]) for name, x in sizes.items()},
        }
        return WayTrial(
            way=texts["name"][i],
            verdict=Verdict(texts["verdict"][i]),
            detail=texts["detail"][i],
            exact=bool(file["exact"][i]),
            **figures,
        )

    return tuple(trial(i) for i in range(len(texts["name"])))
