"""`curvtool check`: is the product right, and what will a solve cost?"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from curvtool.cli import options as opt
from curvtool.cli.common import Common, with_common
from curvtool.config import DEFAULT_MAX_HVPS, LEAST_HVPS, Method, SpectrumConfig
from curvtool.errors import ExitCode


@with_common
def check(
    common: Common,
    *,
    top_k: Annotated[
        int | None,
        typer.Option("-k", "--top-k", min=1, help="Of the solve to plan.", show_default="20"),
    ] = None,
    vectors: Annotated[bool, typer.Option("--vectors", help="Plan for eigenvectors too.")] = False,
    method: Annotated[Method, typer.Option(help="Of the solve to plan.")] = "auto",
    max_hvps: Annotated[
        int, typer.Option(min=LEAST_HVPS, help="Most products of the solve to plan.")
    ] = DEFAULT_MAX_HVPS,
    hvp: opt.Hvp = "auto",
) -> int:
    """Check the product and plan a solve, without solving.

    Prints the loss at the checkpoint, the preflight's checks, and the plan:
    the way products are made, the batches kept, seconds, memory. Writes no
    file.

    Example:

      curvtool check checkpoints/digits_cnn.pt --top-k 20
    """  # noqa: D412, DOC201  # the help text
    config = SpectrumConfig(
        problem=common.problem_config(),
        compute=common.compute_config(hvp),
        top_k=top_k,
        vectors=vectors,
        method=method,
        max_hvps=max_hvps,
    )
    return _run(config, common)


def _run(config: SpectrumConfig, common: Common) -> ExitCode:
    from curvtool.cli.console import result_console
    from curvtool.cli.progress import progress_display
    from curvtool.cli.show import print_check

    # What the user's own code prints is no result: stdout holds the report alone.
    with progress_display(quiet=common.quiet) as progress, contextlib.redirect_stdout(sys.stderr):
        progress.tell("loading")
        from curvtool.pipeline import load, run_check

        loaded = load(config, working_directory=Path.cwd())
        run = run_check(config, loaded, tell=progress.tell)
    print_check(run, as_json=common.as_json, verbose=common.verbose, console=result_console())
    return ExitCode.DONE
