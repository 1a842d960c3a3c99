"""`curvtool spectrum`: extreme Hessian eigenvalues at a checkpoint."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curvtool.cli import options as opt
from curvtool.cli import solver_options as solver
from curvtool.cli.common import Long, with_long
from curvtool.cli.estimating import Group, grouping
from curvtool.cli.values import positive
from curvtool.config import (
    DEFAULT_MAX_HVPS,
    DEFAULT_TOL,
    LEAST_HVPS,
    Accuracy,
    BasisDevice,
    BasisDType,
    Method,
    SpectrumConfig,
)
from curvtool.errors import ExitCode

if TYPE_CHECKING:
    from curvtool.cli.progress import ProgressDisplay
    from curvtool.pipeline import Loaded
    from curvtool.resuming.session import Session


@with_long
def spectrum(
    common: Long,
    *,
    top_k: solver.TopK = None,
    which: solver.End = "LM",
    all_pairs: Annotated[
        bool, typer.Option("--all", help="Every eigenvalue, for up to 5,000 parameters.")
    ] = False,
    vectors: Annotated[bool, typer.Option("--vectors", help="Store the eigenvectors too.")] = False,
    per_layer: Annotated[
        bool, typer.Option("--per-layer", help="Of every layer's diagonal block instead.")
    ] = False,
    group: Group = None,
    tol: solver.Tol = None,
    accuracy: Annotated[
        Accuracy | None,
        typer.Option(
            help="What the tolerance bounds: the error of values, or the residual of vectors.",
            show_default="values; vectors with --vectors",
        ),
    ] = None,
    complete: Annotated[
        bool,
        typer.Option(
            "--complete",
            help="Prove that no eigenvalue is missing, whatever it costs; else exit code 3.",
        ),
    ] = False,
    method: Annotated[
        Method,
        typer.Option(
            help="auto: dense where P is at most --max-hvps, else lanczos.",
            rich_help_panel=solver.SOLVER,
        ),
    ] = "auto",
    max_hvps: Annotated[
        int,
        typer.Option(
            min=LEAST_HVPS,
            help="Most Hessian-vector products over the whole dataset.",
            rich_help_panel=solver.SOLVER,
        ),
    ] = DEFAULT_MAX_HVPS,
    basis_device: Annotated[
        BasisDevice,
        typer.Option(
            help="Where Lanczos vectors lie: beside the model, in the host's memory, or in a file "
            "under TMPDIR.",
            rich_help_panel=solver.SOLVER,
        ),
    ] = "auto",
    basis_dtype: Annotated[
        BasisDType,
        typer.Option(
            help="bfloat16 stores Lanczos vectors in half the room: for tolerances of some 5 %.",
            rich_help_panel=solver.SOLVER,
        ),
    ] = "auto",
    basis: solver.Basis = None,
    certify: solver.CertifyBy = "auto",
    momentum: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=0.999,
            help="Of --method power, as a share of theta^2 / 4.",
            rich_help_panel=solver.SOLVER,
        ),
    ] = 0.0,
    hvp: opt.Hvp = "auto",
    out: opt.Out = None,
    force: opt.Force = False,
) -> int:
    """Extreme eigenvalues of the Hessian at a checkpoint, with error bounds.

    Prints a report, and writes a run file that 'curvtool show' prints again.

    Examples:

      curvtool spectrum checkpoints/digits_cnn.pt --top-k 20

      curvtool spectrum net.pt --model net.py:build --data npz:a.npz --loss mse

      curvtool spectrum net.pt --which SA -k 5 --tol 1e-6 --dtype float64
    """  # noqa: D412, DOC201  # the help text
    # Imported here, as all that takes time: --help must answer at once.
    from curvtool.cli.output import choose_output

    judged: Accuracy = accuracy or ("vectors" if vectors else "values")
    config = SpectrumConfig(
        problem=common.problem_config(),
        compute=common.compute_config(hvp),
        top_k=top_k,
        all_pairs=all_pairs,
        which=which,
        method=method,
        accuracy=judged,
        tol=DEFAULT_TOL[judged] if tol is None else positive("--tol", tol),
        tol_given=tol is not None,
        complete=complete,
        max_hvps=max_hvps,
        basis=basis,
        basis_device=basis_device,
        basis_dtype=basis_dtype,
        certify=certify,
        vectors=vectors,
        momentum=momentum,
        per_layer=per_layer,
        group=grouping(group, per_layer=per_layer),
    )
    path = choose_output(out, common.checkpoint, config.kind, force=force)
    return _run(config, path, common, force=force)


def _run(config: SpectrumConfig, path: Path, common: Long, *, force: bool) -> ExitCode:
    if config.per_layer:
        return _run_layers(config, path, common, force=force)
    from curvtool.cli.running import run_command
    from curvtool.cli.solving import spectrum_kind

    kind = spectrum_kind(config)
    return run_command(config, path, common, kind, force=force, max_hvps=config.max_hvps)


def _run_layers(config: SpectrumConfig, path: Path, common: Long, *, force: bool) -> ExitCode:
    from curvtool.cli.running import Kind, run_command
    from curvtool.cli.solving import proved_enough, satisfies
    from curvtool.results import SpectrumBlocksRun
    from curvtool.storage.spectrum_layers import read_spectrum_layers, write_spectrum_layers

    def compute(loaded: Loaded, progress: ProgressDisplay, session: Session) -> SpectrumBlocksRun:
        from curvtool.pipeline import run_spectrum_layers

        return run_spectrum_layers(
            config, loaded, report=progress.step, tell=progress.tell, session=session
        )

    kind = Kind(
        compute=compute,
        read=partial(read_spectrum_layers, eigenvectors=False),
        write=write_spectrum_layers,
        converged=lambda run: satisfies(run.blocks.outcome, config, run.config),
        enough=lambda run: proved_enough(
            (pairs.completeness for pairs in run.blocks.pairs), config, run.config
        ),
    )
    return run_command(config, path, common, kind, force=force, max_hvps=config.max_hvps)
