"""`curvtool track`: the spectrum at many checkpoints of one training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curvtool.cli import options as opt
from curvtool.cli import solver_options as solver
from curvtool.cli.common import Long, with_checkpoints
from curvtool.cli.values import positive
from curvtool.config import (
    DEFAULT_MAX_HVPS,
    DEFAULT_TOL,
    LEAST_HVPS,
    Accuracy,
    SpectrumConfig,
)
from curvtool.errors import UsageError

SWEEP = "Sweep"


@with_checkpoints
def track(
    common: Long,
    checkpoints: list[Path],
    *,
    top_k: solver.TopK = None,
    which: solver.End = "LM",
    tol: solver.Tol = None,
    accuracy: Annotated[
        Accuracy,
        typer.Option(
            help="What the tolerance bounds: the error of values, or the residual of vectors."
        ),
    ] = "vectors",
    max_hvps: Annotated[
        int,
        typer.Option(
            min=LEAST_HVPS,
            help="Most Hessian-vector products over the whole dataset, for each checkpoint.",
            rich_help_panel=solver.SOLVER,
        ),
    ] = DEFAULT_MAX_HVPS,
    basis: solver.Basis = None,
    certify: solver.CertifyBy = "auto",
    hvp: opt.Hvp = "auto",
    cold: Annotated[
        bool,
        typer.Option(
            "--cold",
            help="Start every solve from a random vector, none from the checkpoint before.",
            rich_help_panel=SWEEP,
        ),
    ] = False,
    as_typed: Annotated[
        bool,
        typer.Option(
            "--as-typed",
            help="Keep the order of the command line, not that of numbers.",
            rich_help_panel=SWEEP,
        ),
    ] = False,
    slurm: Annotated[
        str | None,
        typer.Option(
            help="Submit to Slurm, e.g. partition=gpu,gpus=1,time=2:00:00: a task for each "
            "checkpoint, and a job that sums up.",
            metavar="KEY=VALUE,...",
            rich_help_panel=SWEEP,
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            help="Folder of the run files and of summary.h5.",
            rich_help_panel=opt.OUTPUT,
        ),
    ] = Path("track"),
    force: opt.Force = False,
) -> int:
    """Follow the extreme eigenvalues over the checkpoints of one training.

    Writes a run file for each checkpoint, with eigenvectors, and a summary:
    eigenvalues with bounds, loss, products, and how far the subspaces of
    neighbours overlap. What is finished in the folder is not computed again.
    A checkpoint that cannot be used is noted, and the others go on.

    Examples:

      curvtool track run/step_*.pt -o curvature/

      curvtool track run/*.pt -k 5 --which LA --model net.py:build

      curvtool track run/*.pt --slurm partition=gpu,gpus=1,time=2:00:00
    """  # noqa: D412, DOC201, DOC501  # the help text
    # Imported here, as all that takes time: --help must answer at once.
    from curvtool.cli.ranks import place_among_ranks
    from curvtool.cli.sweep import Sweep, distinct_names, made_folder, ordered

    if place_among_ranks() is not None:
        raise UsageError(
            "track works in one process, and torchrun or srun started several. Start one, give "
            "each checkpoint a job of its own with --slurm, or run 'curvtool spectrum' on all GPUs "
            "for one checkpoint after the other."
        )

    config = SpectrumConfig(
        problem=common.problem_config(),
        compute=common.compute_config(hvp),
        top_k=top_k,
        which=which,
        accuracy=accuracy,
        tol=DEFAULT_TOL[accuracy] if tol is None else positive("--tol", tol),
        tol_given=tol is not None,
        max_hvps=max_hvps,
        basis=basis,
        certify=certify,
        vectors=True,
    )
    sweep = Sweep(
        config=config,
        common=common,
        checkpoints=ordered(checkpoints, as_typed=as_typed),
        folder=out,
        force=force,
        cold=cold,
    )
    distinct_names(sweep.checkpoints)
    if slurm is not None:
        from curvtool.cli.slurm import submit
        from curvtool.cli.slurm_options import slurm_parameters

        parameters = slurm_parameters(slurm)
        made_folder(out)
        return submit(sweep, parameters)
    made_folder(out)
    from curvtool.cli.tracking import run_sweep

    return run_sweep(sweep)
