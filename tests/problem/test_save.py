"""A saved checkpoint holds what was given, loads without code, and is whole or not there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from curvtool.problem.checkpoint.read import SCHEMA
from curvtool.problem.models import BUILTIN_MODELS
from curvtool.problem.save import save_checkpoint

PROBLEM: dict[str, Any] = {
    "model": {"build": "mlp", "kwargs": {"sizes": (4, 3, 2), "bias": True}},
    "data": {"source": "npz:d.npz", "inputs": "x", "targets": "y", "batch_size": 64},
    "loss": {"name": "cross_entropy", "kwargs": {"label_smoothing": 0.1, "weight": None}},
}


def load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return BUILTIN_MODELS["mlp"](sizes=[4, 3, 2])


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert list(one) == list(other)
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=0)


def test_round_trip_builds_the_same_model(tmp_path: Path) -> None:
    model, path = mlp(), tmp_path / "mlp.pt"
    save_checkpoint(path, model, problem=PROBLEM)
    content = load(path)
    assert list(content) == ["model", "curvtool"]
    assert content["curvtool"]["schema"] == SCHEMA == "curvtool-checkpoint/1"
    problem = content["curvtool"]["problem"]
    assert problem["model"]["kwargs"]["sizes"] == [4, 3, 2]
    assert problem["data"] == PROBLEM["data"]
    assert problem["loss"] == PROBLEM["loss"]
    again = BUILTIN_MODELS[problem["model"]["build"]](**problem["model"]["kwargs"])
    again.load_state_dict(content["model"])
    x = torch.ones(1, 4)
    assert torch.equal(again(x), model(x))
    assert os.listdir(tmp_path) == ["mlp.pt"]


def test_buffers_and_shared_parameters_survive(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    cnn = BUILTIN_MODELS["cnn"](in_channels=1, channels=[2], classes=2)
    save_checkpoint(path, cnn, problem={})
    assert_same(load(path)["model"], cnn.state_dict())
    gpt = BUILTIN_MODELS["gpt"](vocab_size=5, context=4, width=4, layers=1, heads=2, tied=True)
    save_checkpoint(path, gpt, problem={})
    state = load(path)["model"]
    assert_same(state, gpt.state_dict())
    assert state["head.weight"].data_ptr() == state["token_embedding.weight"].data_ptr()


def test_a_state_dict_is_kept_as_it_is(tmp_path: Path) -> None:
    state = {"module.weight": torch.arange(3.0), "other": torch.ones(1, requires_grad=True)}
    save_checkpoint(tmp_path / "s.pt", state, problem={})
    content = load(tmp_path / "s.pt")
    assert_same(content["model"], state)
    assert content["curvtool"]["problem"] == {}


class OptimizedModule(nn.Module):
    """Stands in for torch's wrapper of this name, whose import needs a compiler."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self._orig_mod = inner


def test_wrappers_are_taken_off_in_any_order(tmp_path: Path) -> None:
    inner = mlp()
    wrapped = [nn.DataParallel(inner), OptimizedModule(nn.DataParallel(inner))]
    for model in [*wrapped, nn.DataParallel(OptimizedModule(inner))]:
        save_checkpoint(tmp_path / "w.pt", model, problem={})
        assert_same(load(tmp_path / "w.pt")["model"], inner.state_dict())


def test_other_modules_named_module_are_not(tmp_path: Path) -> None:
    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 2)

    save_checkpoint(tmp_path / "h.pt", Holder(), problem={})
    assert list(load(tmp_path / "h.pt")["model"]) == ["module.weight", "module.bias"]


@pytest.mark.parametrize(
    ("problem", "sentence"),
    [
        ({"optimizer": {}}, "among model, data, loss; got 'optimizer'"),
        ({"model": "mlp"}, "problem.model to be a dict; got 'mlp'"),
        ({"model": {"kwargs": {"f": torch.relu}}}, r"problem\.model\.kwargs\.f holds a builtins\."),
        ({"data": {"a": [1, Path("x")]}}, r"problem\.data\.a\[1\] holds a pathlib"),
        ({"loss": {"a": np.float64(1)}}, r"problem\.loss\.a holds a numpy\.float64"),
        ({"loss": {"a": float("nan")}}, r"problem\.loss\.a is nan"),
        ({"loss": {"a": {1: 2}}}, r"the keys of problem\.loss\.a to be strings; got 1"),
    ],
)
def test_what_json_does_not_have_is_named(
    tmp_path: Path, problem: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        save_checkpoint(tmp_path / "p.pt", mlp(), problem=problem)
    assert not list(tmp_path.iterdir())


def test_an_extra_state_is_refused(tmp_path: Path) -> None:
    class Counting(nn.Module):
        def get_extra_state(self) -> object:
            return {"calls": 1}

    with pytest.raises(ValueError, match=r"'_extra_state' holds a builtins\.dict"):
        save_checkpoint(tmp_path / "e.pt", Counting(), problem={})


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "old.pt"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        save_checkpoint(path, mlp(), problem={})
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["old.pt"]
