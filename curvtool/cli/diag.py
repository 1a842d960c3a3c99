"""`curvtool diag`: the diagonal of the Hessian at a checkpoint."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curvtool.cli import options as opt
from curvtool.cli.common import Long, with_long
from curvtool.cli.estimating import (
    ESTIMATOR,
    Deflate,
    Group,
    ProbeKind,
    ProbeSharing,
    grouping,
)
from curvtool.cli.values import positive
from curvtool.config import DEFAULT_DIAG_REL_ERR, DEFAULT_MAX_HVPS, LEAST_DIAG_HVPS, DiagConfig
from curvtool.errors import ExitCode

if TYPE_CHECKING:
    from curvtool.cli.progress import ProgressDisplay
    from curvtool.pipeline import Loaded
    from curvtool.results import DiagRun
    from curvtool.resuming.session import Session


@with_long
def diag(
    common: Long,
    *,
    rel_err: Annotated[
        float,
        typer.Option(help="Stop when the error is this share of the diagonal, in norm (95 %)."),
    ] = DEFAULT_DIAG_REL_ERR,
    group: Group = None,
    max_hvps: Annotated[
        int,
        typer.Option(
            min=LEAST_DIAG_HVPS,
            help="Most products over the whole dataset.",
            rich_help_panel=ESTIMATOR,
        ),
    ] = DEFAULT_MAX_HVPS,
    probes: ProbeKind = "rademacher",
    sharing: ProbeSharing = "auto",
    deflate: Deflate = None,
    hvp: opt.Hvp = "auto",
    out: opt.Out = None,
    force: opt.Force = False,
) -> int:
    """Diagonal of the Hessian at a checkpoint, with standard errors.

    The table has a row for every layer; the run file has every entry.

    Example:

      curvtool diag checkpoints/digits_mlp.pt
    """  # noqa: D412, DOC201  # the help text
    from curvtool.cli.output import choose_output

    config = DiagConfig(
        problem=common.problem_config(),
        compute=common.compute_config(hvp),
        rel_err=positive("--rel-err", rel_err),
        max_hvps=max_hvps,
        probes=probes,
        sharing=sharing,
        deflate=deflate,
        group=grouping(group, per_layer=True),
    )
    path = choose_output(out, common.checkpoint, "diag", force=force)
    return _run(config, path, common, force=force)


def _run(config: DiagConfig, path: Path, common: Long, *, force: bool) -> ExitCode:
    from curvtool.cli.estimating import eigenvectors_of
    from curvtool.cli.running import Kind, run_command
    from curvtool.report.verdicts import diag_met
    from curvtool.storage.diag import read_diag, write_diag

    def compute(loaded: Loaded, progress: ProgressDisplay, session: Session) -> DiagRun:
        from curvtool.pipeline import run_diag

        directions = (
            None if config.deflate is None else eigenvectors_of(config.deflate, config, loaded)
        )
        return run_diag(
            config,
            loaded,
            directions=directions,
            report=progress.estimate,
            tell=progress.tell,
            session=session,
        )

    kind = Kind(
        compute=compute,
        read=partial(read_diag, vectors=False),
        write=write_diag,
        converged=lambda run: diag_met(run.estimate),
    )
    return run_command(config, path, common, kind, force=force, max_hvps=config.max_hvps)
