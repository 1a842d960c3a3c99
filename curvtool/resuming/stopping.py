"""When a run is to leave before its end: a signal, a limit of time, a job that is about to end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import final

# Before the end of a Slurm job: for a batch's product and a save; of a short job, a tenth.
SLURM_MARGIN = 60.0
SLURM_SHARE = 0.1


def _no_signal() -> str | None:
    return None


@final
class Stopping:
    """Reasons to leave.

    Args:
        signalled: the name of a signal that came, None where none did.
        time_limit: seconds from `began`; None for no limit.
        began: when the command did, by `time.monotonic`; now where it is not known.
        environment: of the process, for the end of a Slurm job.
    """

    def __init__(
        self,
        *,
        signalled: Callable[[], str | None] = _no_signal,
        time_limit: float | None = None,
        began: float | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.signalled = signalled
        self._deadlines: list[tuple[float, str]] = []
        # Clocks that can be set are read here and never again.
        now = time.monotonic()
        if time_limit is not None:
            since = now if began is None else began
            self._deadlines.append((since + time_limit, "the time limit"))
        end = (environment or {}).get("SLURM_JOB_END_TIME", "")
        if end.isdecimal():
            left = int(end) - time.time()
            margin = min(SLURM_MARGIN, SLURM_SHARE * max(0.0, left))
            self._deadlines.append((now + left - margin, "the end of the Slurm job"))

    def reason(self) -> str | None:
        """Why to leave now; None where there is no reason."""
        name = self.signalled()
        if name is not None:
            return name
        now = time.monotonic()
        return next((words for deadline, words in self._deadlines if now >= deadline), None)
