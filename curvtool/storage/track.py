"""The kind `track`: the summary of a sweep over the checkpoints of one training.

Letters: k pairs, P parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from curvtool.results import FloatArray, Outcome, Tracked, TrackRun
from curvtool.storage import axes
from curvtool.storage.atomic import replacing
from curvtool.storage.file import (
    RunHeader,
    is_earlier,
    opened,
    read_header,
    require_kind,
    write_header,
)
from curvtool.storage.records import read_problem, write_record

KIND = "track"
# Columns of eigenvectors that are read at a time: some 4 MiB of each.
_COLUMNS = 2**20
# Series of texts, one for each checkpoint: name of the dataset, field, what it is.
_TEXTS = (
    ("path", "checkpoint", "the checkpoint as it was given"),
    ("file", "file", "run file, beside this one"),
    ("message", "message", "why there is no run"),
    ("started_from", "started_from", "checkpoint whose eigenvectors the solve began with"),
    ("compared_with", "compared_with", "checkpoint whose subspace was compared"),
)
_NUMBERS = (
    ("loss", "loss", "dataset mean of the loss", ""),
    ("gradient_norm", "gradient_norm", "2-norm of its gradient", ""),
    ("seconds", "seconds", "of the run", "s"),
)
_PAIRS = (
    ("eigenvalues", "eigenvalue of the operator"),
    ("eigenvalue_errors", "an eigenvalue lies within this distance"),
)
_FLAGS = (
    ("converged", "whether the pair is there and met the tolerance"),
    ("at_floor", "whether it is there and the floor of the arithmetic stopped it before"),
)


def write_track(path: Path, run: TrackRun) -> None:
    """Write a summary, whole or not at all.

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
                hvps=run.hvps,
                seconds=run.seconds,
                version=run.version,
                created=run.created,
                config=run.config,
                environment=run.environment,
            ),
        )
        if run.problem is not None:
            write_record(file, "problem", run.problem)
        file.attrs["which"] = run.which
        file.attrs["tol"] = run.tol
        file.attrs["accuracy"] = run.accuracy
        _write_rows(file, run.rows)


def read_track(path: Path) -> TrackRun:
    """Read a summary.

    Args:
        path: of the file.

    Returns:
        The summary.

    Raises:
        InputError: for no such file, a foreign or damaged one, a newer schema, or another kind.
    """
    with opened(path) as file:
        header = read_header(file)
        require_kind(path, header.kind, KIND)
        return TrackRun(
            rows=_read_rows(file),
            problem=read_problem(file) if "problem" in file.attrs else None,
            which=str(file.attrs["which"]),
            tol=float(file.attrs["tol"]),
            accuracy=str(file.attrs["accuracy"]),
            config=header.config,
            environment=header.environment,
            version=header.version,
            created=header.created,
        )


def vector_rows(path: Path) -> Iterator[NDArray[Any]]:
    """Eigenvectors of a spectrum run, one after the other.

    Args:
        path: of the run file.

    Yields:
        Arrays of shape (P,); nothing where the run has no vectors. Memory is one of them.
    """
    with opened(path) as file:
        stored = file.get("eigenvectors", ())
        for i in range(len(stored)):
            yield stored[i]


def vector_columns(
    first: Path, second: Path
) -> Iterator[tuple[NDArray[np.floating], NDArray[np.floating]]]:
    """Eigenvectors of two spectrum runs of as many parameters, some columns at a time.

    Args:
        first: path of a run file.
        second: path of another one.

    Yields:
        Arrays of shapes (k, n) and (l, n); nothing where either has no vectors, or they are of
        different lengths.
    """
    with opened(first) as one, opened(second) as other:
        if "eigenvectors" not in one or "eigenvectors" not in other:
            return
        U, V = one["eigenvectors"], other["eigenvectors"]
        if U.shape[1] != V.shape[1]:
            return
        for begin in range(0, U.shape[1], _COLUMNS):
            yield U[:, begin : begin + _COLUMNS], V[:, begin : begin + _COLUMNS]


