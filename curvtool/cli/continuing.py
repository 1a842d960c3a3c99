"""Runs that are continued: whose state lies there, who works on it, what the status file says."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from curvtool.cli.guard import received, waiting
from curvtool.cli.output import as_text, differing, identity_of
from curvtool.errors import CurvtoolError, ExitCode, InputError, Interrupted
from curvtool.resuming.recorder import Tell
from curvtool.resuming.saving import Schedule
from curvtool.resuming.session import Session
from curvtool.resuming.stopping import Stopping
from curvtool.storage.state import StateFolder, state_folder, status_file
from curvtool.storage.status import State, Status

if TYPE_CHECKING:
    from curvtool.cli.common import Long
    from curvtool.cli.progress import ProgressDisplay
    from curvtool.distributed.group import Group
    from curvtool.pipeline import Loaded
    from curvtool.pipeline.loading import Config

# What may be another when a run goes on: it decides how far to go, not what is computed.
_FREE = {"tol", "rel_err", "abs_err"}


@final
class Continuation:
    """A run that has its output for itself.

    Attributes:
        session: for the pipeline.
        finished: whether the output is written.
    """

    def __init__(self, folder: StateFolder | None, session: Session, status: Status | None) -> None:
        self.session = session
        self.finished = False
        self._folder = folder
        self._status = status

    def done(self) -> None:
        """The output is written: the state has served."""
        self.finished = True
        self.session.solving = False
        self.session.close()
        if self._folder is not None:
            self._folder.remove()
        if self._status is not None:
            self._status.tell("done")

    def keep(self) -> None:
        """Leave the state to the next run, if there is anything in it."""
        self.session.close()
        if self._folder is None:
            return
        if self._folder.is_empty:
            self._folder.remove()
        else:
            self._folder.close()


@contextlib.contextmanager
def continuation(
    config: Config,
    output: Path,
    loaded: Loaded,
    common: Long,
    progress: ProgressDisplay,
    group: Group,
    *,
    began: float,
    force: bool,
) -> Iterator[Continuation]:
    """Lock the output, find its state, and tell the status until the end.

    Args:
        config: of the run.
        output: the run file.
        loaded: the problem.
        common: the shared options.
        progress: told what a user should know.
        group: the processes that compute together; rank 0 has lock and status.
        began: when the command did, by `time.monotonic`.
        force: whether a state is thrown away, unless it is asked for by `--resume`.

    Yields:
        The continuation; signals wait for boundaries while products are made.

    Raises:
        InputError: where another process computes this output, or the state is another run's.
        Interrupted: passed on, with a sentence how to go on.
    """
    stopping = Stopping(
        signalled=received,
        time_limit=common.limit_seconds,
        began=began,
        environment=os.environ,
    )
    folder: StateFolder | None = None

    def claimed() -> None:
        nonlocal folder
        folder = StateFolder(output)
        try:
            _claim(
                folder,
                config,
                loaded,
                _kind_of_parts(config, group),
                progress.tell,
                afresh=force and not common.resume,
                force=force,
            )
        except BaseException:
            folder.close()
            raise

    group.from_first(claimed)
    status = Status(output) if group.rank == 0 else None
    session = Session(
        state_folder(output),
        schedule=Schedule(common.save_seconds),
        stopping=stopping,
        tell=progress.tell,
        saved=lambda: None if status is None else status.tell("running"),
        group=group,
    )
    if status is not None:
        progress.listener = lambda hvps: setattr(status, "hvps", float(hvps))
        status.tell("running")
    found = Continuation(folder, session, status)
    try:
        with waiting(lambda: session.solving):
            yield found
    except BaseException as error:
        session.solving = False
        if found.finished:
            raise
        if isinstance(error, Interrupted):
            error.sentence = error.sentence or session.recorder.sentence
            said = f"Interrupted by {error.reason}. {error.sentence}".strip()
            state: State = "interrupted"
        else:
            session.recorder.save()
            said = str(error) or type(error).__name__
            lost = getattr(error, "exit_code", None) is ExitCode.INTERRUPTED
            state = "interrupted" if lost else "failed"  # a rank was lost
        if status is not None:
            status.tell(state, said)
        found.keep()
        raise


@contextlib.contextmanager
def told_if_it_fails(output: Path, group: Group) -> Iterator[None]:
    """Correct the status of an earlier run where this one fails before it has one of its own.

    Args:
        output: the run file.
        group: the processes, of which rank 0 has the status.

    Yields:
        Nothing.

    Raises:
        CurvtoolError: passed on.
    """
    try:
        yield
    except CurvtoolError as error:
        if group.rank == 0 and status_file(output).exists():
            Status(output).tell("failed", str(error))
        raise


def forget_state(output: Path) -> None:
    """Remove the state of a run whose output is whole: a kill came between the two."""
    if state_folder(output).exists():
        with contextlib.suppress(InputError):  # somebody else works on it
            StateFolder(output).remove()
            Status(output).tell("done")


def _kind_of_parts(config: Config, group: Group) -> str:
    """In which parts vectors are saved: a state in others cannot be continued."""
    ranks = "1 process" if group.size == 1 else f"{group.size} processes"
    return f"{ranks} that share the parameters out" if config.compute.shard_params else ranks


def _claim(
    folder: StateFolder,
    config: Config,
    loaded: Loaded,
    parts: str,
    tell: Tell,
    *,
    afresh: bool,
    force: bool,
) -> None:
    """Hold the state against the request; begin a new one where there is none."""
    request = {
        "kind": config.kind,
        "request": dict(config.request()),
        "identity": dict(identity_of(loaded)),
        "parts": parts,
    }
    if not force:
        folder.require_own_schema()
    there = folder.request
    if there is not None and not afresh:
        phrases = _what_differs(there, request)
        if not phrases and there.get("parts") == parts:
            return
        if not phrases:
            tell(
                f"the saved state is of vectors on {there.get('parts')}, and these are on {parts} "
                "now: this run starts afresh"
            )
        elif not force:
            raise InputError(
                f"The state in {folder.path} is that of another run, which was interrupted. What "
                f"differs: {'; '.join(phrases)}. Continue it by the same options, name another "
                "file with --out, or start afresh with --force."
            )
    try:
        folder.begin(request)
    except OSError as error:
        raise InputError(
            f"The state of this run goes to {folder.path}, which cannot be written: the system "
            f"says {error.strerror!r}. Mend that, or name another file with --out."
        ) from error


def _what_differs(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Phrases; none where one run can continue the other."""
    if there.get("kind") != here["kind"]:
        return [f"it was a {there.get('kind')} run, now {here['kind']}"]
    before, now = dict(there.get("request", {})), dict(here["request"])
    fewer, more = before.get("top_k"), now.get("top_k")
    if isinstance(fewer, int) and isinstance(more, int) and more >= fewer:
        before.pop("top_k")
        now.pop("top_k")
    for name in _FREE:
        before.pop(name, None)
        now.pop(name, None)
    names = [
        name
        for name, value in here["identity"].items()
        if as_text(there.get("identity", {}).get(name)) != as_text(value)
    ]
    words = {"checkpoint_sha256": "the checkpoint's content", "data_sha256": "the data's content"}
    return [words.get(name, f"the problem {name}") for name in names] + differing(before, now)
