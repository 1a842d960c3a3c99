"""Transforms: each against torch or torchvision on the whole, whatever the batch size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as V

from curvtool.problem.stored import StoredBatch
from tests.problem.data.making import read, spec, tensors, write_npz
from tests.problem.sentences import refusal

RAW = np.random.default_rng(1).integers(0, 256, (7, 3, 10, 12)).astype("u1")
LABELS = np.arange(7) % 4
T = torch.from_numpy(RAW)
FLOAT = T.float() / 255


def of(folder: Path, *transforms: object, size: int = 3, memory: int | None = None) -> list[Tensor]:
    source = write_npz(folder, x=RAW, y=LABELS)
    made = read(spec(folder, source, transforms=transforms), size=size, memory=memory)
    assert all(isinstance(b, StoredBatch) == (memory is not None) for b in made.batches)
    return tensors(made)


UNIT = {"name": "divide", "by": 255}


@pytest.mark.parametrize(
    ("transforms", "expected"),
    [
        ([UNIT], FLOAT),
        ([{"name": "multiply", "by": 2}], T.long() * 2),
        ([{"name": "add", "by": -1}], T.long() - 1),
        (
            [UNIT, {"name": "normalize", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}],
            V.normalize(FLOAT, [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]),
        ),
        ([UNIT, {"name": "normalize", "mean": 0.5, "std": 0.25}], (FLOAT - 0.5) / 0.25),
        ([{"name": "reshape", "shape": [30, -1]}], T.long().reshape(7, 30, 12)),
        (["flatten"], T.long().flatten(1)),
        ([{"name": "permute", "order": [1, 2, 0]}], T.long().permute(0, 2, 3, 1)),
        ([UNIT, {"name": "resize", "size": [5, 6], "method": "area"}], F.avg_pool2d(FLOAT, 2)),
        ([UNIT, {"name": "resize", "size": 5}], V.resize(FLOAT, [5], antialias=True)),
        ([{"name": "center_crop", "size": 4}], T.long()[:, :, 3:7, 4:8]),
        ([UNIT, "grayscale"], V.rgb_to_grayscale(FLOAT)),
        ([UNIT, "grayscale", "rgb"], V.rgb_to_grayscale(FLOAT).expand(-1, 3, -1, -1)),
        ([{"name": "dtype", "to": "float64"}], T.double()),
    ],
)
def test_transforms_do_what_torch_does(
    transforms: list[object], expected: Tensor, tmp_path: Path
) -> None:
    for size in (1, 3, 7):
        x, y = of(tmp_path, *transforms, size=size)
        assert x.dtype == expected.dtype
        # Sums of the same terms in another order, by 4 roundings of float32 of numbers below 4.
        assert (x - expected).abs().max() <= 2e-6 * (x.dtype != torch.int64)
        assert torch.equal(y, torch.from_numpy(LABELS))


def test_a_transform_of_targets_leaves_inputs(tmp_path: Path) -> None:
    x, y = of(tmp_path, {"name": "one_hot", "classes": 4})
    assert torch.equal(x, T.long())
    assert torch.equal(y, F.one_hot(torch.from_numpy(LABELS), 4).float())
    _, y = of(tmp_path, {"name": "add", "by": 1, "of": "targets"}, {"name": "multiply", "by": 1})
    assert y.tolist() == (LABELS + 1).tolist()


def test_transforms_are_made_anew_of_data_that_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = of(tmp_path, UNIT)
    monkeypatch.setattr("curvtool.problem.data.allowance._KEPT", 100)
    for one, other in zip(of(tmp_path, UNIT, memory=200_000), kept, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("transform", "came", "remedy"),
    [
        ("normalise", "'normalise'", 'Did you mean "normalize"?'),
        ({"name": "scale", "by": 255}, "'scale'", "Write divide or multiply"),
        ({"by": 255}, "got dict of 1", "transforms = ["),
        (3, "got int", "transforms = ["),
        ({"name": "divide"}, '"by" is missing', "Correct transforms"),
        ({"name": "divide", "by": 0}, "no zero", "Correct transforms"),
        ({"name": "divide", "by": "a"}, "got 'a'", "Correct transforms"),
        ({"name": "divide", "bye": 1}, 'no argument "bye"', 'Did you mean "by"?'),
        ({"name": "normalize", "mean": 0, "std": 0}, "std to be positive", "Correct"),
        ({"name": "normalize", "mean": [0, 1], "std": 1}, "each of 3 channels", "Correct"),
        ({"name": "reshape", "shape": [7]}, "(3, 10, 12)", "Correct transforms"),
        ({"name": "resize", "size": 3, "method": "best"}, "'best'", "Correct transforms"),
        ({"name": "permute", "order": [0, 0, 1]}, "each axis once", "Correct transforms"),
        ({"name": "one_hot", "classes": 2}, "0 to 2", "Correct transforms"),
        ({"name": "dtype", "to": "complex64"}, "'complex64'", "Correct transforms"),
        ({"name": "add", "by": 1, "of": "z"}, "'z'", "Add of ="),
    ],
)
def test_transforms_that_cannot_be(
    transform: object, came: str, remedy: str, tmp_path: Path
) -> None:
    refusal(lambda: of(tmp_path, transform), came=came, remedy=remedy)


def test_pictures_of_other_shapes_are_named(tmp_path: Path) -> None:
    source = write_npz(tmp_path, x=np.zeros((3, 4)), y=np.zeros(3))
    data: Any = spec(tmp_path, source, transforms=({"name": "resize", "size": 3},))
    refusal(lambda: read(data), came="of shape (4,)", remedy="reshape or permute")
