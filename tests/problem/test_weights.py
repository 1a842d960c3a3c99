"""Tensors into a module: all of them or a table; prefixes, ties, buffers and dtypes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from curvtool.problem.checkpoint import Candidate, Checkpoint, load_weights
from tests.problem.sentences import refusal


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def values(module: nn.Module, value: float = 0.5) -> dict[str, Tensor]:
    """A state dict with other values than the module has."""
    return {key: torch.full_like(t, value) for key, t in module.state_dict().items()}


def checkpoint(tensors: dict[str, Tensor]) -> Checkpoint:
    return Checkpoint(Path("c.pt"), (Candidate("model", tensors),))


def refused(module: nn.Module, tensors: dict[str, Tensor], came: str, remedy: str) -> str:
    before = {key: t.clone() for key, t in module.state_dict().items()}
    sentence = refusal(
        lambda: load_weights(module, checkpoint(tensors), "mlp"), came=came, remedy=remedy
    )
    after = module.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    return sentence


PREFIXES = ["module.", "_orig_mod.", "model."]
STACKS = ["".join(stack) for n in range(3) for stack in itertools.permutations(PREFIXES, n)]


@pytest.mark.parametrize("prefix", STACKS)
def test_prefixes_that_all_names_bear_are_taken_off(prefix: str) -> None:
    module = net()
    tensors = values(module)
    prefixed = {prefix + key: value for key, value in tensors.items()}
    notes = load_weights(module, checkpoint(prefixed), "mlp").notes
    assert all(torch.equal(t, tensors[key]) for key, t in module.state_dict().items())
    assert [prefix in note for note in notes] == [True] * bool(prefix)


def test_a_prefix_that_the_model_itself_has_stays() -> None:
    module = nn.ModuleDict({"model": nn.Linear(2, 1)})
    assert load_weights(module, checkpoint(values(module)), "mlp").notes == []


def test_a_prefix_that_only_some_names_bear_is_a_hint() -> None:
    module = net()
    tensors = {f"model.{key}": value for key, value in values(module).items()}
    sentence = refused(
        module, tensors | {"metric.total": torch.ones(1)}, "metric.total", 'without "model."'
    )
    assert "--key model." in sentence


def test_an_unknown_prefix_in_file_or_model_is_a_hint() -> None:
    module = net()
    longer = {f"net.{key}": value for key, value in values(module).items()}
    some = longer | {"other.weight": torch.zeros(1)}
    assert "in the file" in refused(module, some, "missing", 'without "net."')
    assert '"net."' in load_weights(module, checkpoint(longer), "mlp").notes[0]
    inner = nn.ModuleDict({"net": net()})
    assert '{"net." + k' in refused(inner, values(module), "missing", "in the model")


def test_misfits_are_one_table() -> None:
    module = net()
    tensors = values(module)
    del tensors["0.bias"]
    tensors["2.weight"] = torch.zeros(5, 4)
    tensors["extra"] = torch.zeros(1)
    sentence = refused(module, tensors, "do not fit", "--model")
    rows = [line.split() for line in sentence.splitlines()[1:5]]
    assert rows[0] == ["key", "the", "model", "expects", "the", "file", "has"]
    assert ["0.bias", "(4,)", "missing"] in rows
    assert ["2.weight", "(2,", "4)", "(5,", "4)"] in rows
    assert ["extra", "nothing", "(1,)"] in rows


def test_a_long_table_is_cut() -> None:
    module = nn.Sequential(*(nn.Linear(1, 1) for _ in range(30)))
    sentence = refused(module, {"a": torch.zeros(1)}, "... and 41 more", "--model")
    assert len(sentence.splitlines()) == 24


def test_shapes_alone_point_to_the_arguments() -> None:
    module = net()
    refused(module, values(module) | {"0.bias": torch.ones(9)}, "(9,)", "--model-kwargs")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_named_and_counted(bad: float) -> None:
    module = net()
    tensors = values(module)
    tensors["2.weight"][0, :3] = bad
    sentence = refused(module, tensors, "2.weight (3 ", "earlier checkpoint")
    assert "of 8" in sentence
    assert "1 of 9 tensors" in sentence


def test_a_mask_may_hold_infinity_and_no_nan() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mask", torch.full((2, 2), float("-inf")))

    load_weights(Masked(), checkpoint({"mask": torch.full((2, 2), float("-inf"))}), "gpt")
    refused(Masked(), {"mask": torch.full((2, 2), float("nan"))}, "mask (4 NaN", "earlier")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_files_floating_type_is_kept(dtype: torch.dtype) -> None:
    module = net()
    weight = module[0].weight
    tensors = {k: t.to(dtype) if t.is_floating_point() else t for k, t in values(module).items()}
    load_weights(module, checkpoint(tensors), "mlp")
    assert {p.dtype for p in module.parameters()} == {dtype}
    assert module[0].weight is weight
    assert module[1].num_batches_tracked.dtype == torch.int64


@pytest.mark.parametrize(
    "odd",
    [
        lambda: torch.ones(4, dtype=torch.int8),
        lambda: torch.ones(4, dtype=torch.complex64),
        lambda: torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8),
        lambda: torch.ones(4).to_sparse(),
    ],
    ids=["int8", "complex", "quantised", "sparse"],
)
@pytest.mark.filterwarnings("ignore:.*quantize")
def test_tensors_of_another_kind_are_refused(odd: Callable[[], Tensor]) -> None:
    module = net()
    refused(module, values(module) | {"0.bias": odd()}, "0.bias", "model")


def tied() -> nn.ModuleDict:
    module = nn.ModuleDict({"embed": nn.Embedding(5, 3), "head": nn.Linear(3, 5, bias=False)})
    module["head"].weight = module["embed"].weight
    return module


@pytest.mark.parametrize("left_out", [None, "embed.weight", "head.weight"])
def test_tied_weights_load_from_either_name_and_stay_tied(left_out: str | None) -> None:
    module = tied()
    tensors = {key: torch.full((5, 3), 2.0, dtype=torch.bfloat16) for key in module.state_dict()}
    tensors.pop(left_out or "", None)
    load_weights(module, checkpoint(tensors), "gpt")
    assert module["head"].weight is module["embed"].weight
    assert module.state_dict()["head.weight"].unique().tolist() == [2]


def test_tied_names_with_different_values_are_refused() -> None:
    tensors = {"embed.weight": torch.zeros(5, 3), "head.weight": torch.ones(5, 3)}
    refused(tied(), tensors, "they differ", "untied")


def test_the_counter_of_batchnorm_may_be_absent() -> None:
    module = net()
    tensors = values(module)
    del tensors["1.num_batches_tracked"]
    load_weights(module, checkpoint(tensors), "mlp")
    del tensors["1.running_mean"]
    refused(net(), tensors, "1.running_mean", "--model")


def test_names_that_a_module_renames_itself_are_accepted() -> None:
    class Renamed(nn.Linear):
        def _load_from_state_dict(self, state: dict[str, Any], *args: Any) -> None:
            state["weight"] = state.pop("old_weight", state.get("weight"))
            super()._load_from_state_dict(state, *args)

    module = Renamed(2, 1)
    old = {"old_weight": torch.full((1, 2), 3.0), "bias": torch.zeros(1)}
    load_weights(module, checkpoint(old), "m.py:build")
    assert bool((module.weight == 3).all())


def test_lazy_parameters_take_the_files_shape() -> None:
    module = nn.LazyLinear(2)
    load_weights(module, checkpoint({"weight": torch.ones(2, 7), "bias": torch.ones(2)}), "m")
    assert module.weight.shape == (2, 7)


def test_a_model_without_values_is_refused() -> None:
    with torch.device("meta"):
        module = nn.Linear(2, 1)
    refusal(
        lambda: load_weights(module, checkpoint({}), "m.py:build"),
        came="meta device",
        remedy="without torch.device",
    )
