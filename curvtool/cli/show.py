"""`curvtool show`: the report of a stored run, from its file alone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

from curvtool.cli.console import printing
from curvtool.errors import ExitCode
from curvtool.report.bench import bench_report
from curvtool.report.blocks import spectrum_layers_report
from curvtool.report.check import check_report
from curvtool.report.density import density_report
from curvtool.report.diag import diag_report
from curvtool.report.json import (
    bench_json,
    check_json,
    density_json,
    diag_json,
    spectrum_json,
    spectrum_layers_json,
    status_json,
    trace_json,
    track_json,
)
from curvtool.report.spectrum import spectrum_report
from curvtool.report.status import status_report
from curvtool.report.trace import trace_report
from curvtool.report.track import track_report
from curvtool.results import (
    BenchRun,
    CheckRun,
    DensityRun,
    DiagRun,
    SpectrumBlocksRun,
    SpectrumRun,
    StoredRun,
    TraceRun,
    TrackRun,
)
from curvtool.storage.run import read_run
from curvtool.storage.standing import standings

# How each type of run is shown: its report, and its JSON object.
_SHOWN: Mapping[type, tuple[Callable[..., RenderableType], Callable[[Any], dict[str, Any]]]] = {
    SpectrumRun: (spectrum_report, spectrum_json),
    SpectrumBlocksRun: (spectrum_layers_report, spectrum_layers_json),
    TraceRun: (trace_report, trace_json),
    DensityRun: (density_report, density_json),
    DiagRun: (diag_report, diag_json),
    TrackRun: (track_report, track_json),
    BenchRun: (bench_report, bench_json),
    CheckRun: (check_report, check_json),
}


def show_run(path: Path, *, as_json: bool, verbose: bool, console: Console) -> ExitCode:
    """Print the report of a run file. Eigenvectors and diagonals are not read.

    Args:
        path: of the run file.
        as_json: whether to print one JSON object instead.
        verbose: whether to list every pair.
        console: to print to; off a terminal only plain lines are printed.

    Returns:
        DONE, also for a run that stopped early: showing it succeeded.

    Raises:
        InputError: where the file cannot be read as a run.
    """
    print_run(read_run(path, vectors=False), as_json=as_json, verbose=verbose, console=console)
    return ExitCode.DONE


def print_run(run: StoredRun, *, as_json: bool, verbose: bool, console: Console) -> None:
    """Print a run, as after its computation or from its file.

    Args:
        run: what to show.
        as_json: whether to print one JSON object instead of the report.
        verbose: whether to list everything.
        console: to print to; off a terminal only plain lines are printed.
    """
    _print(run, as_json=as_json, verbose=verbose, console=console)


def print_check(run: CheckRun, *, as_json: bool, verbose: bool, console: Console) -> None:
    """Print what `curvtool check` found; the arguments are those of `print_run`."""
    _print(run, as_json=as_json, verbose=verbose, console=console)


def print_status(place: Path, *, as_json: bool, verbose: bool, console: Console) -> None:
    """Print how the runs of a place stand.

    Args:
        place: folder, run file or status file.
        as_json: whether to print one JSON object instead.
        verbose: whether to list every run with its message.
        console: to print to; off a terminal only plain lines are printed.

    Raises:
        InputError: where there is nothing of that name.
    """  # raised below
    found = standings(place)
    if as_json:
        _print_json(status_json(found), console)
        return
    folder = place if place.is_dir() else place.parent
    made = status_report(
        [replace(status, output=os.path.relpath(status.output, folder)) for status in found],
        folder=str(folder),
        now=datetime.now(UTC),
        **_page(console),
        verbose=verbose,
    )
    with printing():
        console.print(made, soft_wrap=True)


def _print(run: object, *, as_json: bool, verbose: bool, console: Console) -> None:
    report, as_record = _SHOWN[type(run)]
    if as_json:
        _print_json(as_record(run), console)
        return
    made = report(run, **_page(console), verbose=verbose)
    with printing():
        console.print(made, soft_wrap=True)


def _print_json(record: dict[str, Any], console: Console) -> None:
    with printing():
        console.out(json.dumps(record, allow_nan=False, indent=2), highlight=False)


def _page(console: Console) -> dict[str, Any]:
    return {
        "width": console.width,
        "unicode": console.encoding.lower().startswith("utf"),
        "plain": not console.is_terminal or console.is_dumb_terminal,
    }
