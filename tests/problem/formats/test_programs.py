"""TorchScript and torch.export: code, run under --trust alone, and then a model of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from curvtool.problem.checkpoint import read_checkpoint, tensors_sha256
from curvtool.problem.copying import copied
from curvtool.problem.loading import PROGRAM, LoadedProblem, ProblemRequest, load_problem
from tests.problem.formats.folders import WEIGHTS, net, same
from tests.problem.sentences import refusal

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.*. is deprecated")


def trained() -> nn.Sequential:
    module = net()
    module.load_state_dict(WEIGHTS)
    return module


def scripted(path: Path) -> Path:
    torch.jit.save(torch.jit.script(trained()), str(path))
    return path


def exported(path: Path) -> Path:
    batch = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(trained(), (torch.ones(2, 3),), dynamic_shapes=batch)
    path = path.with_suffix(".pt2")  # torch.export.save wants that
    torch.export.save(program, path)
    return path


PROGRAMS = pytest.mark.parametrize("write", [scripted, exported])


@pytest.fixture
def data(tmp_path: Path) -> str:
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(8, 3)).astype("f4"), draw.integers(0, 2, 8)
    np.savez(tmp_path / "d.npz", x=x, y=y)
    return "npz:d.npz"


def load(path: Path, data: str, **more: Any) -> LoadedProblem:
    asked = {"loss": "cross_entropy", "data_kwargs": {"inputs": "x", "targets": "y"}} | more
    return load_problem(
        ProblemRequest(checkpoint=path, data=data, working_directory=path.parent, **asked)
    )


@PROGRAMS
def test_without_trust_nothing_of_it_is_loaded(
    write: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "p")

    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("the program was loaded")

    monkeypatch.setattr("torch.jit.load", loaded)
    monkeypatch.setattr("torch.export.load", loaded)
    refusal(lambda: read_checkpoint(path), came="which is code", remedy="--trust")


@PROGRAMS
def test_with_trust_it_is_model_and_weights(
    write: Callable[[Path], Path], tmp_path: Path, data: str
) -> None:
    path = write(tmp_path / "p")
    problem = load(path, data, trust=True)
    assert problem.spec.model.build == PROGRAM
    assert "its code ran under --trust" in problem.notes[0]
    assert problem.hashes["tensors_sha256"] == tensors_sha256(WEIGHTS)
    x = torch.randn(5, 3)
    assert torch.equal(problem.module(x), trained()(x))
    # What the preflight does with it.
    twin = copied(problem.module).to(torch.float64)
    assert twin(x.double()).dtype == torch.float64
    assert all(p.is_leaf and p.requires_grad for p in twin.parameters())
    assert problem.module.eval() is problem.module.train(False)


@PROGRAMS
def test_a_model_that_is_named_takes_its_weights_alone(
    write: Callable[[Path], Path], tmp_path: Path, data: str
) -> None:
    (tmp_path / "m.py").write_text(
        "from torch import nn\n"
        "def build(): return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))\n"
    )
    problem = load(write(tmp_path / "p"), data, trust=True, model="m.py:build")
    assert same(problem.module.state_dict())
    assert isinstance(problem.module[1], nn.ReLU)  # type: ignore[index]


@PROGRAMS
def test_a_damaged_one_is_a_sentence(write: Callable[[Path], Path], tmp_path: Path) -> None:
    path = write(tmp_path / "p")
    content = path.read_bytes()
    for name in (b"code/__torch__", b"models/model.json"):
        content = content.replace(name, b"x" * len(name))
    path.write_bytes(content)
    refusal(lambda: read_checkpoint(path, trust=True), came="did not", remedy="Copy the file again")


def test_other_checkpoints_are_no_programs(tmp_path: Path, data: str) -> None:
    torch.save(WEIGHTS, tmp_path / "w.pt")
    refusal(
        lambda: load(tmp_path / "w.pt", data, trust=True, model=PROGRAM),
        came="'program'",
        remedy="file.py:build",
    )
