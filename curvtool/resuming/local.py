"""Sums inside a product that one of several ranks makes on its own, between two exchanges.

Ranks are at different places of their sums, so that each saves its own when it pleases. A sum is
found again by its key alone, which names the vector and the order of summation.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import final

from torch import Tensor

from curvtool.errors import Interrupted
from curvtool.operators.recording import Numbers, Saved, State
from curvtool.resuming.loops import Loop, record_of, saved_of
from curvtool.resuming.saving import Schedule
from curvtool.storage.journal import records, write_whole


@final
class LocalRecorder:
    """Implements `operators.recording.Recorder` for loops; all else is just made.

    Args:
        folder: of the state.
        rank: of this process.
        schedule: says when to save.
        reason: says why to leave, None where there is no reason.
        save_all: saves what all ranks have in common.
        alive: told of every step.
    """

    def __init__(
        self,
        folder: Path,
        *,
        rank: int,
        schedule: Schedule,
        reason: Callable[[], str | None],
        save_all: Callable[[], object],
        alive: Callable[[], None],
    ) -> None:
        self._paths = [folder / f"rank-{rank}.{n}.local.slot" for n in (0, 1)]
        self._schedule, self._reason = schedule, reason
        self._save_all, self._alive = save_all, alive
        self._loops: list[Loop] = []
        self._saved: dict[str, Saved] = {}
        slots = sorted(
            (slot for path in self._paths for slot in records(path)),
            key=lambda slot: int(slot.more["number"]),
        )
        self._number = int(slots[-1].more["number"]) + 1 if slots else 0
        for slot in slots[-1:]:
            for depth, loop in enumerate(slot.more["loops"]):
                found = saved_of(slot, depth)
                if found is not None:
                    self._saved[loop["key"]] = found

    def product(self, kind: str, v: Tensor, make: Callable[[], Tensor]) -> Tensor:  # noqa: ARG002
        """What is made."""
        return make()

    def section(
        self,
        key: str,  # noqa: ARG002
        compute: Callable[[], Sequence[Numbers]],
        *,
        whole: bool,  # noqa: ARG002
    ) -> Sequence[Numbers]:
        """What is computed."""
        return compute()

    def unrecorded(self) -> AbstractContextManager[None]:
        """Products are never on record here."""
        return contextlib.nullcontext()

    def begin(self, key: Callable[[], str]) -> Saved | None:
        """See `Recorder`.

        Args:
            key: of the loop.

        Returns:
            Where it stood.
        """
        self._loops.append(Loop(key))
        # Without sums from an interrupted run nobody asks for the key, a digest of the vector.
        found = self._saved.get(key()) if self._saved else None
        if found is not None:
            self._loops[-1].stands(found)
        return found

    def step(self, done: int, state: Callable[[], State], *, product: bool) -> None:
        """See `Recorder`.

        Args:
            done: steps of the innermost loop.
            state: its tensors.
            product: whether a step is a whole product.

        Raises:
            Interrupted: where this rank, or another one, is to leave.
        """
        self._alive()
        self._saved.clear()  # of the product that was interrupted, which goes on
        self._loops[-1].stepped(done, state)
        reason = self._reason()
        if reason is not None:
            self._save_all()
            self.save()
            raise Interrupted(reason)
        if self._schedule.due(product=product):
            began = self._schedule.began()
            self.save()
            self._schedule.ended(began)

    def end(self) -> None:
        """See `Recorder`."""
        self._loops.pop()

    def save(self) -> None:
        """Write the sums that are going on; where that fails, the last ones are left."""
        if self._schedule.off or not self._loops:
            return
        record = record_of(self._loops, "local", number=self._number)
        # A full disk is told by whoever saves what all have in common.
        with contextlib.suppress(OSError):
            write_whole(self._paths[self._number % 2], record)
            self._number += 1
