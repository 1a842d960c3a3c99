"""What is asked for on the command line or in a file reaches the data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curvtool.problem.data import Allowance, resolve_data
from curvtool.problem.loading import LoadedProblem, ProblemRequest, load_problem
from curvtool.problem.models import BUILTIN_MODELS
from curvtool.problem.save import save_checkpoint
from tests.problem.data.making import W, X, Y, spec, write_csv, write_npz
from tests.problem.sentences import refusal

PROBLEM: dict[str, Any] = {
    "model": {"build": "mlp", "kwargs": {"sizes": [6, 4]}},
    "data": {"source": "npz:d.npz", "weights": "w"},
    "loss": {"name": "cross_entropy"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_npz(tmp_path, x=X, y=Y, w=W)
    write_csv(tmp_path, x=X, y=Y, w=W)
    save_checkpoint(tmp_path / "c.pt", BUILTIN_MODELS["mlp"](sizes=[6, 4]), problem=PROBLEM)
    return tmp_path


def load(folder: Path, **request: Any) -> LoadedProblem:
    return load_problem(
        ProblemRequest(checkpoint=Path("c.pt"), working_directory=folder, **request)
    )


def test_parts_may_be_numbers_and_the_format_changes_nothing(folder: Path) -> None:
    own = load(folder)
    kwargs = {"targets": 6, "weights": 7, "inputs": ["0:6"]}
    table = load(folder, data="csv:d.csv", data_kwargs=kwargs)
    assert table.hashes["data_sha256"] == own.hashes["data_sha256"]
    value = table.loss(table.module.double(), table.batches[0].fetched(), score=True)
    assert value.weight == W.sum()
    assert own.loss(own.module.double(), own.batches[0].fetched(), score=True) is not None
    assert table.spec.as_dict()["data"]["targets"] == "6"


def test_transforms_are_keys_of_data_also_on_the_command_line(folder: Path) -> None:
    halves = load(folder, data_kwargs={"transforms": [{"name": "multiply", "by": 0.5}]})
    x = halves.batches[0].fetched().tensors[0]
    assert torch.equal(x, torch.from_numpy(X) * 0.5)
    assert halves.spec.as_dict()["data"]["transforms"] == [{"name": "multiply", "by": 0.5}]
    (folder / "c.toml").write_text('[data]\ntransforms = ["flatten"]\n')
    assert load(folder, problem=Path("c.toml")).spec.data.transforms == ("flatten",)


def test_memory_decides_what_is_kept(folder: Path) -> None:
    # 23 examples of 8 numbers of 8 bytes: 1472, a quarter of 5888.
    assert not any("every pass" in note for note in load(folder, memory=5888).notes)
    assert any("every pass" in note for note in load(folder, memory=5880).notes)
    refusal(lambda: load(folder, memory=1000), came="they take 1.4 KiB", remedy="hdf5:")
    hdf5 = spec(folder, "npy:.", inputs=("x",), targets="y")
    np.save(folder / "x.npy", X)
    np.save(folder / "y.npy", Y)
    assert resolve_data(hdf5, Allowance(1))() is not None  # nothing is read yet


def test_nothing_is_fetched_unless_the_command_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, object]] = []

    class Fetched(torch.utils.data.TensorDataset):
        def __init__(self, root: str, download: bool = False) -> None:
            asked.append({"root": root, "download": download})
            super().__init__(torch.zeros(3, 1), torch.zeros(3))

    from torchvision import datasets

    monkeypatch.setattr(datasets, "MNIST", Fetched)
    data = spec(tmp_path, "torchvision:MNIST", kwargs={"root": "here", "download": True})
    refusal(lambda: resolve_data(data), came="download is set", remedy="--download")
    resolve_data(spec(tmp_path, "torchvision:MNIST", kwargs={"root": "here"}))()
    resolve_data(data, Allowance(download=True))()
    assert [call["download"] for call in asked] == [False, True]
    for source in ("torchvision:FakeData", "npz:d.npz"):
        wrong = spec(tmp_path, source)
        refusal(
            lambda wrong=wrong: resolve_data(wrong, Allowance(download=True)),  # type: ignore[misc]
            came=source,
            remedy="Leave it out",
        )


@pytest.mark.parametrize(
    ("source", "module", "extra"),
    [
        ("parquet:d", "pyarrow.parquet", "parquet"),
        ("arrow:d", "pyarrow", "parquet"),
        ("hf:.", "pyarrow", "parquet"),
        ("safetensors:d", "safetensors", "safetensors"),
    ],
)
def test_a_library_that_is_absent_is_named(
    source: str, module: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "d").write_bytes(b"something")
    monkeypatch.setitem(sys.modules, module, None)
    remedy = f"pip install 'curvtool[{extra}]'"
    refusal(lambda: resolve_data(spec(tmp_path, source)), came="not installed", remedy=remedy)


HOOK = """
import torch
M = torch.tensor([[1, 1, 0], [1, 0, 0]])
def dataset(): return {"x": torch.ones(2, 3), "m": M, "y": torch.zeros(2, 3).long()}
"""


@pytest.mark.parametrize(("inputs", "left"), [(["x"], ["x", "y"]), (["x", "m"], ["x", "m", "y"])])
def test_a_mask_may_be_an_input_too(inputs: list[str], left: list[str], folder: Path) -> None:
    (folder / "hook.py").write_text(HOOK)
    kwargs = {"inputs": inputs, "targets": "y", "weights": "m"}
    problem = load(folder, data="hook.py:dataset", data_kwargs=kwargs)
    batch = problem.batches[0].fetched()
    assert list(batch.values) == left
    assert batch.weights is not None
    assert batch.weights.tolist() == [[1, 1, 0], [1, 0, 0]]
    assert any("counts as much as m says" in note for note in problem.notes)
    wrong = {"inputs": inputs, "targets": "y", "weights": "mm"}
    refusal(
        lambda: load(folder, data="hook.py:dataset", data_kwargs=wrong),
        came="'mm'",
        remedy='Did you mean "m"?',
    )


def test_weights_of_batches_without_names(folder: Path) -> None:
    (folder / "bare.py").write_text(
        "import torch\ndef dataset(): return torch.ones(2, 3), torch.ones(2)"
    )
    refusal(
        lambda: load(folder, data="bare.py:dataset", data_kwargs={"weights": "w"}),
        came="got tuples",
        remedy="Give dicts",
    )


def test_whole_numbers_for_a_model_of_others_are_named(folder: Path) -> None:
    write_npz(folder, x=np.ones((23, 6), "u1"), y=Y)
    problem = load(folder, data="npz:d.npz")
    refusal(
        lambda: problem.loss(problem.module, problem.batches[0].fetched(), score=True),
        came="inputs are whole numbers",
        remedy='{ name = "dtype", to = "float32" }',
    )
