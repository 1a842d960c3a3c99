"""Every format from the command line: the same eigenvalues, or a sentence and exit code 4."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from curvtool.errors import ExitCode
from curvtool.problem.models import mlp
from tests.cli.calls import call, refusal
from tests.problem.formats.folders import Hostile, write_distributed, write_index

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.*. is deprecated")
MODEL = ("--model", "mlp", "--model-kwargs", "sizes=[3,4,2]")


def net() -> nn.Module:
    torch.manual_seed(0)
    return mlp(sizes=[3, 4, 2])


@pytest.fixture
def problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Data and loss; the working directory is the test's own."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    np.savez("d.npz", x=draw.normal(size=(20, 3)).astype("f4"), y=draw.integers(0, 2, 20))
    data = ["--data", "npz:d.npz", "--data-kwargs", "inputs=x", "--data-kwargs", "targets=y"]
    return [*data, "--loss", "cross_entropy", "-q", "-k", "2"]


def tensors() -> dict[str, Tensor]:
    return {key: value.clone() for key, value in net().state_dict().items()}


def sharded() -> str:
    Path("net").mkdir()
    first, *rest = tensors().items()
    save_file(dict([first]), "net/a.safetensors")
    save_file(dict(rest), "net/b.safetensors")
    places = {key: "b.safetensors" for key, _ in rest} | {first[0]: "a.safetensors"}
    write_index(Path("net/model.safetensors.index.json"), places)
    return "net"


def saved(content: Any, **options: Any) -> str:
    torch.save(content, "net.pt", **options)
    return "net.pt"


def safe() -> str:
    save_file(tensors(), "net.safetensors")
    return "net.safetensors"


def lightning() -> str:
    content = {"state_dict": tensors(), "pytorch-lightning_version": "2.5"}
    return saved(content | {"hyper_parameters": Namespace(lr=0.1)})


def scripted() -> str:
    torch.jit.save(torch.jit.script(net()), "net.pt")
    return "net.pt"


def exported() -> str:
    batch = ({0: torch.export.Dim("batch")},)
    torch.export.save(
        torch.export.export(net(), (torch.ones(2, 3),), dynamic_shapes=batch), "n.pt2"
    )
    return "n.pt2"


def result(*arguments: str) -> dict[str, Any]:
    ended = call("spectrum", *arguments, "--json", "--force")
    assert ended.code == ExitCode.DONE, ended.err
    found: dict[str, Any] = json.loads(ended.out)
    return found


@pytest.mark.parametrize(
    ("write", "more"),
    [
        (lambda: saved(tensors(), _use_new_zipfile_serialization=False), MODEL),
        (lambda: saved({"net": {"ema": {}, "weights": tensors()}, "x": torch.ones(1)}), MODEL),
        (lambda: saved({"a": {"b": tensors()}}), (*MODEL, "--key", "a.b")),
        (
            lambda: saved({"model": {k: v + 1 for k, v in tensors().items()}, "ema": tensors()}),
            (*MODEL, "--weights", "ema"),
        ),
        (lambda: saved(tensors() | {"head": torch.ones(2)}), (*MODEL, "--partial")),
        (safe, MODEL),
        (sharded, MODEL),
        (lambda: str(write_distributed(Path("dcp"), {"model": tensors()})), MODEL),
        (lightning, MODEL),
        (scripted, ("--trust",)),
        (exported, ("--trust",)),
    ],
    ids=[
        *("legacy", "nested", "key", "ema", "partial", "safe", "sharded", "dcp"),
        *("lightning", "script", "export"),
    ],
)
def test_every_format_gives_the_same_eigenvalues(
    write: Callable[[], str], more: tuple[str, ...], problem: list[str]
) -> None:
    torch.save(tensors(), "plain.pt")
    plain = result("plain.pt", *MODEL, *problem)
    other = result(write(), *more, *problem)
    assert other["problem"]["num_parameters"] == plain["problem"]["num_parameters"]
    for key in ("tensors_sha256", "data_sha256"):
        assert other["environment"][key] == plain["environment"][key]
    found, wanted = other["eigenvalues"], plain["eigenvalues"]
    # A program runs its own kernels: both are right to their printed errors, which are some
    # hundred roundings of float32.
    assert found == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def test_the_folder_itself_may_be_the_working_directory(
    problem: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(sharded()).resolve()
    Path("d.npz").rename(folder / "d.npz")
    monkeypatch.chdir(folder)
    assert call("spectrum", ".", *MODEL, *problem).code == ExitCode.DONE
    assert (folder / "net.spectrum.h5").is_file()


def test_a_problem_file_may_lie_in_the_folder(problem: list[str]) -> None:
    folder = Path(sharded())
    (folder / "curvtool.toml").write_text('[model]\nbuild="mlp"\nkwargs={sizes=[3, 4, 2]}\n')
    assert call("check", str(folder), *problem).code == ExitCode.DONE


@pytest.mark.parametrize(
    ("write", "more", "came"),
    [
        (scripted, MODEL, "--trust"),
        (exported, MODEL, "--trust"),
        (lambda: saved(net()), MODEL, "curvtool.problem.models.mlp"),
        (lambda: saved(tensors() | {"head": torch.ones(2)}), MODEL, "--partial"),
        (
            lambda: saved({"a": tensors(), "b": {k: -v for k, v in tensors().items()}}),
            MODEL,
            "--key",
        ),
        (lambda: saved(tensors()), (*MODEL, "--weights", "ema"), "has none"),
        (lambda: saved(tensors()), (*MODEL, "--key", "generator"), "'generator'"),
        (lambda: saved({"model": tensors(), "x": Hostile(Path("ran"))}), MODEL, "posix.system"),
        (lambda: saved(tensors()), ("--model", "hf"), "config.json"),
    ],
)
def test_what_cannot_be_used_ends_with_4(
    write: Callable[[], str], more: tuple[str, ...], came: str, problem: list[str]
) -> None:
    assert came in refusal("spectrum", write(), *more, *problem[:-3])
    assert not Path("ran").exists()


def test_key_and_average_contradict_each_other(problem: list[str]) -> None:
    sentence = refusal(
        *("spectrum", saved(tensors()), *MODEL, *problem[:-3], "--key", "a", "--weights", "ema"),
        code=ExitCode.USAGE,
    )
    assert "--weights ema" in sentence
