"""`imagefolder:DIR`: pictures in a folder for each class, as torchvision's ImageFolder has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, final

from torch import Tensor

from curvtool.problem.data.allowance import Allowance
from curvtool.problem.data.examples import Rows, Source
from curvtool.problem.data.files import folder_of, read_kwargs, unreadable
from curvtool.problem.data.pictures import MODE, MODES, SUFFIXES, decoded
from curvtool.problem.spec import DataSpec
from curvtool.problem.wording import listed


def open_imagefolder(spec: DataSpec, argument: str, allowance: Allowance) -> Callable[[], Source]:
    """Check that the folder is there.

    Args:
        spec: the data. Argument: `mode`, "RGB" or "L".
        argument: the folder.
        allowance: memory that a picture may take.

    Returns:
        What lists it; pictures are read as they are used.
    """
    mode = read_kwargs(spec, MODE).get("mode", MODES[0])
    folder = folder_of(spec, argument, "a folder with one folder of pictures a class")
    return lambda: _read(spec, folder, mode, allowance)


def _read(spec: DataSpec, folder: Path, mode: str, allowance: Allowance) -> Source:
    from torchvision.datasets.folder import find_classes, make_dataset

    try:
        classes, numbers = find_classes(str(folder))
        samples = make_dataset(str(folder), numbers, extensions=tuple(f".{s}" for s in SUFFIXES))
    except OSError as error:  # also FileNotFoundError, for a folder without classes
        raise unreadable(
            folder,
            "a folder of pictures for each class, as torchvision.datasets.ImageFolder has them",
            error,
            f"Pictures end in {', '.join(SUFFIXES)}.",
        ) from error
    note = f"classes by folder, in order: {listed(classes)}"
    return Source(spec.source, Rows(_Pictures(samples, mode, allowance), alone=True), notes=[note])


@final
class _Pictures:
    """Pictures and labels by index."""

    def __init__(self, samples: list[tuple[str, int]], mode: str, allowance: Allowance) -> None:
        self._samples, self._mode = samples, mode
        self._allowance = allowance

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        name, label = self._samples[index]
        path = Path(name)
        try:
            self._allowance.require(path, path.stat().st_size, "pictures", "Leave it out.")
            content = path.read_bytes()
        except OSError as error:
            raise unreadable(path, "a picture", error, "Check its permissions.") from error
        return decoded(content, path, self._mode), label
