"""The whole way from a request to a problem, and the order of refusals."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curvtool.problem.checkpoint import tensors_sha256
from curvtool.problem.loading import LoadedProblem, ProblemRequest, load_problem
from curvtool.problem.models import BUILTIN_MODELS
from curvtool.problem.save import save_checkpoint
from tests.problem.sentences import refusal

PROBLEM: dict[str, Any] = {
    "model": {"build": "mlp", "kwargs": {"sizes": [4, 3]}},
    "data": {"source": "npz:d.npz", "batch_size": 8},
    "loss": {"name": "cross_entropy"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(20, 4)).astype("f4"), generator.integers(0, 3, 20)
    np.savez(tmp_path / "d.npz", x=x, y=y)
    save_checkpoint(tmp_path / "c.pt", BUILTIN_MODELS["mlp"](sizes=[4, 3]), problem=PROBLEM)
    return tmp_path


def load(folder: Path, **request: Any) -> LoadedProblem:
    asked = {"checkpoint": Path("c.pt"), "working_directory": folder} | request
    return load_problem(ProblemRequest(**asked))


def test_a_self_describing_checkpoint_needs_nothing_else(folder: Path) -> None:
    before = torch.get_rng_state()
    problem = load(folder)
    assert torch.equal(before, torch.get_rng_state())
    assert [batch.examples for batch in problem.batches] == [8, 8, 4]
    assert problem.examples == 20
    value = problem.loss(problem.module, problem.batches[0].fetched(), score=True)
    assert value.weight == value.score.counted == 8
    assert problem.notes == []
    assert problem.checkpoint == "c.pt"
    checkpoint_sha256 = hashlib.sha256((folder / "c.pt").read_bytes()).hexdigest()
    assert problem.hashes["checkpoint_sha256"] == checkpoint_sha256
    assert problem.hashes["tensors_sha256"] == tensors_sha256(problem.module.state_dict())
    # Of the numbers, not of the file: another division, and the file written anew, change nothing.
    with np.load(folder / "d.npz") as arrays:
        np.savez_compressed(folder / "e.npz", **arrays)
    other = load(folder, data="npz:e.npz", batch_size=3).hashes
    assert other == problem.hashes
    assert set(other) == {"checkpoint_sha256", "data_sha256", "tensors_sha256"}
    written = problem.spec.as_dict()
    assert {key: written[key] | {"from": 0} for key in written} == {
        key: PROBLEM[key] | {"from": 0} for key in PROBLEM
    }


def test_the_command_line_overrules(folder: Path) -> None:
    (folder / "hooks.py").write_text(
        "import torch\n"
        "def build(**kwargs): return torch.nn.Sequential(torch.nn.Flatten(), "
        "torch.nn.Linear(4, 3))\n"
        "def dataset(n): return {'a': torch.ones(n, 2, 2), 'b': torch.zeros(n, dtype=int)}\n"
    )
    torch.save({f"module.1.{k}": v for k, v in weights(folder).items()}, folder / "w.pt")
    problem = load(
        folder,
        checkpoint=Path("w.pt"),
        model="hooks.py:build",
        data="hooks.py:dataset",
        data_kwargs={"n": 9, "inputs": "a", "targets": "b"},
        loss="cross_entropy",
        loss_kwargs={"label_smoothing": 0.1},
        batch_size=2,
        max_examples=5,
        seed=3,
    )
    assert [batch.examples for batch in problem.batches] == [2, 2, 1]
    assert problem.loss(problem.module, problem.batches[0].fetched(), score=True).weight == 2
    assert ["module." in problem.notes[0], "5 of 9" in problem.notes[1]] == [True, True]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    saved = torch.load(folder / "c.pt", weights_only=True)["model"]
    return {key.rpartition(".")[2]: value for key, value in saved.items()}


def test_the_module_outlives_the_file(folder: Path) -> None:
    problem = load(folder)
    before = [p.clone() for p in problem.module.parameters()]
    path = folder / "c.pt"
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert all(torch.equal(a, b) for a, b in zip(before, problem.module.parameters(), strict=True))


def test_cheap_refusals_come_before_weights_and_data_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unread(*args: object, **kwargs: object) -> None:
        raise AssertionError("read too early")

    for name in ("load_weights", "make_batches", "files_sha256", "build_model"):
        monkeypatch.setattr(f"curvtool.problem.loading.{name}", unread)
    refusal(lambda: load(folder, loss="msee"), came="'msee'", remedy='"mse"?')
    refusal(lambda: load(folder, model="m.py:f"), came="there is none", remedy="Correct the path")
    refusal(lambda: load(folder, data="npz:e.npz"), came="no such file", remedy='"d.npz"?')
    monkeypatch.setattr("curvtool.problem.loading.read_checkpoint", unread)
    refusal(lambda: load(folder, problem=Path("no.toml")), came="there is no", remedy="Check")


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"max_examples": 0}, {"seed": -1}])
def test_counts_that_cannot_be_are_the_callers_mistake(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least"):
        ProblemRequest(checkpoint=Path("c.pt"), **wrong)  # type: ignore[arg-type]
