"""A run that can be continued: its folder, its recorder, and what was decided before the solve."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, final

from curvtool.distributed.group import Alone, Group, Ranks
from curvtool.operators.recording import Recorder
from curvtool.results import Preflight
from curvtool.resuming.local import LocalRecorder
from curvtool.resuming.recorder import JournalRecorder, Tell
from curvtool.resuming.saving import Schedule
from curvtool.resuming.stopping import Stopping
from curvtool.storage import strictjson
from curvtool.storage.records import as_planned, as_preflight
from curvtool.storage.small import read_json_file, write_json

Decisions = Mapping[str, Any]


@final
class Session:
    """What a pipeline needs to know of earlier runs of the same request, and tells later ones.

    Args:
        folder: of the state.
        schedule: says when to save.
        stopping: says when to leave.
        tell: told in a sentence what a user should know.
        saved: called at every save.
        group: the processes that compute together.

    Attributes:
        group: the same.
        recorder: of products and sums.
        local_recorder: of sums inside a product that one of several processes makes on its own.
        decisions: what an earlier run measured and chose; None where there was none.
        solving: whether products are made that are on record: then a signal waits for the next
            boundary.
    """

    def __init__(
        self,
        folder: Path,
        *,
        schedule: Schedule,
        stopping: Stopping,
        tell: Tell = lambda _: None,
        saved: Callable[[], None] = lambda: None,
        group: Group | None = None,
    ) -> None:
        self.group: Group = group or Alone()
        self._path = folder / "rank-0.decisions.json"
        self._saved = saved
        self._current: Callable[[], Decisions] | None = None
        self._written = ""
        self.decisions: Decisions | None = read_json_file(self._path)
        self.solving = False
        self.recorder = JournalRecorder(
            folder,
            schedule=schedule,
            stopping=stopping,
            tell=tell,
            group=self.group,
            beside=self._beside,
        )
        self.local_recorder: Recorder = self.recorder
        if isinstance(self.group, Ranks):
            self.local_recorder = LocalRecorder(
                folder,
                rank=self.group.rank,
                schedule=Schedule(schedule.every),
                reason=self.recorder.reason,
                save_all=self.recorder.save,
                alive=self.group.alive,
            )
            self.group.before_leaving = self._save_before_leaving
            self.group.watch.own_reason = stopping.reason

    def begin(self, current: Callable[[], Decisions]) -> None:
        """From now on products are on record.

        Args:
            current: gives what is decided, as it stands when it is called: a solve that runs out
                of memory decides anew.
        """
        self._current = current
        self.solving = True

    def _save_before_leaving(self) -> None:
        if self.solving:
            self.recorder.save()
            if isinstance(self.local_recorder, LocalRecorder):
                self.local_recorder.save()

    def close(self) -> None:
        """Let go of the files."""
        self.recorder.close()

    def _beside(self) -> None:
        if self._current is not None and self.group.rank == 0:
            decisions = self._current()
            text = strictjson.dumps(decisions)
            if text != self._written:
                write_json(self._path, decisions, durable=True)
                self._written = text
        self._saved()


def preflight_of(decisions: Decisions) -> Preflight:
    """The record of the checks that were made."""
    return as_preflight(decisions["preflight"])


def planned_of(decisions: Decisions) -> dict[str, Any]:
    """`forecast` and `trials` of the plan that was made."""
    return as_planned(decisions)
