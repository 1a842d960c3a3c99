"""`curvtool density`: the spectral density of the Hessian at a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curvtool.cli import options as opt
from curvtool.cli.common import Long, with_long
from curvtool.cli.estimating import ESTIMATOR, Group, PerLayer, grouping
from curvtool.cli.values import finite, positive
from curvtool.config import (
    DEFAULT_DEFLATE,
    DEFAULT_DENSITY_HVPS,
    DEFAULT_PROBES,
    DEFAULT_STEPS,
    DensityConfig,
)
from curvtool.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from curvtool.cli.progress import ProgressDisplay
    from curvtool.pipeline import Loaded
    from curvtool.results import DensityRun
    from curvtool.resuming.session import Session

FUNCTIONS = "Functions of the spectrum"


@with_long
def density(
    common: Long,
    *,
    num_probes: Annotated[
        int, typer.Option("-n", "--num-probes", min=1, help="Random starts.")
    ] = DEFAULT_PROBES,
    steps: Annotated[
        int, typer.Option("-m", "--steps", min=1, help="Lanczos steps of each: a product a step.")
    ] = DEFAULT_STEPS,
    deflate: Annotated[
        int, typer.Option(min=0, help="Largest eigenvalues that are taken out and known exactly.")
    ] = DEFAULT_DEFLATE,
    rel_err: Annotated[
        float | None,
        typer.Option(
            help="Half-width over middle of every function's interval: probes go on until then.",
            show_default="as many as --num-probes",
        ),
    ] = None,
    max_hvps: Annotated[
        int, typer.Option(min=1, help="Most products over the whole dataset, of each matrix.")
    ] = DEFAULT_DENSITY_HVPS,
    per_layer: PerLayer = False,
    group: Group = None,
    sigma: Annotated[
        float | None,
        typer.Option(
            help="Width of the Gaussians that are drawn.", show_default="range / (2 steps)"
        ),
    ] = None,
    outliers: Annotated[
        Path | None, typer.Option(help="Spectrum run to draw over the density.")
    ] = None,
    damping: Annotated[
        list[float] | None,
        typer.Option(
            help="a of sum l/(l + a) and log det(H + a I); repeatable.",
            show_default="1e-3 of the largest",
            rich_help_panel=FUNCTIONS,
        ),
    ] = None,
    schatten: Annotated[
        list[float] | None,
        typer.Option(
            help="Order of a Schatten norm; repeatable.",
            show_default="1 and 2",
            rich_help_panel=FUNCTIONS,
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Count eigenvalues beyond it, on either side.",
            show_default="where the counts are sharp",
            rich_help_panel=FUNCTIONS,
        ),
    ] = None,
    reorthogonalize: Annotated[
        bool | None,
        typer.Option(
            help="Keep the Krylov bases orthogonal; without, intervals hold and are wider.",
            show_default="where memory allows",
            rich_help_panel=ESTIMATOR,
        ),
    ] = None,
    hvp: opt.Hvp = "auto",
    out: opt.Out = None,
    force: opt.Force = False,
) -> int:
    """Counts of eigenvalues and functions of the whole spectrum, as intervals.

    The largest eigenvalues are taken out exactly, random probes limit what
    is said of the rest. Small matrices are written out. Nodes and weights go
    to the run file; a smoothed curve there is a choice of display.

    Examples:

      curvtool density checkpoints/digits_mlp.pt

      curvtool density checkpoints/digits_mlp.pt --per-layer -n 8
    """  # noqa: D412, DOC201, DOC501  # the help text
    from curvtool.cli.output import choose_output

    if threshold is not None and not finite("--threshold", threshold) >= 0:
        raise UsageError(f"--threshold needs a number that is not negative, got {threshold:g}.")
    if outliers is not None and per_layer:
        raise UsageError("--outliers are eigenvalues of the whole H; leave --per-layer out.")
    config = DensityConfig(
        problem=common.problem_config(),
        compute=common.compute_config(hvp),
        num_probes=num_probes,
        steps=steps,
        deflate=deflate,
        rel_err=None if rel_err is None else positive("--rel-err", rel_err),
        max_hvps=max_hvps,
        reorthogonalize=reorthogonalize,
        sigma=None if sigma is None else positive("--sigma", sigma),
        outliers=outliers,
        damping=tuple(positive("--damping", a) for a in damping or ()),
        schatten=tuple(positive("--schatten", p) for p in schatten or (1.0, 2.0)),
        threshold=threshold,
        per_layer=per_layer,
        group=grouping(group, per_layer=per_layer),
    )
    path = choose_output(out, common.checkpoint, "density", force=force)
    return _run(config, path, common, force=force)


def _run(config: DensityConfig, path: Path, common: Long, *, force: bool) -> ExitCode:
    from curvtool.cli.estimating import eigenvalues_of
    from curvtool.cli.running import Kind, run_command
    from curvtool.results import Outcome
    from curvtool.storage.density import read_density, write_density

    def compute(loaded: Loaded, progress: ProgressDisplay, session: Session) -> DensityRun:
        from curvtool.pipeline import run_density

        drawn = None if config.outliers is None else eigenvalues_of(config.outliers, config, loaded)
        return run_density(
            config,
            loaded,
            outliers=drawn,
            report=progress.estimate,
            tell=progress.tell,
            session=session,
        )

    kind = Kind(
        compute=compute,
        read=read_density,
        write=write_density,
        converged=lambda run: run.outcome is Outcome.CONVERGED,
    )
    return run_command(config, path, common, kind, force=force, max_hvps=config.max_hvps)
