"""What a checkpoint holds, whatever its format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Candidate:
    """One dict of named tensors inside a checkpoint.

    Attributes:
        key: the dotted path that `--key` takes; empty for the top level.
        tensors: the weights by name, as in the file.
        is_average: whether its name says that it is a running average of the weights (EMA).
        notes: what was left aside in it.
    """

    key: str
    tensors: Mapping[str, Tensor]
    is_average: bool = False
    notes: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """The place inside the file, for people."""
        return f'"{self.key}"' if self.key else "the top level"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a checkpoint file or folder holds.

    Attributes:
        path: the file, or the folder.
        candidates: every dict of tensors that may be the weights, at least one; they may be
            mapped from the file rather than read, so copy what is to outlive it.
        files: the files that were read, in order.
        problem: the problem spec inside the file, unchecked, or None.
        notes: what was left aside.
        program: builds the module where the checkpoint is a program, its own model.
        settings: plain values beside the weights by their dotted place, for people to read.
    """

    path: Path
    candidates: tuple[Candidate, ...]
    files: tuple[Path, ...] = ()
    problem: object = None
    notes: tuple[str, ...] = ()
    program: Callable[[], nn.Module] | None = None
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The tensors of the first candidate."""
        return self.candidates[0].tensors

    @property
    def where(self) -> str:
        """The place of the first candidate, for people."""
        return self.candidates[0].where


@dataclass(frozen=True, eq=False)
class Content:
    """What a format's reader gives.

    Attributes:
        payload: mappings of names to tensors, mappings and plain values; nothing in it has run.
        files: the files that were read, in order.
        notes: what was left aside.
        program: see `Checkpoint`.
    """

    payload: object
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    program: Callable[[], nn.Module] | None = None
