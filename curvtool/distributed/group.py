"""The processes of one run, and the little that they tell each other.

Everything here is called by all ranks, in the same order. A rank that waits looks after the
others meanwhile: see `watch`.
"""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Protocol, TypeVar, final

import torch
import torch.distributed as dist
from torch import Tensor

from curvtool.distributed.alone import Alone as Alone
from curvtool.distributed.launch import Launch
from curvtool.distributed.meeting import meet
from curvtool.distributed.shares import Shares
from curvtool.distributed.watch import Watch
from curvtool.errors import CurvtoolError, Interrupted

_Result = TypeVar("_Result")
_NEVER = timedelta(days=30)
# For the slowest of many machines to start Python and to import torch.
_MEETING_SECONDS = 300.0
_POLL_SECONDS = 5e-5
_SLOWEST_POLL_SECONDS = 2e-3
# torch 2.14 has renamed them.
_set_timeout = getattr(dist, "set_timeout", None) or dist.distributed_c10d._set_pg_timeout
_all_gather = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)
_reduce_scatter = getattr(dist, "reduce_scatter_single", dist.reduce_scatter_tensor)


class Group(Protocol):
    """The ranks of a run; a single process is a group as well.

    Attributes:
        traffic: bytes of vectors that this rank took part in moving, by the usual count: a
            reduce-scatter or an all-gather of n bytes moves n (W - 1) / W through every rank.
        waited: seconds spent in collectives.
    """

    traffic: int
    waited: float

    @property
    def rank(self) -> int:
        """From 0."""
        ...

    @property
    def size(self) -> int:
        """W."""
        ...

    @property
    def local_rank(self) -> int:
        """Among the ranks of this machine."""
        ...

    @property
    def local_size(self) -> int:
        """Ranks on this machine."""
        ...

    def sum_(self, numbers: Tensor) -> Tensor:
        """Add up a tensor over the ranks, in place; everybody gets the same bits."""
        ...

    def reduce_scatter(self, whole_P: Tensor, shares: Shares) -> Tensor:
        """This rank's part of the sum over the ranks."""
        ...

    def all_gather(self, part: Tensor, shares: Shares) -> Tensor:
        """The vector of which every rank has a part, shape (P,)."""
        ...

    def broadcast_(self, numbers: Tensor, source: int) -> Tensor:
        """Give everybody the numbers of rank `source`, in place."""
        ...

    def reduce_(self, numbers: Tensor, target: int) -> Tensor:
        """Add up a tensor over the ranks, in place, on rank `target`; the others' is spoilt."""
        ...

    def from_first(self, make: Callable[[], _Result]) -> _Result:
        """What rank 0 makes, for everybody; what it raises is raised everywhere."""
        ...

    def of_all(self, value: _Result) -> list[_Result]:
        """Everybody's value, by rank."""
        ...

    def leave(self, reason: str) -> None:
        """Tell the others that this rank goes, and that they are to go, too."""
        ...

    @property
    def leaving(self) -> str | None:
        """Why somebody has left; looked up once in a while."""
        ...

    def alive(self) -> None:
        """Say that this rank makes progress."""
        ...


