"""The command line: which commands there are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from curvtool.cli import options as opt
from curvtool.cli.bench import bench
from curvtool.cli.check import check
from curvtool.cli.console import say, silence_stdout
from curvtool.cli.density import density
from curvtool.cli.diag import diag
from curvtool.cli.guard import guarded
from curvtool.cli.init import init
from curvtool.cli.spectrum import spectrum
from curvtool.cli.trace import trace
from curvtool.cli.track import track
from curvtool.errors import ExitCode

app = typer.Typer(
    name="curvtool",
    help="How curved is the loss where training ended?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(spectrum)
app.command()(trace)
app.command()(density)
app.command()(diag)
app.command()(track)
app.command()(check)
app.command()(bench)
app.command()(init)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"curvtool {version('curvtool')}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
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
    """  # noqa: D412, DOC501  # the help text
    with guarded():
        from curvtool.cli.console import result_console
        from curvtool.cli.show import show_run

        code = show_run(run, as_json=as_json, verbose=verbose, console=result_console())
    raise typer.Exit(int(code))


@app.command()
def status(
    place: Annotated[
        Path, typer.Argument(help="Folder, run file or status file.", show_default=False)
    ],
    as_json: opt.Json = False,
    verbose: opt.Verbose = False,
) -> None:
    """How the runs under a folder stand: running, interrupted, failed or done.

    Reads status files and heads of run files; a run that says it is running
    while its process on this host is gone is called stale.

    Example:

      curvtool status curvature/
    """  # noqa: D412, DOC501  # the help text
    with guarded():
        from curvtool.cli.console import result_console
        from curvtool.cli.show import print_status

        print_status(place, as_json=as_json, verbose=verbose, console=result_console())
    raise typer.Exit(int(ExitCode.DONE))


def run(arguments: Sequence[str]) -> int:
    """Parse the command line and run what it asks for.

    Args:
        arguments: without the program's name.

    Returns:
        The exit code.
    """
    try:
        code = app(list(arguments), prog_name="curvtool", standalone_mode=False)
    except typer.TyperException as error:
        sentence = _usage_sentence(error)
        if sentence:
            say(sentence)
        return int(ExitCode.USAGE)
    except SystemExit:  # typer and rich, where nobody reads the help to its end
        silence_stdout()
        return int(ExitCode.DONE)
    return code if isinstance(code, int) else int(ExitCode.DONE)


def _usage_sentence(error: typer.TyperException) -> str:
    """What is wrong with the command line, in a line like all others; empty after the help."""
    nearest = getattr(error, "possibilities", None)
    said = error.message if nearest else error.format_message()
    said = said.replace(": Value error, ", ": ").strip()
    if not said:
        return ""
    if not said.endswith((".", "?")):
        said += "."
    if nearest:
        said += f" Did you mean {nearest[0]}?"
    context = getattr(error, "ctx", None)
    return f"{said} See '{context.command_path if context else 'curvtool'} --help'."
