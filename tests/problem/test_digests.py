"""What identifies a checkpoint: bytes of its files, and its tensors whatever the format."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from curvtool.problem.checkpoint import (
    file_sha256,
    files_sha256,
    load_weights,
    read_checkpoint,
    tensors_sha256,
)
from tests.problem.formats.folders import WEIGHTS, net, write_distributed, write_sharded


def test_equal_weights_have_one_digest_in_every_format(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "zip.pt")
    torch.save(WEIGHTS, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    torch.save({"model": {f"module.{k}": v for k, v in WEIGHTS.items()}}, tmp_path / "wrapped.pt")
    save_file(WEIGHTS, tmp_path / "w.safetensors")
    places = [*tmp_path.iterdir()]
    places += [write_sharded(tmp_path / "sharded"), write_sharded(tmp_path / "bin", safe=False)]
    places.append(write_distributed(tmp_path / "dcp", {"model": WEIGHTS}))
    found = {tensors_sha256(load_weights(net(), read_checkpoint(p), "mlp").tensors) for p in places}
    assert found == {tensors_sha256(WEIGHTS)}
    files = {files_sha256(read_checkpoint(p).files) for p in places}
    assert len(files) == len(places) == 7


def test_the_digest_is_of_names_kinds_shapes_and_row_major_bytes() -> None:
    tensor = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    text = b"a\0float32\0(2, 2)\n" + tensor.numpy().tobytes()
    assert tensors_sha256({"a": tensor}) == hashlib.sha256(text).hexdigest()
    transposed = tensor.t().contiguous().t()
    assert tensors_sha256({"a": transposed}) == tensors_sha256({"a": tensor})
    reordered = {"b": tensor, "a": tensor * 2}
    assert tensors_sha256(reordered) == tensors_sha256(dict(sorted(reordered.items())))


@pytest.mark.parametrize(
    "other",
    [
        {"b": torch.ones(4)},
        {"a": torch.ones(2, 2)},
        {"a": torch.ones(4, dtype=torch.float64)},
        {"a": torch.ones(4, dtype=torch.int32)},
        {"a": torch.tensor([1.0, 1.0, 1.0, 1.0000001])},
        {},
        {"a": torch.ones(4), "empty": torch.empty(0)},
    ],
)
def test_whatever_differs_has_another(other: dict[str, Tensor]) -> None:
    assert tensors_sha256(other) != tensors_sha256({"a": torch.ones(4)})


def test_several_files_have_the_digest_of_their_digests(tmp_path: Path) -> None:
    one, two = tmp_path / "1", tmp_path / "2"
    one.write_bytes(b"abc")
    two.write_bytes(b"")
    assert file_sha256(one).startswith("ba7816bf8f01cfea414140de5dae2223b00361a3")
    assert files_sha256([one]) == file_sha256(one)
    joined = file_sha256(one) + file_sha256(two)
    assert files_sha256([one, two]) == hashlib.sha256(joined.encode()).hexdigest()
