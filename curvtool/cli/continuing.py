"""Runs that are continued: whose state lies there, who works on it, what the status file says."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from curvtool.cli.guard import received, waiting
from curvtool.cli.output import as_text, differing, identity_of
from curvtool.errors import CurvtoolError, InputError, Interrupted
from curvtool.resuming.saving import Schedule
from curvtool.resuming.session import Session
from curvtool.resuming.stopping import Stopping
from curvtool.storage.state import StateFolder, state_folder, status_file
from curvtool.storage.status import Status

if TYPE_CHECKING:
    from curvtool.cli.common import Long
    from curvtool.cli.progress import ProgressDisplay
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

    def __init__(self, folder: StateFolder, session: Session, status: Status) -> None:
        self.session = session
        self.finished = False
        self._folder = folder
        self._status = status

    def done(self) -> None:
        """The output is written: the state has served."""
        self.finished = True
        self.session.solving = False
        self.session.close()
        self._folder.remove()
        self._status.tell("done")

    def keep(self) -> None:
        """Leave the state to the next run, if there is anything in it."""
        self.session.close()
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
    folder = StateFolder(output)
    status = Status(output)
    try:
        _claim(folder, config, loaded, afresh=force and not common.resume, force=force)
    except BaseException:
        folder.close()
        raise
    session = Session(
        folder.path,
        schedule=Schedule(common.save_seconds),
        stopping=stopping,
        tell=progress.tell,
        saved=lambda: status.tell("running"),
    )
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
            status.tell("interrupted", f"Interrupted by {error.reason}. {error.sentence}".strip())
        else:
            session.recorder.save()
            status.tell("failed", str(error) or type(error).__name__)
        found.keep()
        raise


@contextlib.contextmanager
def told_if_it_fails(output: Path) -> Iterator[None]:
    """Correct the status of an earlier run where this one fails before it has one of its own.

    Args:
        output: the run file.

    Yields:
        Nothing.

    Raises:
        CurvtoolError: passed on.
    """
    try:
        yield
    except CurvtoolError as error:
        if status_file(output).exists():
            Status(output).tell("failed", str(error))
        raise


def forget_state(output: Path) -> None:
    """Remove the state of a run whose output is whole: a kill came between the two."""
    if state_folder(output).exists():
        with contextlib.suppress(InputError):  # somebody else works on it
            StateFolder(output).remove()
            Status(output).tell("done")


def _claim(
    folder: StateFolder, config: Config, loaded: Loaded, *, afresh: bool, force: bool
) -> None:
    """Hold the state against the request; begin a new one where there is none."""
    request = {
        "kind": config.kind,
        "request": dict(config.request()),
        "identity": dict(identity_of(loaded)),
    }
    there = folder.request
    if there is not None and not afresh:
        phrases = _what_differs(there, request)
        if not phrases:
            return
        if not force:
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
