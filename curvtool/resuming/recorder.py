"""The recorder of a run: a journal of what was made, and where its loops stand.

`rank-0.0.journal` has the products and sections of the run, in their order; while a section is
computed, `rank-0.1.journal` has those inside it, and is worthless once it is done. Two files
`rank-0.0.slot` and `rank-0.1.slot` have in turns the sums of all loops that were going on at a
save, with the numbers of records that the journals had then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from curvtool.distributed.group import Alone, Group
from curvtool.errors import Interrupted
from curvtool.operators.recording import Numbers, Saved, State, fingerprint
from curvtool.resuming.loops import Loop, record_of, saved_of
from curvtool.resuming.saving import Schedule
from curvtool.resuming.stopping import Stopping
from curvtool.storage.journal import Array, Journal, Record, records, write_whole

# Records that wait for a save may take so much memory; then they are written at once.
MOST_WAITING = 2**28

Tell = Callable[[str], None]


def _nothing() -> None:
    return None


@final
class JournalRecorder:
    """Implements `operators.recording.Recorder` on files of a folder.

    Args:
        folder: of the state.
        schedule: says when to save.
        stopping: says when to leave.
        tell: told in a sentence what a user should know.
        group: the processes that compute together. Each has a journal of its own, of its share of
            every vector; a record counts where all of them have it.
        beside: called at every save, to write what belongs to the state and is no product.

    Attributes:
        saved: whether anything was saved by this process.
        replayed: records that were given back.
        failure: why the last save failed; empty where it did not.
    """

    def __init__(
        self,
        folder: Path,
        *,
        schedule: Schedule,
        stopping: Stopping,
        tell: Tell = lambda _: None,
        group: Group | None = None,
        beside: Callable[[], None] = _nothing,
    ) -> None:
        self.schedule = schedule
        self.stopping = stopping
        self.saved = False
        self.replayed = 0
        self.failure = ""
        self._folder = folder
        self._group: Group = group or Alone()
        self._rank = self._group.rank
        self._tell = tell
        self._beside = beside
        self._levels = [Journal(self._path(0))]
        self._deepest = 1  # depth of journals that may lie there from an earlier section
        self._muted = 0
        self._loops: list[Loop] = []
        self._slots = [r for n in (0, 1) for r in records(self._slot(n))]
        self._slots.sort(key=lambda slot: -int(slot.more["number"]))
        latest = int(self._slots[0].more["number"]) if self._slots else -1
        # The last save that all ranks completed.
        common = min(self._group.of_all(latest))
        self._slots = [slot for slot in self._slots if int(slot.more["number"]) <= common]
        self._slots = self._slots if min(self._group.of_all(len(self._slots))) else []
        self._number = common + 1
        self._matched: tuple[Record, int] | None = None  # a slot, and loops of it that go on
        self._given_up = schedule.off

    @property
    def count(self) -> int:
        """Records of the run so far, those given back among them."""
        return self._levels[0].count

    def product(self, kind: str, v: Tensor, make: Callable[[], Tensor]) -> Tensor:
        """See `Recorder`; the vector's bits say whether a record is of this product.

        Args:
            kind: names the operator and the sort of product.
            v: the vector, or rows.
            make: the product.

        Returns:
            The product, which belongs to the caller.
        """
        if self._muted:
            return make()
        journal, digest = self._levels[-1], fingerprint(v)
        found = self._recalled("product", kind, digest)
        if found is not None:
            return torch.from_numpy(found.arrays["product"]).to(v.device)
        made = make()
        self._add(journal, "product", kind, digest, {"product": _copied(made)})
        return made

    def section(
        self, key: str, compute: Callable[[], Sequence[Numbers]], *, whole: bool
    ) -> Sequence[Numbers]:
        """See `Recorder`.

        Args:
            key: of the section.
            compute: makes its numbers.
            whole: whether products inside are not worth a record.

        Returns:
            The numbers.
        """
        if self._muted:
            return compute()
        found = self._recalled("section", key, "")
        if found is not None:
            return [found.arrays[str(i)] for i in range(len(found.arrays))]
        journal = self._levels[-1]
        with self.unrecorded() if whole else self._inside(key):
            numbers = compute()
        arrays = {str(i): part for i, part in enumerate(numbers)}
        self._add(journal, "section", key, "", arrays)
        return numbers

    @contextlib.contextmanager
    def unrecorded(self) -> Iterator[None]:
        """See `Recorder`."""
        self._muted += 1
        try:
            yield
        finally:
            self._muted -= 1

    def begin(self, key: Callable[[], str]) -> Saved | None:
        """See `Recorder`.

        Args:
            key: of the loop.

        Returns:
            Where it stood.
        """
        self._loops.append(Loop(key))
        if not self._slots:
            return None
        found = self._place(len(self._loops) - 1, key)
        if len(set(self._group.of_all(0 if found is None else found.done))) > 1:
            found = self._matched = None
        if found is not None:
            self._loops[-1].stands(found)
        return found

    def _place(self, depth: int, key: Callable[[], str]) -> Saved | None:
        """Where a saved loop of that depth stood."""
        if depth == 0:
            at = self._positions
            slot = next((s for s in self._slots if s.more["positions"] == at), None)
            self._matched = None if slot is None else (slot, 0)
        if self._matched is None or self._matched[1] != depth:
            return None
        slot = self._matched[0]
        if depth >= len(slot.more["loops"]) or slot.more["loops"][depth]["key"] != key():
            return None
        self._matched = (slot, depth + 1)
        return saved_of(slot, depth)

    def step(self, done: int, state: Callable[[], State], *, product: bool) -> None:
        """See `Recorder`.

        Args:
            done: steps of the innermost loop.
            state: its tensors.
            product: whether a step is a whole product.
        """
        self._slots.clear()
        self._loops[-1].stepped(done, state)
        self._boundary(product=product)

    def end(self) -> None:
        """See `Recorder`."""
        self._loops.pop()

    def save(self) -> bool:
        """Write all that waits, and the sums of the loops.

        Returns:
            Whether that went well; where not, it is told once and tried again at the next time.
        """
        if self._given_up:
            return False
        began = self.schedule.began()
        try:
            self._beside()
            # In this order: what lies deeper is overwritten once its result is on the disk.
            for journal in self._levels:
                journal.write()
            self._forget_deeper()
            if self._loops:
                self._write_slot()
        except OSError as error:
            self._fail(error)
        else:
            self.saved, self.failure = True, ""
        self.schedule.ended(began)
        return not self.failure

    def close(self) -> None:
        """Let go of the files; what was not saved is lost."""
        for journal in self._levels:
            journal.close()

    def _recalled(self, kind: str, key: str, digest: str) -> Record | None:
        journal = self._levels[-1]
        if not journal.reading:
            return None
        found = journal.following()
        if not self._all(found is not None):
            journal.drop_rest()
            return None
        assert found is not None
        # Nothing new is at stake here; a limit of time must leave room for some progress.
        name = self.stopping.signalled()
        if name is not None:
            self._group.leave(name)
            raise Interrupted(name, self.sentence)
        if self._all((found.kind, found.key, found.digest) == (kind, key, digest)):
            journal.take()
            self.replayed += 1
            return found
        journal.drop_rest()
        self._tell(
            f"of the saved state {self.replayed} records serve this run; from there on it goes "
            "another way (other options, or a machine that rounds otherwise), to the same accuracy"
        )
        return None

    def _add(self, journal: Journal, kind: str, key: str, digest: str, arrays: Any) -> None:
        self._slots.clear()
        if not self._given_up:
            journal.add(Record(kind, key, digest, arrays))
        self._boundary(product=True)

    def _boundary(self, *, product: bool) -> None:
        reason = self.reason()
        if reason is not None:
            self.save()
            raise Interrupted(reason, self.sentence)
        if self._given_up and self.schedule.off:
            return
        full = sum(journal.bytes_waiting for journal in self._levels) > MOST_WAITING
        # All ranks save at the same boundary, so that their sums fit together.
        if self._all(not (full or self.schedule.due(product=product))):
            return
        if not self.save() and full and not self._given_up:
            self._given_up = True
            for journal in self._levels:
                journal.forget_waiting()
            self._tell("what could not be saved fills the memory: nothing is saved any more")

    def reason(self) -> str | None:
        """Why to leave now, this rank's own reason or another one's; the others are told."""
        reason = self.stopping.reason() or self._group.leaving
        if reason is not None:
            self._group.leave(reason)
        return reason

    def _all(self, holds: bool) -> bool:
        """Whether something holds on all ranks."""
        if self._group.size == 1:
            return holds
        return not int(self._group.sum_(torch.tensor([not holds], dtype=torch.int64)))

    @property
    def sentence(self) -> str:
        """How to go on after an interruption."""
        if self.schedule.off:
            return "Nothing is saved with --save-every off; the same command starts again."
        if self.failure or self._given_up:
            return (
                f"The last save failed ({self.failure}): the same command continues from the one "
                "before, once that is mended."
            )
        return f"What was computed is saved in {self._folder}; the same command continues."

    def _fail(self, error: OSError) -> None:
        words = error.strerror or str(error)
        if words != self.failure:
            self._tell(
                f"the state cannot be saved in {self._folder}: the system says {words!r}. The run "
                "goes on, and tries again later"
            )
        self.failure = words

    @contextlib.contextmanager
    def _inside(self, key: str) -> Iterator[None]:
        """A journal for what is made inside a section; an earlier one's is overwritten."""
        depth = len(self._levels)
        journal = Journal(self._path(depth))
        head = Record("inside", key, more={"at": self._positions})
        found = journal.following()
        wanted = (head.kind, head.key, dict(head.more))
        same = found is not None and (found.kind, found.key, dict(found.more)) == wanted
        if self._all(same):
            journal.take()
        else:
            journal.drop_rest()
            journal.add(head)
        self._levels.append(journal)
        self._deepest = max(self._deepest, depth)
        try:
            yield
        finally:
            self._levels.pop()
            journal.close()

    @property
    def _positions(self) -> list[int]:
        return [journal.count for journal in self._levels]

    def _forget_deeper(self) -> None:
        while self._deepest >= len(self._levels):
            self._path(self._deepest).unlink(missing_ok=True)
            self._deepest -= 1

    def _write_slot(self) -> None:
        found = record_of(self._loops, "loops", number=self._number, positions=self._positions)
        write_whole(self._slot(self._number % 2), found)
        self._number += 1

    def _path(self, depth: int) -> Path:
        return self._folder / f"rank-{self._rank}.{depth}.journal"

    def _slot(self, number: int) -> Path:
        return self._folder / f"rank-{self._rank}.{number}.slot"


def _copied(made: Tensor) -> Array:
    """On the host, in memory that the caller's tensor does not share."""
    host = made.detach().cpu().contiguous().numpy()
    copy: Array = host.copy() if made.device.type == "cpu" else host
    return copy
