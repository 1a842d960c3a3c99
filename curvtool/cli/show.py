"""`curvtool show`: the report of a stored run, from its file alone."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from curvtool.cli.console import printing
from curvtool.errors import ExitCode
from curvtool.report.json import spectrum_json
from curvtool.report.spectrum import spectrum_report
from curvtool.results import SpectrumRun
from curvtool.storage.run import read_run


def show_run(path: Path, *, as_json: bool, verbose: bool, console: Console) -> ExitCode:
    """Print the report of a run file. Eigenvectors are not read.

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
    print_run(read_run(path, eigenvectors=False), as_json=as_json, verbose=verbose, console=console)
    return ExitCode.DONE


def print_run(run: SpectrumRun, *, as_json: bool, verbose: bool, console: Console) -> None:
    """Print a run, as after a solve or from its file.

    Args:
        run: what to show.
        as_json: whether to print one JSON object instead of the report.
        verbose: whether to list every pair.
        console: to print to; off a terminal only plain lines are printed.
    """
    if as_json:
        with printing():
            console.out(json.dumps(spectrum_json(run), allow_nan=False, indent=2), highlight=False)
        return
    report = spectrum_report(
        run,
        width=console.width,
        unicode=console.encoding.lower().startswith("utf"),
        plain=not console.is_terminal or console.is_dumb_terminal,
        verbose=verbose,
    )
    with printing():
        console.print(report, soft_wrap=True)