@final
class Ranks:
    """A group of several processes over torch.distributed.

    Args:
        launch: the place of this process.
        device: that vectors lie on: NCCL carries them between GPUs, gloo all else.
        patience: seconds without any progress after which a rank counts as hung.

    Attributes:
        before_leaving: called before `Interrupted` is raised while this rank waits for others.
    """

    def __init__(self, launch: Launch, device: torch.device, *, patience: float) -> None:
        self._launch = launch
        if "OMP_NUM_THREADS" not in os.environ:  # the cores are shared out, too
            torch.set_num_threads(max(1, torch.get_num_threads() // launch.local_size))
        self.traffic, self.waited = 0, 0.0
        self._gave_up = False  # a collective that others may never complete
        self.before_leaving: Callable[[], None] = lambda: None
        store = meet(launch, within=min(patience, _MEETING_SECONDS))
        self.watch = Watch(store, launch.rank, launch.size, patience=patience)
        try:
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
                store=dist.PrefixStore("curvtool/torch", store),  # type: ignore[attr-defined]
                rank=launch.rank,
                world_size=launch.size,
                timeout=timedelta(seconds=min(patience, _MEETING_SECONDS)),
            )
        except RuntimeError as error:
            try:
                raise self.watch.broken(error) from error
            finally:
                self.watch.close()
        # From here on whoever waits is found out by `watch`.
        _set_timeout(_NEVER)

    @property
    def rank(self) -> int:
        """From 0."""
        return self._launch.rank

    @property
    def size(self) -> int:
        """W."""
        return self._launch.size

    @property
    def local_rank(self) -> int:
        """Among the ranks of this machine."""
        return self._launch.local_rank

    @property
    def local_size(self) -> int:
        """Ranks on this machine."""
        return self._launch.local_size

    def close(self) -> None:
        """Let go of the others, who may be gone."""
        self.watch.close()
        # torch would wait for a collective with a rank that hangs; the end of the process does not.
        if dist.is_initialized() and not self._gave_up:
            dist.destroy_process_group()

    def sum_(self, numbers: Tensor) -> Tensor:
        """Add up a tensor over the ranks, in place; everybody gets the same bits."""
        self._waited(dist.all_reduce(numbers, async_op=True))
        return numbers

    def reduce_scatter(self, whole_P: Tensor, shares: Shares) -> Tensor:
        """This rank's part of the sum over the ranks.

        Args:
            whole_P: what this rank adds, shape (P,).
            shares: who gets what.

        Returns:
            A new vector. Moves P numbers; takes one more vector of P numbers on a CPU, and on a GPU
            where parts are uneven.
        """
        packed = whole_P.contiguous()
        if packed.device.type == "cpu":
            # gloo's own cannot be polled. Added up here, in the ranks' order: always the same bits.
            length = shares.length(self.rank)
            parts = packed.new_empty(length * self.size)
            lengths = [shares.length(rank) for rank in range(self.size)]
            self._waited(
                dist.all_to_all_single(parts, packed, [length] * self.size, lengths, async_op=True)
            )
            self._count(packed)
            return parts.view(self.size, length).sum(0)
        if not shares.even:
            packed = whole_P.new_zeros(shares.longest * shares.ranks)
            for rank in range(shares.ranks):
                at = rank * shares.longest
                packed[at : at + shares.length(rank)] = whole_P[shares.part(rank)]
        part = whole_P.new_empty(shares.longest)
        self._waited(_reduce_scatter(part, packed, async_op=True))
        self._count(packed)
        return part[: shares.length(self.rank)]

    def all_gather(self, part: Tensor, shares: Shares) -> Tensor:
        """The vector of which every rank has a part, shape (P,).

        Args:
            part: this rank's.
            shares: who has what.

        Returns:
            A new vector, the same on all ranks. Moves P numbers.
        """
        if not shares.even:
            longer = part.new_zeros(shares.longest)
            longer[: len(part)] = part
            part = longer
        packed = part.new_empty(shares.longest * shares.ranks)
        self._waited(_all_gather(packed, part.contiguous(), async_op=True))
        self._count(packed)
        if shares.even:
            return packed
        rows = packed.view(shares.ranks, shares.longest)
        return torch.cat([rows[r, : shares.length(r)] for r in range(shares.ranks)])

    def broadcast_(self, numbers: Tensor, source: int) -> Tensor:
        """Give everybody the numbers of rank `source`, in place."""
        self._waited(dist.broadcast(numbers, source, async_op=True))
        self._count(numbers)
        return numbers

    def reduce_(self, numbers: Tensor, target: int) -> Tensor:
        """Add up a tensor over the ranks, in place, on rank `target`; the others' is spoilt."""
        self._waited(dist.reduce(numbers, target, async_op=True))
        self._count(numbers)
        return numbers

    def from_first(self, make: Callable[[], _Result]) -> _Result:
        """What rank 0 makes, for everybody.

        Args:
            make: called on rank 0 alone.

        Returns:
            The value, pickled on its way.

        Raises:
            CurvtoolError: that rank 0 met; nobody but rank 0 says it.
        """  # raised below
        content = b""
        failure: CurvtoolError | None = None
        if self.rank == 0:
            try:
                content = pickle.dumps((make(), None))
            except CurvtoolError as error:
                failure = error
                content = pickle.dumps((None, (type(error), str(error))))
        value, refused = pickle.loads(self._from_rank_0(content))
        if failure is not None:
            raise failure
        if refused is not None:
            kind, sentence = refused
            raise kind(sentence)
        result: _Result = value
        return result

    def of_all(self, value: _Result) -> list[_Result]:
        """Everybody's value, by rank."""
        mine = torch.frombuffer(bytearray(pickle.dumps(value)), dtype=torch.uint8)
        lengths = torch.zeros(self.size, dtype=torch.int64)
        lengths[self.rank] = len(mine)
        self.sum_(lengths)
        longest = int(lengths.max())
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: len(mine)] = mine
        everything = torch.empty(longest * self.size, dtype=torch.uint8)
        self._waited(_all_gather(everything, padded, async_op=True))
        rows = everything.view(self.size, longest)
        return [
            pickle.loads(rows[r, : int(lengths[r])].numpy().tobytes()) for r in range(self.size)
        ]

    def leave(self, reason: str) -> None:
        """Tell the others that this rank goes, and that they are to go, too."""
        self.watch.leave(reason)

    @property
    def leaving(self) -> str | None:
        """Why somebody has left; looked up once in a while."""
        return self.watch.leaving()

    def alive(self) -> None:
        """Say that this rank makes progress."""
        self.watch.mark()

    def _from_rank_0(self, content: bytes) -> bytes:
        """Rank 0's bytes, for everybody."""
        length = torch.tensor([len(content)], dtype=torch.int64)
        self._waited(dist.broadcast(length, 0, async_op=True))
        buffer = torch.frombuffer(bytearray(content) or bytearray(1), dtype=torch.uint8)
        if self.rank != 0:
            buffer = torch.empty(int(length), dtype=torch.uint8)
        self._waited(dist.broadcast(buffer, 0, async_op=True))
        return buffer.numpy().tobytes()

    def _waited(self, work: Any) -> None:
        """Wait for a collective, with an eye on the others.

        Raises:
            Interrupted: where another rank has left.
            CurvtoolError: where one is dead, hung, or has failed.
        """
        began = time.monotonic()
        pause = _POLL_SECONDS
        self.watch.waiting = True
        try:
            while not work.is_completed():
                time.sleep(pause)
                pause = min(1.02 * pause, _SLOWEST_POLL_SECONDS)
                self.watch.look(lambda: bool(work.is_completed()))
            work.wait()
        except Interrupted:
            self.before_leaving()
            raise
        except RuntimeError as error:
            raise self.watch.broken(error) from error
        finally:
            self._gave_up |= not work.is_completed()
            self.waited += time.monotonic() - began
            self.watch.waiting = False
            self.watch.mark()

    def _count(self, moved: Tensor) -> None:
        self.traffic += moved.nbytes * (self.size - 1) // self.size


def shared_sum(group: Group, numbers: Sequence[float]) -> list[float]:
    """Sums of a few numbers over the ranks, in float64."""
    return [float(x) for x in group.sum_(torch.tensor(list(numbers), dtype=torch.float64))]
