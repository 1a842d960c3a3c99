"""`curvtool trace`: the trace of the Hessian at a checkpoint, with an interval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curvtool.cli import options as opt
from curvtool.cli.common import Long, with_long
from curvtool.cli.estimating import (
    ESTIMATOR,
    Deflate,
    Group,
    PerLayer,
    ProbeKind,
    ProbeSharing,
    grouping,
)
from curvtool.cli.values import positive
from curvtool.config import (
    DEFAULT_CONFIDENCE,
    DEFAULT_REL_ERR,
    DEFAULT_TRACE_HVPS,
    TraceConfig,
    TraceMethod,
)
from curvtool.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from curvtool.cli.progress import ProgressDisplay
    from curvtool.pipeline import Loaded
    from curvtool.results import TraceRun
    from curvtool.resuming.session import Session


@with_long
def trace(
    common: Long,
    *,
    rel_err: Annotated[
        float | None,
        typer.Option(
            help="Stop when half the interval's width is this share of the trace.",
            show_default=f"{DEFAULT_REL_ERR}, unless --abs-err is given",
        ),
    ] = None,
    abs_err: Annotated[
        float | None,
        typer.Option(help="Stop when half its width is this much: for traces near zero."),
    ] = None,
    confidence: Annotated[
        float, typer.Option(help="With which the interval holds the truth.")
    ] = DEFAULT_CONFIDENCE,
    per_layer: PerLayer = False,
    group: Group = None,
    frobenius: Annotated[
        bool, typer.Option("--frobenius", help="The squared Frobenius norm, too.")
    ] = False,
    method: Annotated[
        TraceMethod,
        typer.Option(
            help="auto: hutchinson, dense where fewer products suffice.",
            rich_help_panel=ESTIMATOR,
        ),
    ] = "auto",
    max_hvps: Annotated[
        int,
        typer.Option(
            min=1, help="Most products over the whole dataset.", rich_help_panel=ESTIMATOR
        ),
    ] = DEFAULT_TRACE_HVPS,
    probes: ProbeKind = "rademacher",
    sharing: ProbeSharing = "auto",
    deflate: Deflate = None,
    lanczos: Annotated[
        bool,
        typer.Option(
            help="Let a short Lanczos take directions out where that pays.",
            rich_help_panel=ESTIMATOR,
        ),
    ] = True,
    hvp: opt.Hvp = "auto",
    out: opt.Out = None,
    force: opt.Force = False,
) -> int:
    """Trace of the Hessian at a checkpoint, with an interval that covers it.

    Random probes, one for every batch where that is cheaper, until the
    interval is as narrow as asked. Writes a run file.

    Examples:

      curvtool trace checkpoints/digits_cnn.pt

      curvtool trace checkpoints/digits_mlp.pt --per-layer --frobenius
    """  # noqa: D412, DOC201, DOC501  # the help text
    from curvtool.cli.output import choose_output

    if not 0 < confidence < 1:
        raise UsageError(f"--confidence needs a number between 0 and 1, got {confidence:g}.")
    if rel_err is None and abs_err is None:
        rel_err = DEFAULT_REL_ERR
    config = TraceConfig(
        problem=common.problem_config(),
        compute=common.compute_config(hvp),
        method=method,
        rel_err=None if rel_err is None else positive("--rel-err", rel_err),
        abs_err=None if abs_err is None else positive("--abs-err", abs_err),
        confidence=confidence,
        max_hvps=max_hvps,
        probes=probes,
        sharing=sharing,
        deflate=deflate,
        lanczos=lanczos,
        frobenius=frobenius,
        per_layer=per_layer,
        group=grouping(group, per_layer=per_layer),
    )
    path = choose_output(out, common.checkpoint, "trace", force=force)
    return _run(config, path, common, force=force)


def _run(config: TraceConfig, path: Path, common: Long, *, force: bool) -> ExitCode:
    from curvtool.cli.estimating import eigenvectors_of
    from curvtool.cli.running import Kind, run_command
    from curvtool.report.verdicts import trace_met
    from curvtool.storage.trace import read_trace, write_trace

    def compute(loaded: Loaded, progress: ProgressDisplay, session: Session) -> TraceRun:
        from curvtool.pipeline import run_trace

        directions = (
            None if config.deflate is None else eigenvectors_of(config.deflate, config, loaded)
        )
        return run_trace(
            config,
            loaded,
            directions=directions,
            report=progress.estimate,
            tell=progress.tell,
            session=session,
        )

    kind = Kind(
        compute=compute,
        read=read_trace,
        write=write_trace,
        converged=lambda run: trace_met(run.estimate),
    )
    return run_command(config, path, common, kind, force=force, max_hvps=config.max_hvps)
