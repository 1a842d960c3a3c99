"""Which tensors of a file are the weights: as named, the average, or the only ones that fit."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from curvtool.problem.checkpoint import Checkpoint, load_weights, narrowed, read_checkpoint
from tests.problem.formats.folders import WEIGHTS, net, same
from tests.problem.sentences import refusal

OTHER = {"weight": torch.ones(5, 5), "bias": torch.ones(5)}


def read(path: Path, content: Any, *, key: str | None = None, average: bool = False) -> Checkpoint:
    torch.save(content, path / "c.pt")
    return narrowed(read_checkpoint(path / "c.pt"), key=key, average=average)


def loaded(checkpoint: Checkpoint) -> tuple[dict[str, Tensor], list[str]]:
    module = net()
    notes = load_weights(module, checkpoint, "mlp").notes
    return module.state_dict(), notes


def shifted(by: float) -> dict[str, Tensor]:
    return {key: value + by for key, value in WEIGHTS.items()}


def training(**more: Any) -> dict[str, Any]:
    """What a training script saves: optimizer states have tensors too."""
    module = net()
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return {"epoch": 3, "optimizer": optimizer.state_dict(), "best": torch.tensor(0.5), **more}


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (training(net=WEIGHTS), "net"),
        (training(state={"nets": {"generator": WEIGHTS, "critic": OTHER}}), "state.nets.generator"),
        ({"generator": {"state_dict": WEIGHTS}, "critic": {"state_dict": OTHER}}, None),
        ({"a.b": {"c": WEIGHTS}, "model": OTHER}, "a.b.c"),
    ],
)
def test_the_only_one_that_fits_is_found(content: Any, key: str | None, tmp_path: Path) -> None:
    state, notes = loaded(read(tmp_path, content))
    key = key or "generator.state_dict"
    assert same(state)
    assert any(f'only "{key}" fits' in note for note in notes)
    state, notes = loaded(read(tmp_path, content, key=key))
    assert same(state)
    assert notes == []


def test_common_places_need_no_note(tmp_path: Path) -> None:
    state, notes = loaded(read(tmp_path, training(state_dict=WEIGHTS, metrics=OTHER)))
    assert same(state)
    assert notes == []


def test_several_that_fit_are_listed(tmp_path: Path) -> None:
    checkpoint = read(tmp_path, {"first": WEIGHTS, "last": shifted(1), "critic": OTHER})
    sentence = refusal(lambda: loaded(checkpoint), came="2 fit and differ", remedy="--key first")
    assert "last (4 tensors)" in sentence
    assert "critic" not in sentence
    state, _ = loaded(read(tmp_path, {"first": WEIGHTS, "last": shifted(1)}, key="last"))
    assert same(state, shifted(1))


def test_equal_copies_are_one(tmp_path: Path) -> None:
    state, _ = loaded(read(tmp_path, {"a": WEIGHTS, "b": copy.deepcopy(WEIGHTS)}))
    assert same(state)


def test_none_that_fits_shows_the_nearest_and_names_the_others(tmp_path: Path) -> None:
    near = WEIGHTS | {"0.bias": torch.ones(9)}
    checkpoint = read(tmp_path, {"critic": OTHER, "net": near})
    sentence = refusal(lambda: loaded(checkpoint), came="(9,)", remedy="critic (2 tensors)")
    assert 'under "net"' in sentence


@pytest.mark.parametrize("key", ["nett", "net.head", "state_dict", "net."])
def test_a_key_that_is_not_there(key: str, tmp_path: Path) -> None:
    refusal(
        lambda: read(tmp_path, {"net": WEIGHTS, "critic": OTHER}, key=key),
        came=repr(key),
        remedy="net (4 tensors), critic (2 tensors)",
    )


def test_a_key_goes_on_into_the_names(tmp_path: Path) -> None:
    both = {f"generator.{k}": v for k, v in WEIGHTS.items()} | {
        f"critic.{k}": v for k, v in OTHER.items()
    }
    sentence = refusal(
        lambda: loaded(read(tmp_path, {"state_dict": both})),
        came="critic.weight",
        remedy="--key state_dict.generator",
    )
    assert 'without "generator."' in sentence
    state, notes = loaded(read(tmp_path, {"state_dict": both}, key="state_dict.generator"))
    assert same(state)
    assert notes == ["2 tensors beside --key state_dict.generator were left aside"]
    assert same(loaded(read(tmp_path, both, key="generator"))[0])


def test_the_top_level_is_a_point(tmp_path: Path) -> None:
    content = {**WEIGHTS, "ema": shifted(1), "copy": shifted(2)}
    assert same(loaded(read(tmp_path, content, key="."))[0])


@pytest.mark.parametrize("name", ["ema", "model_ema", "state_dict_ema", "ema_model", "swa"])
def test_an_average_is_taken_when_asked_for(name: str, tmp_path: Path) -> None:
    content = training(state_dict=WEIGHTS, **{name: shifted(1)})
    state, notes = loaded(read(tmp_path, content))
    assert same(state)
    assert [name in note and "--weights ema" in note for note in notes] == [True]
    assert same(loaded(read(tmp_path, content, average=True))[0], shifted(1))
    assert same(loaded(read(tmp_path, {name: shifted(1)}))[0], shifted(1))
    refusal(
        lambda: read(tmp_path, {"state_dict": WEIGHTS, "schema": OTHER}, average=True),
        came="has none",
        remedy="--key",
    )


def test_the_counter_of_an_averaged_model_is_no_weight(tmp_path: Path) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(net())
    averaged.module.load_state_dict(WEIGHTS)
    state, notes = loaded(read(tmp_path, {"ema": averaged.state_dict()}, average=True))
    assert same(state)
    assert '"module."' in notes[0]


def test_wrappers_of_parts_are_taken_off(tmp_path: Path) -> None:
    infixes = ["_fsdp_wrapped_module.", "_orig_mod.", "_checkpoint_wrapped_module."]
    tensors = {
        f"{infixes[0]}{key[:2]}{infixes[i % 3]}{key[2:]}": value
        for i, (key, value) in enumerate(WEIGHTS.items())
    }
    assert same(loaded(read(tmp_path, tensors))[0])


def test_dicts_that_refer_to_themselves_or_multiply_end(tmp_path: Path) -> None:
    content: dict[str, Any] = {"model": WEIGHTS}
    for _ in range(200):  # 2 ** 200 ways, 200 dicts
        content = {"a": content, "b": content}
    refusal(lambda: read(tmp_path, content), came="no tensors at all", remedy="state_dict()")
    cyclic: dict[str, Any] = {"model": WEIGHTS}
    cyclic["self"] = cyclic
    assert same(loaded(read(tmp_path, cyclic))[0])
    spec: Any = "x"
    for _ in range(100):
        spec = [spec, spec]
    own = {"schema": "curvtool-checkpoint/1", "problem": {"model": {"kwargs": {"a": spec}}}}
    refusal(
        lambda: read(tmp_path, {"model": WEIGHTS, "curvtool": own}),
        came="more than 10,000 values",
        remedy="save_checkpoint",
    )
    many: dict[str, Any] = {str(i): {} for i in range(20_000)}
    refusal(lambda: read(tmp_path, many), came="more than 10,000 dicts", remedy="state_dict()")


def test_views_that_unfold_are_refused(tmp_path: Path) -> None:
    small = torch.ones(1).expand(2**40)
    refusal(lambda: read(tmp_path, {"w": small}), came="unfold to", remedy="again")


def test_mixed_precision_is_said_and_computed_in_the_widest(tmp_path: Path) -> None:
    mixed = WEIGHTS | {"0.bias": WEIGHTS["0.bias"].to(torch.bfloat16)}
    state, notes = loaded(read(tmp_path, mixed))
    assert notes == [
        "the file mixes 3 float32, 1 bfloat16 (0.bias): all are computed in the widest"
    ]
    assert same(state)
    halves = {k: v.to(torch.float16 if k[0] == "0" else torch.bfloat16) for k, v in WEIGHTS.items()}
    assert {t.dtype for t in loaded(read(tmp_path, halves))[0].values()} == {torch.float32}


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_quantised_weights_are_named(dtype: torch.dtype, tmp_path: Path) -> None:
    packed = WEIGHTS | {"2.weight": torch.ones(2, 4).to(dtype)}
    name = str(dtype).removeprefix("torch.")
    sentence = refusal(
        lambda: loaded(read(tmp_path, packed)), came=f"2.weight ({name})", remedy="dequantised"
    )
    assert sentence.count("weight") > 1


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5)
        self.head.weight = self.embed.weight
        self.register_buffer("places", torch.arange(5), persistent=False)


def test_ties_aliases_and_buffers_that_the_model_makes(tmp_path: Path) -> None:
    table = torch.randn(5, 3)
    content = {"embed.weight": table, "head.weight": table, "head.bias": torch.ones(5)}
    places = {"places": torch.arange(5)}
    for tensors in (content, content | places):
        module = Tied()
        notes = load_weights(module, read(tmp_path, tensors), "m").notes
        assert module.head.weight is module.embed.weight
        assert torch.equal(module.embed.weight, table)
        assert ["places" in note for note in notes] == [True] * (tensors is not content)
    other = content | {"places": torch.arange(5) + 1}
    refusal(lambda: load_weights(Tied(), read(tmp_path, other), "m"), came="places", remedy="--par")


def test_partial_loads_what_fits_and_lists_the_rest(tmp_path: Path) -> None:
    tensors = {k: v for k, v in WEIGHTS.items() if k != "0.bias"}
    tensors |= {"2.weight": torch.ones(7, 4), "head.weight": torch.ones(2)}
    checkpoint = read(tmp_path, tensors)
    refusal(lambda: loaded(checkpoint), came="head.weight", remedy="--partial")
    module = net()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    done = load_weights(module, checkpoint, "mlp", partial=True)
    state = module.state_dict()
    assert torch.equal(state["0.weight"], WEIGHTS["0.weight"])
    assert torch.equal(state["2.bias"], WEIGHTS["2.bias"])
    assert torch.equal(state["0.bias"], before["0.bias"])
    assert torch.equal(state["2.weight"], before["2.weight"])
    assert done.tensors.keys() == {"0.weight", "2.bias"}
    assert done.notes == [
        "--partial: 2 tensors were loaded; 2 keep the values that the model was built with. Not "
        "loaded: 0.bias (expected (4,), missing in the file), 2.weight (expected (2, 4), (7, 4)), "
        "head.weight (not in the model)"
    ]


def test_partial_needs_something_that_fits(tmp_path: Path) -> None:
    checkpoint = read(tmp_path, OTHER)
    refusal(
        lambda: load_weights(net(), checkpoint, "mlp", partial=True), came="missing", remedy="model"
    )


def test_extra_tensors_alone_say_that_all_is_there(tmp_path: Path) -> None:
    checkpoint = read(tmp_path, WEIGHTS | {"pooler.weight": torch.ones(3)})
    refusal(lambda: loaded(checkpoint), came="pooler.weight", remedy="--partial leaves the others")
