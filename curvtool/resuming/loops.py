"""Loops that are going on, as recorders keep and write them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

import torch

from curvtool.operators.recording import Saved, State
from curvtool.storage.journal import Array, Record


@final
class Loop:
    """A loop that is going on: its name, and how to come by its sums at the last step.

    Attributes:
        key: gives the name, which takes time and is asked for only where it is needed.
        done: steps.
        state: gives the sums; None before the first step.
    """

    def __init__(self, key: Callable[[], str]) -> None:
        self.key = key
        self.done = 0
        self.state: Callable[[], State] | None = None

    def stepped(self, done: int, state: Callable[[], State]) -> None:
        """A step was made.

        Args:
            done: steps so far.
            state: gives the sums.
        """
        self.done, self.state = done, state

    def stands(self, saved: Saved) -> None:
        """Until its next step it stands where it stood when it was saved."""
        self.stepped(saved.done, lambda: saved.state)


def record_of(loops: Sequence[Loop], kind: str, **more: Any) -> Record:
    """What a slot holds of loops, the outermost first.

    Args:
        loops: that are going on.
        kind: of the record.
        more: JSON values beside them.

    Returns:
        The record.
    """
    arrays: dict[str, Array] = {}
    described = []
    for depth, loop in enumerate(loops):
        state = loop.state() if loop.state is not None else {}
        described.append({"key": loop.key(), "done": loop.done if state else 0})
        for name, tensor in state.items():
            arrays[f"{depth}/{name}"] = tensor.detach().cpu().numpy()
    return Record(kind, arrays=arrays, more={**more, "loops": described})


def saved_of(slot: Record, depth: int) -> Saved | None:
    """Where the loop of a depth stood.

    Args:
        slot: from `record_of`.
        depth: of a loop in it.

    Returns:
        Steps and sums; None where it had made no step.
    """
    done = int(slot.more["loops"][depth]["done"])
    if not done:
        return None
    prefix = f"{depth}/"
    state = {
        name.removeprefix(prefix): torch.from_numpy(array.copy())
        for name, array in slot.arrays.items()
        if name.startswith(prefix)
    }
    return Saved(done, state)
