"""Which checkpoints a sweep has, in which order, and what their run files are called."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, final

from curvtool.errors import InputError, UsageError
from curvtool.storage.ordering import by_numbers

if TYPE_CHECKING:
    from curvtool.cli.common import Long
    from curvtool.config import SpectrumConfig

SUMMARY = "summary.h5"


@final
@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What `curvtool track` is asked to do.

    Attributes:
        config: of the first run; the others have another checkpoint.
        common: the shared options, likewise.
        checkpoints: in their order.
        folder: of the run files and the summary.
        force: whether files of other runs are replaced.
        cold: whether every solve starts from a random vector.
    """

    config: SpectrumConfig
    common: Long
    checkpoints: Sequence[Path]
    folder: Path
    force: bool
    cold: bool

    @property
    def names(self) -> list[str]:
        """Of the checkpoints, each its own."""
        return distinct_names(self.checkpoints)

    @property
    def summary(self) -> Path:
        """Path of the summary."""
        return self.folder / SUMMARY

    def file(self, name: str) -> Path:
        """Path of the run file of a checkpoint."""
        return self.folder / f"{name}.spectrum.h5"

    def config_of(self, checkpoint: Path) -> SpectrumConfig:
        """The config of one run."""
        return replace(self.config, problem=replace(self.config.problem, checkpoint=checkpoint))

    def common_of(self, checkpoint: Path) -> Long:
        """The shared options of one run; its state is continued, `--force` or not."""
        return replace(self.common, checkpoint=checkpoint, resume=True)


def ordered(checkpoints: Sequence[Path], *, as_typed: bool) -> list[Path]:
    """Bring checkpoints into the order of the training, each once.

    Args:
        checkpoints: as typed; a shell sorts `step_1000` before `step_200`.
        as_typed: whether to keep that order.

    Returns:
        By the numbers in their paths, otherwise by letters.
    """
    once = list(dict.fromkeys(checkpoints))
    return once if as_typed else sorted(once, key=by_numbers)


def distinct_names(checkpoints: Sequence[Path]) -> list[str]:
    """Name checkpoints so that no two are called the same.

    Args:
        checkpoints: different paths.

    Returns:
        The stems where they differ, else the names, else as many folders before them as it takes.

    Raises:
        UsageError: where two paths lead to the same place.
    """
    whole = [Path(os.path.abspath(path)) for path in checkpoints]
    depth = max((len(path.parts) for path in whole), default=1)
    tried = [[path.stem for path in whole]]
    tried += [["-".join(path.parts[-n:]) for path in whole] for n in range(1, depth + 1)]
    for names in tried:
        # Some file systems know no capitals.
        if len({name.lower() for name in names}) == len(names):
            return [name.replace("/", "") for name in names]
    raise UsageError("Two of the checkpoints are the same file; name each once.")


def made_folder(folder: Path) -> None:
    """Make the folder of a sweep where it is not there.

    Args:
        folder: path of it.

    Raises:
        InputError: for a file of that name, or where none can be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The output {folder} was expected to be a folder, there or to be made; the system "
            f"says {error.strerror!r}. Name another one with --out."
        ) from error
