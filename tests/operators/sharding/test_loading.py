"""Models that are read piece by piece, against those that are read as a whole."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from curvtool.distributed.group import Alone, Group
from curvtool.errors import InputError
from curvtool.operators.sharding.loading import load_sharded
from curvtool.problem.checkpoint import read_checkpoint
from curvtool.problem.emptying import parameters_without_numbers
from curvtool.problem.models import mlp
from tests.objectives import CPU, seeded
from tests.operators.sharding.problems import PROBLEMS
from tests.operators.sharding.ranks import run_in_ranks

MODELS = ("cnn", "tied", "encoder", "frozen")
FORMATS = ("safetensors", "pt")
SIZE = 2


def save(module: nn.Module, path: Path) -> None:
    weights = {name: t.clone() for name, t in module.state_dict().items()}
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(weights, path)
    else:
        torch.save(weights, path)


def load(folder: Path, group: Group, name: str, suffix: str) -> Any:
    return load_sharded(
        PROBLEMS[name].build,
        read_checkpoint(folder / f"{name}.{suffix}"),
        group,
        model=name,
        device=CPU,
        dtype=torch.float64,
    )[0]


def pieces(folder: Path, group: Group) -> dict[str, Any]:
    found = {}
    for name in MODELS:
        for suffix in FORMATS:
            made = load(folder, group, name, suffix)
            buffers = dict(made.module.named_buffers())
            found[f"{name}.{suffix}"] = (made.store.part_p, made.constants.part_p, buffers)
    return found


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("checkpoints")
    for name in MODELS:
        for suffix in FORMATS:
            save(seeded(PROBLEMS[name].build).double(), folder / f"{name}.{suffix}")
    results = tmp_path_factory.mktemp("ranks")
    return run_in_ranks(partial(pieces, folder), (SIZE,), results)[SIZE]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("name", MODELS)
def test_the_pieces_make_up_the_model(read: list[dict[str, Any]], name: str, suffix: str) -> None:
    module = seeded(PROBLEMS[name].build).double()
    found = [rank[f"{name}.{suffix}"] for rank in read]
    for part, wanted in ((0, True), (1, False)):
        expected = [p for p in module.parameters() if p.requires_grad is wanted]
        flat = torch.cat([p.detach().reshape(-1) for p in expected]) if expected else Tensor()
        assert torch.equal(torch.cat([rank[part] for rank in found]), flat.double())
    for rank in found:
        for key, buffer in module.named_buffers():
            assert torch.equal(rank[2][key], buffer)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    module = seeded(PROBLEMS["encoder"].build)
    with torch.no_grad():
        next(iter(module.parameters())).view(-1)[0] = torch.nan
    save(module, tmp_path / "encoder.pt")
    with pytest.raises(InputError, match=r"NaN or infinity in layer.self_attn.in_proj_weight \(1"):
        load(tmp_path, Alone(), "encoder", "pt")


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    save(seeded(PROBLEMS["cnn"].build), tmp_path / "encoder.pt")
    with pytest.raises(InputError, match="do not fit"):
        load(tmp_path, Alone(), "encoder", "pt")


def test_a_model_is_built_without_numbers_and_with_its_buffers_and_ties() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            shared = nn.Parameter(torch.ones(3, 2))
            self.first, self.second = shared, shared
            self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
            self.register_buffer("mask", torch.arange(4.0))

    with parameters_without_numbers():
        module = Tied()
    assert all(p.is_meta for p in module.parameters())
    assert module.first is module.second
    assert [p.requires_grad for p in module.parameters()] == [True, False]
    assert torch.equal(module.mask, torch.arange(4.0))  # type: ignore[arg-type]
    assert not any(p.is_meta for p in mlp(sizes=[2, 2]).parameters())


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_rank_reads_no_more_of_a_file_than_it_holds(tmp_path: Path, suffix: str) -> None:
    # Pages of the file in this process's memory, before and after: a rank of two holds half.
    status = Path("/proc/self/status")
    if not status.exists() or "RssFile" not in status.read_text():
        pytest.skip("the system does not tell what is mapped of files")
    width, layers = 512, 16

    def build() -> nn.Module:
        return mlp(sizes=[width] * (layers + 1), bias=False)

    save(build(), tmp_path / f"deep.{suffix}")
    before = _mapped(status)
    made, _ = load_sharded(
        build,
        read_checkpoint(tmp_path / f"deep.{suffix}"),
        _Second(),
        model="deep",
        device=CPU,
        dtype=torch.float32,
    )
    read_bytes = _mapped(status) - before
    whole = 4 * layers * width * width
    assert made.store.part_p.nbytes == whole // 2
    # Page faults bring neighbouring pages in: 64 KiB around, for each of the tensors at most.
    assert read_bytes <= whole // 2 + layers * 2**17, json.dumps([read_bytes, whole])


def _mapped(status: Path) -> int:
    line = next(x for x in status.read_text().splitlines() if x.startswith("RssFile"))
    return 1024 * int(line.split()[1])


class _Second:
    """Rank 1 of 2 in what needs nobody else's numbers."""

    rank, size, traffic, waited = 1, 2, 0, 0.0

    def __getattr__(self, name: str) -> Any:
        return lambda value, *_: value
