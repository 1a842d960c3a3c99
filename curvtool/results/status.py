"""Where the runs of a folder stand."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Standing(enum.Enum):
    """What a run is doing: the value goes to JSON, `sentence` to the report."""

    RUNNING = "running"
    STALE = "stale"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    DONE = "done"

    @property
    def sentence(self) -> str:
        """What a reader should do."""
        return {
            Standing.RUNNING: "wait for it",
            Standing.STALE: "its process is gone: the same command continues",
            Standing.INTERRUPTED: "the same command continues",
            Standing.FAILED: "the same command would fail again: see its message",
            Standing.DONE: "the run file is whole",
        }[self]


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """One run: what its status file says, and its run file.

    Attributes:
        output: path of the run file, there or to come.
        standing: what it is doing.
        kind: of the run; empty where there is no run file.
        outcome: of the run file; empty likewise.
        hvps: products so far.
        updated: UTC, ISO 8601; empty where it is not known.
        host: it was told from; empty where it is not known.
        pid: likewise; 0 where it is not known.
        message: a sentence.
    """

    output: str
    standing: Standing
    kind: str = ""
    outcome: str = ""
    hvps: float = 0.0
    updated: str = ""
    host: str = ""
    pid: int = 0
    message: str = ""
