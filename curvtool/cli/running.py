"""What every command with a run file does: compute it, or find it there; store it; show it."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, final

from curvtool.cli.ranks import joined, place_among_ranks, speaks
from curvtool.errors import ExitCode, InputError

if TYPE_CHECKING:
    from curvtool.cli.common import Long
    from curvtool.cli.continuing import Continuation
    from curvtool.cli.progress import ProgressDisplay
    from curvtool.distributed.group import Group
    from curvtool.pipeline import Loaded
    from curvtool.pipeline.loading import Config
    from curvtool.resuming.session import Session

Run = TypeVar("Run")


@final
@dataclass(frozen=True, kw_only=True)
class Kind(Generic[Run]):
    """How runs of one kind are made and kept.

    Attributes:
        compute: makes the run; told of progress, and of the session of a run that can be continued.
        read: from its file.
        write: to its file.
        converged: whether every figure that was asked for met its tolerance.
        enough: whether a finished run that lies there answers what is asked now.
    """

    compute: Callable[[Loaded, ProgressDisplay, Session], Run]
    read: Callable[[Path], Run]
    write: Callable[[Path, Run], None]
    converged: Callable[[Run], bool]
    enough: Callable[[Run], bool] = lambda _: True


def run_command(
    config: Config,
    path: Path,
    common: Long,
    kind: Kind[Run],
    *,
    force: bool,
    max_hvps: int | None = None,
) -> ExitCode:
    """Carry a command out.

    Args:
        config: of the run.
        path: of the run file.
        common: the shared options.
        kind: of the run.
        force: whether to compute whatever lies at the path.
        max_hvps: products that may be spent now, of commands that may stop at a limit.

    Returns:
        DONE, or NOT_CONVERGED.
    """
    from curvtool.cli.console import result_console, say
    from curvtool.cli.guard import finishing
    from curvtool.cli.progress import progress_display
    from curvtool.cli.show import print_run

    began = time.monotonic()
    launch = place_among_ranks()
    with contextlib.ExitStack() as open_state:
        # What the user's own code prints is no result: stdout holds the report alone.
        with (
            progress_display(quiet=common.quiet or not speaks(launch)) as progress,
            contextlib.redirect_stdout(sys.stderr),
        ):
            progress.tell("loading")  # torch is imported here, not before
            group = open_state.enter_context(joined(launch, common))
            found = obtained(
                config,
                path,
                common,
                kind,
                progress,
                group,
                open_state,
                began=began,
                force=force,
                max_hvps=max_hvps,
            )

        run, continued = found

        def finished() -> ExitCode:
            assert run is not None
            try:
                if continued is not None:
                    with finishing():
                        kind.write(path, run)
                        continued.done()
            finally:  # a full disk or a signal must not cost what was computed
                shown: Any = run
                print_run(
                    shown, as_json=common.as_json, verbose=common.verbose, console=result_console()
                )
            return ExitCode.DONE if kind.converged(run) else ExitCode.NOT_CONVERGED

        code = group.from_first(finished)
        if continued is not None and not continued.finished:  # not rank 0, whose it was to write
            continued.done()
    if not common.quiet:
        say(f"{'already in' if continued is None else 'written to'} {path}")
    return code


def obtained(
    config: Config,
    path: Path,
    common: Long,
    kind: Kind[Run],
    progress: ProgressDisplay,
    group: Group,
    open_state: contextlib.ExitStack,
    *,
    began: float,
    force: bool,
    max_hvps: int | None,
    afresh: bool = True,
) -> tuple[Run | None, Continuation | None]:
    """Find a run in its file, or compute it; it is left to the caller to write it.

    Args:
        config: of the run.
        path: of the run file.
        common: the shared options.
        kind: of the run.
        progress: told of it.
        group: the processes that compute together.
        open_state: takes the state of the run, which is held until it closes.
        began: when the command did, by `time.monotonic`.
        force: whether to replace whatever lies at the path.
        max_hvps: products that may be spent now.
        afresh: whether `force` replaces a run of the same request, too.

    Returns:
        The run, None where rank 0 alone has read it; and the continuation to be told when it is
        written, None for one found there.

    Raises:
        InputError: when another run's file lies there, or the problem cannot be used.
    """
    from curvtool.cli.continuing import continuation
    from curvtool.cli.output import require_writable

    loaded = _loaded(config, path, group)
    run: Run | None = None

    def stored() -> bool:
        nonlocal run
        try:
            if not (force and afresh):
                run = _stored(config, path, kind, loaded, max_hvps=max_hvps)
        except InputError:
            if not force:
                raise
        if run is None:
            require_writable(path)
        return run is not None

    if group.from_first(stored):
        return run, None
    continued = open_state.enter_context(
        continuation(config, path, loaded, common, progress, group, began=began, force=force)
    )
    return kind.compute(loaded, progress, continued.session), continued


def _loaded(config: Config, path: Path, group: Group) -> Loaded:
    """The problem, the same for every process."""
    from curvtool.cli.continuing import told_if_it_fails
    from curvtool.pipeline import load

    with told_if_it_fails(path, group):
        loaded = load(config, working_directory=Path.cwd(), group=group)
        hashes = group.of_all(loaded.problem.hashes)
        for rank, theirs in enumerate(hashes):
            if theirs != hashes[0]:
                names = [name for name in theirs if theirs[name] != hashes[0].get(name)]
                raise InputError(
                    f"Rank {rank} reads other files than rank 0: {', '.join(names)} differ. All "
                    "processes need the same checkpoint and data; check that the paths lead to a "
                    "file system that their machines share."
                )
        return loaded


def _stored(
    config: Config,
    path: Path,
    kind: Kind[Run],
    loaded: Loaded,
    *,
    max_hvps: int | None,
) -> Run | None:
    """The run where it is there already; refuses another one."""
    from curvtool.cli.continuing import forget_state
    from curvtool.cli.output import finished_before, identity_of

    if finished_before(
        path,
        loaded.request,
        config=config.request(),
        identity=identity_of(loaded),
        max_hvps=max_hvps,
    ):
        stored = kind.read(path)
        if kind.enough(stored):
            forget_state(path)
            return stored
    return None
