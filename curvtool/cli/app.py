"""The command line: which commands there are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curvtool.cli import options as opt
from curvtool.cli.guard import guarded
from curvtool.cli.spectrum import spectrum

app = typer.Typer(
    name="curvtool",
    help="How curved is the loss where training ended?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(spectrum)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"curvtool {version('curvtool')}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[  # noqa: ARG001
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


@app.command()
def show(
    run: Annotated[Path, typer.Argument(help="Run file (.h5) of curvtool.", show_default=False)],
    as_json: opt.Json = False,
    verbose: opt.Verbose = False,
) -> None:
    """Print the report of a run file; needs neither torch nor the checkpoint.

    Example:

      curvtool show digits_cnn.spectrum.h5
    """
    with guarded():
        from curvtool.cli.console import result_console
        from curvtool.cli.show import show_run

        code = show_run(run, as_json=as_json, verbose=verbose, console=result_console())
    raise typer.Exit(int(code))
