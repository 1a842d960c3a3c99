"""What checkpoints tell of their problems, and that it reads back as it was meant."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from curvtool.problem.checkpoint.settings import plain_values
from curvtool.problem.inspection import inspect_checkpoint, problem_file
from curvtool.problem.inspection.problem_file import _value
from curvtool.problem.models import BUILTIN_MODELS
from curvtool.problem.save import save_checkpoint
from curvtool.problem.spec import Origin, SpecSource, read_toml

TODO = "TODO"


def write(folder: Path, content: object, name: str = "net.pt") -> Path:
    path = folder / name
    torch.save(content, path)
    return path


def read_back(path: Path) -> tuple[SpecSource, list[str], str]:
    """What the problem file of a checkpoint says, by our own reader, beside its text."""
    found = inspect_checkpoint(path)
    text, todo = problem_file(found, folder=path.parent)
    place = path.parent / "written.toml"
    place.write_text(text)
    return read_toml(place, Origin("written.toml", path.parent, trusted=True)), todo, text


def model_of(path: Path) -> Mapping[str, Any]:
    return read_back(path)[0].sections["model"]


BUILTIN: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "mlp": ("mlp", {"sizes": [6, 5, 4], "activation": "tanh"}, ["activation"]),
    "mlp without bias": ("mlp", {"sizes": [6, 4], "bias": False}, []),
    "cnn with batch norm": (
        "cnn",
        {"in_channels": 2, "channels": [4, 6], "classes": 3, "kernel_size": 5, "norm": "batch"},
        ["activation", "pool"],
    ),
    "cnn with group norm": (
        "cnn",
        {"in_channels": 1, "channels": [4], "classes": 3, "norm": "group", "groups": 2},
        ["activation", "groups"],
    ),
    "cnn without": (
        "cnn",
        {"in_channels": 1, "channels": [4], "classes": 3, "norm": "none"},
        ["activation"],
    ),
    "gpt": (
        "gpt",
        {"vocab_size": 9, "context": 5, "width": 8, "layers": 2, "heads": 4, "mlp_ratio": 3},
        ["heads", "activation"],
    ),
    "gpt, tied": (
        "gpt",
        {
            **{"vocab_size": 9, "context": 5, "width": 8, "layers": 1, "heads": 2},
            **{"tied": True, "bias": False},
        },
        ["heads", "activation"],
    ),
}


def same_tensors(a: nn.Module, b: nn.Module) -> bool:
    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in (a, b)]
    return shapes[0] == shapes[1]


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("case", BUILTIN)
def test_built_in_models_are_told_but_for_what_has_no_shape(
    case: str, wrapped: bool, tmp_path: Path
) -> None:
    name, kwargs, unknown = BUILTIN[case]
    trained = BUILTIN_MODELS[name](**kwargs)
    state = trained.state_dict()
    content = {"model": {f"module.{k}": v for k, v in state.items()}} if wrapped else state
    section = model_of(write(tmp_path, content))
    assert section["build"] == name
    told = dict(section["kwargs"])
    assert [key for key, value in told.items() if value == TODO] == unknown
    filled = {key: kwargs.get(key, value) for key, value in told.items()}
    for key, stand_in in (("activation", "relu"), ("pool", "max")):
        filled[key] = stand_in if filled.get(key) == TODO else filled.get(key)
    filled = {key: value for key, value in filled.items() if value is not None}
    assert same_tensors(BUILTIN_MODELS[name](**filled), trained)
    # What is left open is refused by name, not guessed.
    if unknown:
        with pytest.raises(ValueError, match=TODO):
            BUILTIN_MODELS[name](**told)


def test_values_beside_the_weights_fill_what_shapes_do_not_tell(tmp_path: Path) -> None:
    kwargs = {"vocab_size": 9, "context": 5, "width": 8, "layers": 1, "heads": 2}
    state = BUILTIN_MODELS["gpt"](**kwargs).state_dict()
    config = {"n_head": 2, "activation": "relu", "lr": 0.1}
    path = write(tmp_path, {"state_dict": state, "config": config, "epoch": 7})
    source, _, text = read_back(path)
    told: Any = source.sections["model"]["kwargs"]
    assert (told["heads"], told["activation"]) == (2, "relu")
    assert "heads is from config.n_head in the checkpoint." in text
    assert "config.lr = 0.1" in text
    assert "epoch = 7" in text
    # Two places that contradict each other tell nothing, nor does a value that cannot be.
    for other in ({"n_head": 4}, {"activation": "cos"}):
        both = {"state_dict": state, "a": {**config, **other}, "b": config}
        told = model_of(write(tmp_path, both))["kwargs"]
        assert TODO in told.values()


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v3_small"])
def test_models_of_torchvision_are_told_with_their_classes(name: str, tmp_path: Path) -> None:
    from torchvision import models

    with torch.device("meta"):
        trained = models.get_model_builder(name)(weights=None, num_classes=7)
    state = {k: torch.zeros(t.shape, dtype=t.dtype) for k, t in trained.state_dict().items()}
    source, todo, text = read_back(write(tmp_path, {"state_dict": state, "epoch": 1}))
    assert source.sections["model"] == {
        "build": f"torchvision:{name}",
        "kwargs": {"num_classes": 7},
    }
    assert source.sections["loss"] == {"name": "cross_entropy"}
    assert todo == ["the data"]
    assert "(N, 3, H, W)" in text


def test_a_variant_is_called_one(tmp_path: Path) -> None:
    from torchvision import models

    with torch.device("meta"):
        trained = models.resnet18(weights=None, num_classes=10)
        trained.conv1 = nn.Conv2d(3, 64, 3, bias=False)
    state = {k: torch.zeros(t.shape, dtype=t.dtype) for k, t in trained.state_dict().items()}
    source, todo, text = read_back(write(tmp_path, state))
    assert source.sections["model"] == {"build": TODO}
    said = " ".join(text.replace("\n# ", " ").split())
    assert "nearly torchvision's resnet18, but for conv1.weight: (64, 3, 3, 3)" in said
    assert "the model" in todo


def test_segmentation_reads_one_of_its_outputs(tmp_path: Path) -> None:
    from torchvision import models

    with torch.device("meta"):
        trained = models.get_model_builder("lraspp_mobilenet_v3_large")(
            weights=None, weights_backbone=None, num_classes=4
        )
    state = {k: torch.zeros(t.shape, dtype=t.dtype) for k, t in trained.state_dict().items()}
    section = model_of(write(tmp_path, state))
    assert section["build"] == "torchvision:lraspp_mobilenet_v3_large"
    assert (section["kwargs"], section["output"]) == ({"num_classes": 4}, "out")


def test_folders_of_transformers_say_what_they_are(tmp_path: Path) -> None:
    torch.save({"embeddings.weight": torch.zeros(9, 4)}, tmp_path / "pytorch_model.bin")
    config = {"model_type": "bert", "architectures": ["BertForMaskedLM"], "hidden_size": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for path in (tmp_path, tmp_path / "pytorch_model.bin"):
        found = inspect_checkpoint(path)
        assert (found.model.build, found.model.loss) == ("hf", "masked_lm")
        text, todo = problem_file(found, folder=tmp_path)
        assert "names its class: BertForMaskedLM" in text
        assert "hidden_size = 4" in text
        assert todo == ["the data"]


def strangers() -> dict[str, Tensor]:
    return {
        "rnn.weight_ih_l0": torch.zeros(8, 5),
        "rnn.weight_hh_l0": torch.zeros(8, 2),
        "out.weight": torch.zeros(1, 2),
        "out.bias": torch.zeros(1),
    }


def test_a_strangers_model_is_left_open_with_what_its_ends_tell(tmp_path: Path) -> None:
    source, todo, text = read_back(write(tmp_path, strangers()))
    assert {name: next(iter(section.values())) for name, section in source.sections.items()} == {
        "model": TODO,
        "data": TODO,
        "loss": TODO,
    }
    assert todo == ["the model", "the data", "the loss"]
    assert "sequences of 5 numbers, by rnn.weight_ih_l0" in text
    assert "1 numbers (out.weight)" in text
    assert "mse for a number, bce for two classes" in text
    assert "rnn.weight_hh_l0  float32 of shape (8, 2)" in text


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"a.weight": torch.zeros(4, 3, 5)}, "shape (N, 3, L)"),
        ({"a.weight": torch.zeros(4, 3, 5, 5)}, "shape (N, 3, H, W)"),
        ({"a.weight": torch.zeros(4, 3)}, "3 numbers an example"),
        (
            {"pos_embed.weight": torch.zeros(5, 2), "tok_emb.weight": torch.zeros(9, 20)},
            "whole numbers from 0 to 8, by tok_emb.weight",
        ),
        ({"embed.weight": torch.zeros(9, 2), "embed.bias": torch.zeros(9)}, "2 numbers an example"),
    ],
)
def test_inputs_by_the_first_layer(tensors: dict[str, Tensor], said: str, tmp_path: Path) -> None:
    assert said in read_back(write(tmp_path, tensors))[2]


def test_sections_in_the_checkpoint_are_left_out(tmp_path: Path) -> None:
    model = BUILTIN_MODELS["mlp"](sizes=[3, 2])
    whole: dict[str, Any] = {
        "model": {"build": "mlp", "kwargs": {"sizes": [3, 2]}},
        "data": {"source": "npz:d.npz"},
        "loss": {"name": "mse"},
    }
    save_checkpoint(tmp_path / "all.pt", model, problem=whole)
    assert inspect_checkpoint(tmp_path / "all.pt").is_complete
    del whole["data"]
    save_checkpoint(tmp_path / "some.pt", model, problem=whole)
    source, todo, text = read_back(tmp_path / "some.pt")
    assert source.sections == {"data": {"source": TODO}}
    assert todo == ["the data"]
    assert "[model] is in the checkpoint itself" in text


def test_many_tensors_and_settings_are_cut_in_the_middle(tmp_path: Path) -> None:
    state = {f"l{i}.weight": torch.zeros(1) for i in range(100)}
    config = {f"v{i}": i for i in range(100)}
    text = read_back(write(tmp_path, {"state_dict": state, "config": config}))[2]
    assert "60 more" in text
    assert "l99.weight" in text
    assert len(text.splitlines()) < 130


# Hostile content.


@settings(deadline=None, max_examples=300)
@given(text=st.text(), number=st.floats(allow_nan=False) | st.integers(-(2**60), 2**60))
def test_values_are_written_as_toml_reads_them(text: str, number: float) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        text = "\ufffd"
    value = {text: [text, number, True, {"a": text}], "b": {}}
    assert tomllib.loads(f"v = {_value(value)}")["v"] == value


@settings(deadline=None, max_examples=50)
@given(
    name=st.text(st.characters(codec="utf-8"), min_size=1, max_size=60),
    word=st.text(st.characters(codec="utf-8"), max_size=60),
)
def test_names_of_a_strangers_file_stay_in_comments(
    tmp_path_factory: pytest.TempPathFactory, name: str, word: str
) -> None:
    folder = tmp_path_factory.mktemp("strange")
    for bad in (name, f'x\n[model]\nbuild = "{name}"', "\x1b[2J" + name):
        content = {"state_dict": {bad: torch.zeros(2, 2)}, "config": {bad: word, "arch": word}}
        source, _, text = read_back(write(folder, content))
        assert source.sections["model"] == {"build": TODO}
        assert all(c.isprintable() or c == "\n" for c in text)
        assert max(map(len, text.splitlines())) <= 100


def test_settings_without_end_are_cut_off() -> None:
    circle: dict[str, object] = {"a": 1, "long": "x" * 10_000, "list": list(range(10_000))}
    circle["self"] = circle
    found = plain_values({"config": circle, "optimizer": {"lr": 1}, "none": None})
    assert found["config.a"] == 1
    assert not any("long" in key or "list" in key or "optimizer" in key for key in found)
    assert len(found) <= 200
    assert len(plain_values({str(i): i for i in range(10_000)})) == 200
