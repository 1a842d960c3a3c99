"""`curvtool bench`: every way to make a product, on the user's own model."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from curvtool.cli import options as opt
from curvtool.cli.common import Common, with_common
from curvtool.config import DEFAULT_ROUNDS, BenchConfig, Way
from curvtool.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from curvtool.cli.progress import ProgressDisplay
    from curvtool.results import BenchRun


@with_common
def bench(
    common: Common,
    *,
    hvp: Annotated[
        list[str] | None,
        typer.Option(
            "--hvp", help="A way to compare, repeatable.", metavar="WAY", show_default="all"
        ),
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=1, help="Timed repetitions of each way, in turns.")
    ] = DEFAULT_ROUNDS,
    out: opt.Out = None,
    force: opt.Force = False,
) -> int:
    """Compare every way to multiply by the Hessian on one batch of this model.

    Times all ways in turns, and prints for each: milliseconds, price in
    gradients, peak memory, error against float64, and whether it may be
    trusted here. Compiling takes up to a minute.

    Examples:

      curvtool bench checkpoints/digits_cnn.pt

      curvtool bench net.pt --hvp retained-graph --hvp finite-difference
    """  # noqa: D412, DOC201, DOC501  # the help text
    from curvtool.cli.output import choose_output

    known = [way for way in get_args(Way) if way != "auto"]
    unknown = [way for way in hvp or () if way not in known]
    if unknown:
        raise UsageError(
            f"--hvp expected one of {', '.join(known)}; got {unknown[0]!r}. Name no way to "
            "compare all."
        )
    config = BenchConfig(
        problem=common.problem_config(),
        compute=common.compute_config(),
        ways=tuple(hvp or ()),
        rounds=rounds,
    )
    path = choose_output(out, common.checkpoint, "bench", force=force)
    return _run(config, path, common, force=force)


def _run(config: BenchConfig, path: Path, common: Common, *, force: bool) -> ExitCode:
    from curvtool.cli.console import result_console, say
    from curvtool.cli.guard import finishing
    from curvtool.cli.progress import progress_display
    from curvtool.cli.show import print_run
    from curvtool.storage.bench import write_bench

    with progress_display(quiet=common.quiet) as progress, contextlib.redirect_stdout(sys.stderr):
        run = _compared(config, path, progress, force=force)
    try:
        with finishing():
            write_bench(path, run)
    finally:  # a full disk or a signal must not cost what was measured
        print_run(run, as_json=common.as_json, verbose=common.verbose, console=result_console())
    if not common.quiet:
        say(f"written to {path}")
    return ExitCode.DONE


def _compared(
    config: BenchConfig, path: Path, progress: ProgressDisplay, *, force: bool
) -> BenchRun:
    """Figures of this moment, measured anew even where the file holds the same request's."""
    progress.tell("loading")
    from curvtool.cli.output import identity_of, refuse_another_request
    from curvtool.pipeline import load, run_bench

    loaded = load(config, working_directory=Path.cwd())
    if not force:
        refuse_another_request(
            path,
            loaded.request,
            config=config.request(),
            identity=identity_of(loaded),
        )
    return run_bench(config, loaded, tell=progress.tell)
