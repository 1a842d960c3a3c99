"""A sweep, one checkpoint after the other: what fails is noted, what is done is summed up."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from curvtool.cli.console import printable, result_console, say
from curvtool.cli.guard import finishing, received
from curvtool.cli.output import choose_output
from curvtool.cli.progress import ProgressDisplay, progress_display
from curvtool.cli.running import Kind, obtained
from curvtool.cli.show import print_run
from curvtool.cli.solving import satisfies, spectrum_kind
from curvtool.cli.sweep import Sweep
from curvtool.errors import CurvtoolError, ExitCode, HookError, InputError, Interrupted, UsageError
from curvtool.results import EigenPairs, FloatArray, Outcome, SpectrumRun, Tracked, TrackRun
from curvtool.resuming.stopping import Stopping
from curvtool.storage.file import RunHeader, peek
from curvtool.storage.state import StateFolder
from curvtool.storage.status import Status
from curvtool.storage.track import KIND, vector_columns, vector_rows, write_track

if TYPE_CHECKING:
    from curvtool.pipeline import Neighbour


def run_sweep(sweep: Sweep) -> ExitCode:
    """Analyse the checkpoints that are not analysed yet, and sum up.

    Args:
        sweep: what is asked.

    Returns:
        DONE, NOT_CONVERGED, or the exit code of what failed.

    Raises:
        InputError: where another process works on this sweep, or the folder cannot be written.
        Interrupted: with a sentence how to go on.
    """  # raised below
    require_summary(sweep)
    tracking = _Tracking(sweep, Status(sweep.summary))
    held = StateFolder(sweep.summary)
    try:
        run = tracking.run()
    finally:
        held.remove()
    print_run(
        run,
        as_json=sweep.common.as_json,
        verbose=sweep.common.verbose,
        console=result_console(),
    )
    if not sweep.common.quiet:
        say(f"written to {sweep.summary}")
    return tracking.exit_code


def run_one(sweep: Sweep, index: int) -> ExitCode:
    """Analyse one checkpoint of a sweep from a random start; nothing is summed up.

    Args:
        sweep: that it belongs to.
        index: of the checkpoint.

    Returns:
        DONE, or NOT_CONVERGED.
    """
    name, checkpoint = sweep.names[index], sweep.checkpoints[index]
    with (
        progress_display(quiet=sweep.common.quiet) as progress,
        contextlib.redirect_stdout(sys.stderr),
    ):
        progress.prefix = f"{printable(name)}: "
        path = sweep.file(name)
        kind = spectrum_kind(sweep.config_of(checkpoint))
        run, _ = analysed(sweep, kind, path, checkpoint, progress=progress, began=time.monotonic())
    return ExitCode.DONE if kind.converged(run) else ExitCode.NOT_CONVERGED


def require_summary(sweep: Sweep) -> None:
    """Refuse to replace what is no summary.

    Args:
        sweep: what is asked.

    Raises:
        InputError: for another file in its place, unless it is to be replaced.
    """
    found = choose_output(sweep.summary, sweep.checkpoints[0], KIND, force=sweep.force)
    header = peek(found)
    if isinstance(header, RunHeader) and header.kind != KIND and not sweep.force:
        raise InputError(
            f"The output {found} holds a run of kind {header.kind!r}, no summary of a sweep. Name "
            "another folder with --out, or replace it with --force."
        )


@final
class _Tracking:
    """A sweep that is going on: rows so far, and the last run that ended."""

    def __init__(self, sweep: Sweep, status: Status) -> None:
        self.sweep = sweep
        self.status = status
        self.began = time.monotonic()
        self.rows: list[Tracked] = []
        self.latest: SpectrumRun | None = None
        self.latest_name = ""
        self.computed = 0
        self.codes: list[ExitCode] = []

    @property
    def exit_code(self) -> ExitCode:
        """What cannot be used comes before what is no Hessian, and both before the tolerance."""
        gravest = (ExitCode.UNUSABLE_INPUT, ExitCode.NOT_A_HESSIAN, ExitCode.NOT_CONVERGED)
        return next((code for code in gravest if code in self.codes), ExitCode.DONE)

    def run(self) -> TrackRun:
        sweep, names = self.sweep, self.sweep.names
        stopping = Stopping(
            signalled=received,
            time_limit=sweep.common.limit_seconds,
            began=self.began,
            environment=os.environ,
        )
        self.status.tell("running")
        try:
            with (
                progress_display(quiet=sweep.common.quiet) as progress,
                contextlib.redirect_stdout(sys.stderr),
            ):
                for i, (name, checkpoint) in enumerate(zip(names, sweep.checkpoints, strict=True)):
                    reason = stopping.reason()
                    if reason is not None and self.computed:
                        done = f"{i} of {len(names)} checkpoints are done"
                        raise Interrupted(reason, f"{done}; the same command continues.")
                    progress.prefix = f"{i + 1}/{len(names)} {printable(name)}: "
                    self._take(name, checkpoint, progress)
                    self._sum_up()
        except Interrupted as error:
            with contextlib.suppress(Interrupted):  # it is written; the signal is told below
                self._sum_up()
            self.status.tell("interrupted", f"Interrupted by {error.reason}. {error.sentence}")
            raise
        except BaseException as error:
            self.status.tell("failed", str(error) or type(error).__name__)
            raise
        failed = [row for row in self.rows if row.outcome is Outcome.FAILED]
        if failed:
            said = "; ".join(f"{row.name}: {row.message}" for row in failed)
            self.status.tell("failed", f"{len(failed)} of {len(names)} failed. {said}")
        else:
            self.status.tell("done")
        return self._sum_up()

    def _take(self, name: str, checkpoint: Path, progress: ProgressDisplay) -> None:
        path = self.sweep.file(name)
        try:
            run = self._analysed(path, checkpoint, progress)
        except _WriteError as error:  # would be no other for the next one
            raise InputError(str(error)) from error
        except UsageError:
            raise
        except CurvtoolError as error:
            if isinstance(error, HookError) and error.__cause__ is not None:
                traceback.print_exception(error.__cause__)
            say(f"{name}: {error}")
            self.codes.append(error.exit_code)
            self.rows.append(_row(name, checkpoint, path, Outcome.FAILED, message=str(error)))
            return
        if not satisfies(run.pairs.outcome, self.sweep.config, run.config):
            self.codes.append(ExitCode.NOT_CONVERGED)
        cosines = self._cosines(path, run, progress)
        self.status.hvps += run.pairs.hvps
        self.rows.append(
            _row(
                *(name, checkpoint, path, run.pairs.outcome),
                loss=run.problem.loss_value,
                gradient_norm=run.problem.gradient_norm,
                hvps=run.pairs.hvps,
                seconds=run.seconds,
                eigenvalues=run.pairs.eigenvalues,
                eigenvalue_errors=run.pairs.eigenvalue_errors,
                converged=run.pairs.converged,
                at_floor=run.pairs.at_floor,
                complete=run.pairs.completeness.complete,
                proved_rank=run.pairs.completeness.proved_rank,
                started_from=str(run.environment.get("started_from", "")),
                compared_with=self.latest_name if len(cosines) else "",
                cosines=cosines,
            )
        )
        self.latest, self.latest_name = run, name

    def _analysed(self, path: Path, checkpoint: Path, progress: ProgressDisplay) -> SpectrumRun:
        config = self.sweep.config_of(checkpoint)
        neighbour = None if self.sweep.cold else self._neighbour()
        kind = spectrum_kind(config, neighbour)
        run, computed = analysed(
            self.sweep, kind, path, checkpoint, progress=progress, began=self.began
        )
        self.computed += computed
        return run

    def _neighbour(self) -> Neighbour | None:
        from curvtool.pipeline import Neighbour

        if self.latest is None:
            return None
        return Neighbour(
            name=self.latest_name,
            parameters=self.latest.parameters,
            eigenvalues=self.latest.pairs.eigenvalues,
            vectors=partial(vector_rows, self.sweep.file(self.latest_name)),
        )

    def _cosines(self, path: Path, run: SpectrumRun, progress: ProgressDisplay) -> FloatArray:
        """Compare the subspace with that of the run before, where no vector of both is open."""
        from curvtool.pipeline import compared

        if self.latest is None or not all(_closed(r.pairs) for r in (run, self.latest)):
            return compared(())
        if tuple(run.parameters) != tuple(self.latest.parameters):
            return compared(())
        progress.tell(f"comparing its subspace with that of {printable(self.latest_name)}")
        return compared(vector_columns(self.sweep.file(self.latest_name), path))

    def _sum_up(self) -> TrackRun:
        """Write what is known so far: a reader may look on."""
        from curvtool.pipeline import summarised

        names, begun = self.sweep.names, len(self.rows)
        waiting = [
            _row(name, checkpoint, self.sweep.file(name), Outcome.INTERRUPTED)
            for name, checkpoint in zip(names[begun:], self.sweep.checkpoints[begun:], strict=True)
        ]
        run = summarised(self.sweep.config, [*self.rows, *waiting], self.latest)
        with finishing():
            write_track(self.sweep.summary, run)
        return run


class _WriteError(CurvtoolError):
    """The run file could not be written, though there was one to write."""


def analysed(
    sweep: Sweep,
    kind: Kind[SpectrumRun],
    path: Path,
    checkpoint: Path,
    *,
    progress: ProgressDisplay,
    began: float,
) -> tuple[SpectrumRun, bool]:
    """Find the run of one checkpoint, or compute and write it.

    Args:
        sweep: that it belongs to.
        kind: of the run.
        path: of its file.
        checkpoint: its path.
        progress: told of it.
        began: when the command did, by `time.monotonic`.

    Returns:
        The run without eigenvectors, and whether it was computed now.

    Raises:
        CurvtoolError: for what cannot be analysed.
        _WriteError: where there was a run, and no room for it.
    """  # raised below
    progress.tell("loading")  # torch is imported here, not before
    from curvtool.distributed.group import Alone

    config, common = sweep.config_of(checkpoint), sweep.common_of(checkpoint)
    choose_output(path, checkpoint, config.kind, force=sweep.force)
    with contextlib.ExitStack() as open_state:
        found = obtained(
            config,
            path,
            common,
            kind,
            progress,
            Alone(),
            open_state,
            began=began,
            force=sweep.force,
            max_hvps=config.max_hvps,
            afresh=False,
        )
        run, continued = found
        assert run is not None
        if continued is None:
            return run, False
        try:
            with finishing():
                kind.write(path, run)
                continued.done()
        except InputError as error:
            raise _WriteError(str(error)) from error
    # Eigenvectors are in the file; a sweep holds none.
    return replace(run, pairs=replace(run.pairs, eigenvectors=None)), True


def _closed(pairs: EigenPairs) -> bool:
    """Whether no pair would come closer with more products."""
    return bool((pairs.converged | pairs.at_floor).all())


def _row(name: str, checkpoint: Path, path: Path, outcome: Outcome, **found: Any) -> Tracked:
    return Tracked(name=name, checkpoint=str(checkpoint), file=path.name, outcome=outcome, **found)
