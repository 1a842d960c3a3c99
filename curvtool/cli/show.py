"""`curvtool show`: the report of a stored run, from its file alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
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
    trace_json,
    track_json,
)
from curvtool.report.spectrum import spectrum_report
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


def _print(run: object, *, as_json: bool, verbose: bool, console: Console) -> None:
    report, as_record = _SHOWN[type(run)]
    if as_json:
        with printing():
            console.out(json.dumps(as_record(run), allow_nan=False, indent=2), highlight=False)
        return
    made = report(
        run,
        width=console.width,
        unicode=console.encoding.lower().startswith("utf"),
        plain=not console.is_terminal or console.is_dumb_terminal,
        verbose=verbose,
    )
    with printing():
        console.print(made, soft_wrap=True)
