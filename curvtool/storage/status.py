"""What a scheduler can read of a run: a small file beside the output.

torchrun hides exit codes and a requeued job has none, so that whether to start again is decided by
`state`: `running`, `interrupted` (start again: it continues), `done`, or `failed` (do not).
"""

from __future__ import annotations

import contextlib
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, final

from curvtool.storage.small import write_json
from curvtool.storage.state import status_file

SCHEMA = "curvtool-status/1"
State = Literal["running", "interrupted", "done", "failed"]


@final
class Status:
    """The status file of one output.

    Attributes:
        hvps: products so far, as the file will tell.
    """

    def __init__(self, output: Path) -> None:
        self.path = status_file(output)
        self.hvps = 0.0
        self._started = _now()

    def tell(self, state: State, message: str = "") -> None:
        """Replace the file; where it cannot be written the run goes on without.

        Args:
            state: of the run.
            message: a sentence.
        """
        with contextlib.suppress(OSError):  # it is told on stderr, too, and by the exit code
            write_json(
                self.path,
                {
                    "schema": SCHEMA,
                    "state": state,
                    "pid": os.getpid(),
                    "host": socket.gethostname(),
                    "started": self._started,
                    "updated": _now(),
                    "hvps": self.hvps,
                    "message": message,
                },
                durable=False,
            )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
