"""How ranks notice that another one has left, failed, died or hung.

A rank that waits for the others can only be freed by them, or by itself. So every rank leaves
signs of life in the store that the job shares, and whoever waits reads them: a reason to leave, a
failure, and for each rank a count of its progress, which a thread of it brings there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, final

from curvtool.errors import CurvtoolError, ExitCode, Interrupted

# Between two looks at the store.
LOOK_SECONDS = 0.25
BEAT_SECONDS = 1.0
# A collective that can still complete is given so long when somebody leaves: who completes a step
# saves it, and it is better that all do.
GRACE_SECONDS = 2.0
# A thread that brings no sign of life for so long belongs to a process that is gone.
DEAD_SECONDS = 10.0
# Where a connection broke somebody is gone; this is only to see who.
BROKEN_SECONDS = 3.0
# Others save their state, or print a traceback, before they take their leave.
BYE_SECONDS = 5.0
_WAITS = " waits"


class RankFailedError(CurvtoolError):
    """Another rank of the job failed; the sentence is its own.

    Attributes:
        rank: which one; -1 where nobody knows.
        exit_code: what it ended with, as far as it could say so. One that is gone or hangs has
            interrupted the run, which the same command continues.
    """

    def __init__(
        self, sentence: str, rank: int = -1, code: ExitCode = ExitCode.INTERRUPTED
    ) -> None:
        super().__init__(sentence)
        self.rank = rank
        self.exit_code = code


def who_key(rank: int) -> str:
    """Where a rank says which process it is."""
    return f"curvtool/who/{rank}"


@final
class Watch:
    """This rank's signs of life, and its eye on the others'.

    Rank 0 looks after all, the others after rank 0: a look at everybody by everybody would drown
    the store.

    Args:
        store: of the job, `torch.distributed.Store`.
        rank: of this process.
        size: of the job.
        patience: seconds without progress after which a rank counts as hung.

    Attributes:
        waiting: whether this rank waits for others, so that it need not make progress.
        own_reason: says why this rank itself is to leave.
    """

    def __init__(self, store: Any, rank: int, size: int, *, patience: float) -> None:
        self._store, self._rank, self._size = store, rank, size
        self._patience = patience
        self._progress = 0
        self.waiting = False
        self.own_reason: Callable[[], str | None] = lambda: None
        self._looked = self._looked_after = 0.0
        self._left: str | None = None
        # Of every other rank: what it said last, and when that was new by this rank's clock.
        self._beats: dict[int, tuple[str, float]] = {}
        self._marks: dict[int, tuple[str, float]] = {}
        self._lost: set[int] = set()
        self._seen, self._since = 0, time.monotonic()
        self._closed = threading.Event()
        self._beat(0)
        self._thread = threading.Thread(target=self._beating, name="curvtool-beat", daemon=True)
        self._thread.start()

    def mark(self) -> None:
        """This rank has made progress."""
        self._progress += 1

    def leave(self, reason: str) -> None:
        """Tell the others to save and go."""
        if self._left is None:
            self._left = reason
            self._set("curvtool/leave", reason)

    def fail(self, sentence: str, code: int) -> None:
        """Tell the others why this rank ends.

        Args:
            sentence: for the user.
            code: exit code.
        """
        self._set("curvtool/failed", f"{self._rank} {code} {sentence}")

    def leaving(self) -> str | None:
        """The reason of whoever has left; the store is asked every quarter of a second."""
        now = time.monotonic()
        if self._left is None and now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._left = self._get("curvtool/leave")
        return self._left

    def look(self, completed: Callable[[], bool]) -> None:
        """Look after the others while waiting for them.

        Args:
            completed: whether the waiting is over.

        Raises:
            Interrupted: where one has left.
            RankFailedError: where one has failed, died or hung.
        """
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        self._require_nobody_failed()
        own = self.own_reason()
        if own is not None:
            self.leave(own)
        left = self._left or self._get("curvtool/leave")
        if left is not None:
            self._left = left
            until = now + GRACE_SECONDS
            while time.monotonic() < until:
                if completed():
                    return
                time.sleep(0.01)
            raise Interrupted(left)
        self._require_life(now)

    def broken(self, error: Exception) -> CurvtoolError:
        """What to say of a collective that broke: who is gone, as far as can be seen.

        Args:
            error: of torch.

        Returns:
            An error to raise.

        Raises:
            Interrupted: where somebody had left in order.
        """
        until = time.monotonic() + BROKEN_SECONDS + 3 * BEAT_SECONDS
        while time.monotonic() < until:
            self._require_nobody_failed()
            left = self._get("curvtool/leave")
            if left is not None:
                raise Interrupted(left)
            now = time.monotonic()
            for rank in self._others():
                if self._age(rank, now)[0] > BROKEN_SECONDS:
                    return self._gone(rank)
            if not self._reachable():
                break
            time.sleep(LOOK_SECONDS)
        first = str(error).strip().partition("\n")[0]
        return RankFailedError(
            f"The connection to another rank broke ({first}). Look for the rank that ended first; "
            "the same command continues what was saved."
        )

    def close(self) -> None:
        """Leave no more signs; rank 0, which may keep the store, waits until nobody needs it."""
        try:
            self._store.set(f"curvtool/bye/{self._rank}", "")
            until = time.monotonic() + BYE_SECONDS
            byes = [f"curvtool/bye/{r}" for r in self._others() if r not in self._lost]
            while self._rank == 0 and time.monotonic() < until and not self._store.check(byes):
                time.sleep(0.02)
        except RuntimeError:  # the store is gone already
            pass
        self._closed.set()
        self._thread.join(2 * BEAT_SECONDS)

    def _require_nobody_failed(self) -> None:
        failed = self._get("curvtool/failed")
        if failed is None:
            return
        rank, code, sentence = failed.split(" ", 2)
        if int(rank) == self._rank:
            return
        if not sentence.startswith("Rank "):  # of a third one
            sentence = f"Rank {rank} ({self._who(int(rank))}) ended: {sentence}"
        raise RankFailedError(sentence, int(rank), ExitCode(int(code)))

    def _require_life(self, now: float) -> None:
        if now - self._looked_after < BEAT_SECONDS:
            return
        self._looked_after = now
        idle, silent = [], []
        for rank in self._others() if self._rank == 0 else (0,):
            beat, mark = self._age(rank, now)
            idle.append(now - self._marks[rank][1])
            silent.append(beat)
            if beat > max(DEAD_SECONDS, self._patience / 10):
                raise self._gone(rank)
            if mark > self._patience:
                self._lost.add(rank)
                raise RankFailedError(
                    f"Rank {rank} ({self._who(rank)}) hangs: it has made no progress for "
                    f"{mark:.0f} s, and the others wait for it. Look at that process (py-spy dump) "
                    "and its machine; --rank-timeout allows more time. The same command continues "
                    "what was saved.",
                    rank,
                )

        # Who said last that it waits, and is silent since, may be gone: that is known later.
        waited = min(idle, default=0.0) > self._patience and max(silent) <= 2 * BEAT_SECONDS
        if self._rank == 0 and waited and self._stuck(now):
            raise RankFailedError(
                f"All ranks have waited for each other for {self._patience:.0f} s. This is a bug "
                "in curvtool: please report it with the command. The same command continues what "
                "was saved."
            )

    def _stuck(self, now: float) -> bool:
        """Whether this rank has waited as long, too."""
        if self._seen != self._progress:
            self._seen, self._since = self._progress, now
        return self.waiting and now - self._since > self._patience

    def _gone(self, rank: int) -> RankFailedError:
        self._lost.add(rank)
        return RankFailedError(
            f"Rank {rank} ({self._who(rank)}) is gone: it gives no sign of life any more. It may "
            "have been killed for its memory; its machine's log and its last lines say more. The "
            "same command continues what was saved.",
            rank,
        )

    def _age(self, rank: int, now: float) -> tuple[float, float]:
        """Seconds since a rank's last sign of life, and since its last progress."""
        beat, _, mark = (self._get(f"curvtool/beat/{rank}") or "").partition(" ")
        ages = []
        for known, said in ((self._beats, beat), (self._marks, mark)):
            if rank not in known or known[rank][0] != said:
                known[rank] = (said, now)
            ages.append(now - known[rank][1])
        return ages[0], 0.0 if mark.endswith(_WAITS) else ages[1]

    def _others(self) -> list[int]:
        return [rank for rank in range(self._size) if rank != self._rank]

    def _who(self, rank: int) -> str:
        return self._get(who_key(rank)) or "which never began"

    def _beating(self) -> None:
        number = 0
        while not self._closed.wait(BEAT_SECONDS):
            number += 1
            self._beat(number)

    def _beat(self, number: int) -> None:
        waits = _WAITS if self.waiting else ""
        self._set(f"curvtool/beat/{self._rank}", f"{number} {self._progress}{waits}")

    def _reachable(self) -> bool:
        try:
            self._store.check([who_key(0)])
        except RuntimeError:
            return False
        return True

    def _set(self, key: str, value: str) -> None:
        try:
            self._store.set(key, value)
        except RuntimeError:  # its host is gone: whoever waits for that one says so
            self._closed.set()

    def _get(self, key: str) -> str | None:
        try:
            if not self._store.check([key]):
                return None
            return bytes(self._store.get(key)).decode(errors="replace")
        except RuntimeError as error:
            if self._rank == 0:
                raise
            raise RankFailedError(
                "Rank 0 is gone: the job's store, which it keeps, cannot be reached "
                f"({str(error).strip().partition(chr(10))[0]}). The same command continues what "
                "was saved.",
                0,
            ) from error