def _write_rows(file: Any, rows: Sequence[Tracked]) -> None:
    names = _texts([row.name for row in rows])
    checkpoint = axes.add_coordinate(file, "checkpoint", names, long_name="name of the checkpoint")
    outcomes = _texts([row.outcome.value for row in rows])
    axes.add_series(file, "outcome", outcomes, [checkpoint], long_name="how its run ended")
    for name, field, long_name in _TEXTS:
        texts = _texts([getattr(row, field) for row in rows])
        axes.add_series(file, name, texts, [checkpoint], long_name=long_name)
    for name, field, long_name, units in _NUMBERS:
        numbers = np.array([getattr(row, field) for row in rows], dtype=np.float64)
        units_too = {"units": units} if units else {}
        axes.add_series(file, name, numbers, [checkpoint], long_name=long_name, **units_too)
    hvps = np.array([row.hvps for row in rows], dtype=np.int64)
    axes.add_series(file, "hvps", hvps, [checkpoint], long_name="products of its run")
    overlaps = np.array([row.overlap for row in rows])
    axes.add_series(
        file,
        "overlap",
        overlaps,
        [checkpoint],
        long_name="mean squared cosine of the angles between its subspace and the one before",
    )
    pair = axes.add_axis(file, "pair", max((len(row.eigenvalues) for row in rows), default=0))
    for name, long_name in _PAIRS:
        table = _padded([getattr(row, name) for row in rows])
        unit = "loss / parameter^2"
        axes.add_series(file, name, table, [checkpoint, pair], long_name=long_name, units=unit)
    for name, long_name in _FLAGS:
        flags = _padded([getattr(row, name).astype(np.float64) for row in rows]) == 1
        axes.add_series(file, name, flags, [checkpoint, pair], long_name=long_name)
    complete = np.array([row.complete for row in rows], dtype=np.bool_)
    axes.add_series(
        file, "complete", complete, [checkpoint], long_name="whether its list is proved complete"
    )
    ranks = np.array([row.proved_rank for row in rows], dtype=np.int64)
    axes.add_series(
        file, "proved_rank", ranks, [checkpoint], long_name="values of its list that are proved"
    )
    angle = axes.add_axis(file, "angle", max((len(row.cosines) for row in rows), default=0))
    cosines = _padded([row.cosines for row in rows])
    axes.add_series(
        file,
        "cosines",
        cosines,
        [checkpoint, angle],
        long_name="of the principal angles between its subspace and the one before",
    )


def _read_rows(file: Any) -> tuple[Tracked, ...]:
    names = file["checkpoint"].asstr()[...]
    outcomes = file["outcome"].asstr()[...]
    series = {field: file[name].asstr()[...] for name, field, _ in _TEXTS}
    series |= {field: file[name][...].tolist() for name, field, *_ in _NUMBERS}
    values, errors, met, cosines = (
        file[name][...] for name in ("eigenvalues", "eigenvalue_errors", "converged", "cosines")
    )
    hvps = file["hvps"][...]
    earlier = is_earlier(file)
    if earlier:  # what its probes said was not proved
        at_floor = _floor_told_apart(file, met)
        met = met & ~at_floor
        complete = ranks = np.zeros(len(names), dtype=np.int64)
    else:
        at_floor, complete, ranks = (
            file[name][...] for name in ("at_floor", "complete", "proved_rank")
        )

    def row(i: int) -> Tracked:
        there = ~np.isnan(values[i])
        return Tracked(
            name=names[i],
            outcome=_outcome(outcomes[i], stopped=earlier and bool(at_floor[i].any())),
            hvps=int(hvps[i]),
            eigenvalues=values[i][there],
            eigenvalue_errors=errors[i][there],
            converged=met[i][there].astype(np.bool_),
            at_floor=at_floor[i][there].astype(np.bool_),
            complete=bool(complete[i]),
            proved_rank=int(ranks[i]),
            cosines=cosines[i][~np.isnan(cosines[i])],
            **{field: found[i] for field, found in series.items()},
        )

    return tuple(row(i) for i in range(len(names)))


def _floor_told_apart(file: Any, met: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of the first schema, in which the floor of the arithmetic counted as the tolerance."""
    if file.attrs["accuracy"] != "values":  # judged by residuals, which a summary does not have
        return np.zeros_like(met)
    allowed = float(file.attrs["tol"]) * np.abs(file["eigenvalues"][...])
    above: NDArray[np.bool_] = file["eigenvalue_errors"][...] > allowed
    return met & above


def _outcome(word: str, *, stopped: bool) -> Outcome:
    outcome = Outcome(word)
    return Outcome.FLOOR if stopped and outcome is Outcome.CONVERGED else outcome


def _texts(texts: Sequence[str]) -> NDArray[Any]:
    """For HDF5, whatever bytes a file's name may have that are no UTF-8."""
    plain = [text.encode("utf-8", "backslashreplace").decode() for text in texts]
    return np.array(plain, dtype=h5py.string_dtype())


def _padded(series: Sequence[FloatArray]) -> FloatArray:
    """A table with NaN past the end of a row."""
    table = np.full((len(series), max(map(len, series), default=0)), np.nan)
    for row, values in zip(table, series, strict=True):
        row[: len(values)] = values
    return table
