"""PyTorch Lightning: the state dict as data; hyper-parameters are never made."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from curvtool.problem.checkpoint import read_checkpoint
from tests.problem.formats.folders import WEIGHTS, Hostile, same
from tests.problem.sentences import refusal


def saved(path: Path, **more: Any) -> Path:
    content = {
        "epoch": 3,
        "global_step": 100,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": WEIGHTS,
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}}],
        "lr_schedulers": [],
    }
    torch.save(content | more, path)
    return path


def test_plain_files_are_read_plainly(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(saved(tmp_path / "a.ckpt", hyper_parameters={"lr": 0.1}))
    assert checkpoint.where == '"state_dict"'
    assert same(checkpoint.tensors)
    assert checkpoint.notes == ()


@pytest.mark.parametrize(
    ("hyper", "name"),
    [
        (Namespace(lr=0.1), "argparse.Namespace"),
        ({"net": nn.Linear(2, 1)}, "torch.nn.modules.linear.Linear"),
        ({"path": Path("a")}, "pathlib"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*[Cc]ouldn't retrieve source")
def test_objects_among_the_hyper_parameters_are_left_aside(
    hyper: Any, name: str, tmp_path: Path
) -> None:
    checkpoint = read_checkpoint(saved(tmp_path / "a.ckpt", hyper_parameters=hyper))
    assert [c.key for c in checkpoint.candidates] == ["state_dict"]
    assert same(checkpoint.tensors)
    assert name in checkpoint.notes[0]
    assert "nothing of them was run" in checkpoint.notes[0]


def test_what_would_execute_is_not_executed(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    hostile = Hostile(ran)
    path = saved(tmp_path / "a.ckpt", hyper_parameters={"_instantiator": hostile}, extra=hostile)
    checkpoint = read_checkpoint(path)
    assert same(checkpoint.tensors)
    assert "posix.system" in checkpoint.notes[0]
    torch.save({"state_dict": {**WEIGHTS, "x": hostile}, "pytorch-lightning_version": "2"}, path)
    assert same(read_checkpoint(path).tensors)
    torch.save({"state_dict": hostile, "pytorch-lightning_version": "2"}, path)
    refusal(lambda: read_checkpoint(path), came="no tensors at all", remedy="state_dict()")
    assert not ran.exists()


def test_views_shares_and_kinds_come_out_as_they_were(tmp_path: Path) -> None:
    whole = torch.arange(24.0).reshape(4, 6)
    tensors = {
        "view": whole[1:, ::2],
        "transposed": whole.t(),
        "tied": whole,
        "parameter": nn.Parameter(torch.ones(2, dtype=torch.bfloat16)),
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(5),
        "mask": torch.tensor([True, False]),
        "half": torch.ones(3, dtype=torch.float16),
        "wide": torch.ones(3, dtype=torch.float64),
    }
    path = saved(tmp_path / "a.ckpt", state_dict=tensors, hyper_parameters=Namespace())
    read = read_checkpoint(path).tensors
    assert same(read, tensors)
    assert read["view"].untyped_storage().data_ptr() == read["tied"].untyped_storage().data_ptr()


def test_a_damaged_one_is_a_sentence(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.ckpt", hyper_parameters=Namespace(lr=1))
    whole = path.read_bytes()
    at = whole.index(b"argparse")
    path.write_bytes(whole[:at] + b"\xff" * 40 + whole[at + 40 :])
    refusal(lambda: read_checkpoint(path), came="", remedy="Copy the file again")


@pytest.mark.parametrize("size", [(2**40,), (3, 5), (-1,)])
def test_tensors_beyond_their_storage_are_refused(
    size: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Claims:
        def __reduce__(self) -> tuple[Any, ...]:
            tensor: Any = torch.ones(4)
            storage = tensor.storage()
            stride = (1,) * len(size)
            return torch._utils._rebuild_tensor_v2, (storage, 0, size, stride, False, {})

    monkeypatch.setattr("warnings.warn", lambda *_, **__: None)  # of TypedStorage
    path = saved(tmp_path / "a.ckpt", state_dict={"w": Claims()}, hyper_parameters=Namespace())
    refusal(lambda: read_checkpoint(path), came="", remedy="Copy the file again")
