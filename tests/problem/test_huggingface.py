"""Models of transformers and timm: names and numbers alone, no hub, no code of a folder."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from curvtool.problem.builders import huggingface as _huggingface  # noqa: F401  # imports no library
from curvtool.problem.checkpoint import load_weights, read_checkpoint
from curvtool.problem.model_sources import build_model, resolve_model
from curvtool.problem.spec import ModelSpec, Origin
from tests.problem.sentences import refusal

BERT: dict[str, Any] = {
    "model_type": "bert",
    "architectures": ["BertForMaskedLM"],
    "vocab_size": 11,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 6,
}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refused)


@pytest.fixture(name="transformers")
def _transformers() -> Any:
    return pytest.importorskip("transformers", reason="transformers is not installed (extra hf)")


def built(folder: Path, name: str = "hf", checkpoint: Path | None = None, **kwargs: Any) -> Any:
    spec = ModelSpec(name, Origin("lab.toml", folder, trusted=True), kwargs)
    return build_model(spec, resolve_model(spec, checkpoint or folder))


def write(folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    config = {key: value for key, value in (BERT | changes).items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("safe", [True, False])
def test_a_folder_is_model_and_weights(safe: bool, tmp_path: Path, transformers: Any) -> None:
    folder = tmp_path / "net"
    trained = transformers.BertForMaskedLM(transformers.BertConfig(**BERT)).eval()
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.normal_()
    trained.save_pretrained(folder)
    if not safe:
        (folder / "model.safetensors").unlink()
        torch.save(trained.state_dict(), folder / "pytorch_model.bin")
    model = built(folder).eval()
    assert type(model).__name__ == "BertForMaskedLM"
    assert model.config._attn_implementation == "eager"
    notes = load_weights(model, read_checkpoint(folder), "hf").notes
    assert notes == []
    ids = torch.arange(6)[None]
    mask = torch.ones_like(ids)
    assert torch.allclose(
        model(ids, attention_mask=mask).logits,
        trained(ids, attention_mask=mask).logits,
        # sdpa beside eager: a few roundings of sums over 8 numbers of size 10.
        rtol=1e-4,
        atol=1e-4,
    )
    # Still one tensor: the output layer is the embedding.
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_the_class_may_be_named_and_the_config_changed(tmp_path: Path, transformers: Any) -> None:
    folder = write(tmp_path / "net")
    model = built(folder, "hf:AutoModelForSequenceClassification", num_labels=5)
    assert type(model).__name__ == "BertForSequenceClassification"
    assert model.classifier.out_features == 5
    assert type(built(folder, "hf:BertModel")).__name__ == "BertModel"
    weights = tmp_path / "weights.pt"
    torch.save(built(folder).state_dict(), weights)
    model = built(tmp_path, "hf", weights, config="net")
    load_weights(model, read_checkpoint(weights), "hf")


def test_old_names_of_layer_norm(tmp_path: Path, transformers: Any) -> None:
    folder = write(tmp_path / "net")
    state = built(folder).state_dict()
    old = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): value.clone() + 1
        for key, value in state.items()
    }
    save_file(old, folder / "model.safetensors")
    model = built(folder)
    load_weights(model, read_checkpoint(folder), "hf")
    name = "bert.embeddings.LayerNorm.weight"
    assert torch.equal(model.get_parameter(name), old["bert.embeddings.LayerNorm.gamma"])


@pytest.mark.parametrize(
    ("changes", "name", "kwargs", "came", "remedy"),
    [
        ({"model_type": "bretx"}, "hf", {}, "'bretx'", "Update transformers"),
        ({"model_type": None}, "hf", {}, "None", "file.py:build"),
        (
            {"model_type": "mine", "auto_map": {"AutoModel": "evil.Model"}},
            *("hf", {}, "auto_map", "never run"),
        ),
        ({"architectures": None}, "hf", {}, "None", "hf:AutoModelForMaskedLM"),
        ({"architectures": ["os.system"]}, "hf", {}, "'os.system'", "Name it"),
        ({"architectures": ["Trainer"]}, "hf", {}, "'Trainer'", "Name it"),
        ({}, "hf:BertForMaskedLMM", {}, "'BertForMaskedLMM'", '"BertForMaskedLM"?'),
        ({}, "hf", {"num_lables": 3}, "'num_lables'", "--model-kwargs"),
        ({}, "hf", {"attn_implementation": "evil/kernel"}, "'attn_impl", "--model-kwargs"),
        ({}, "hf", {"config": "nowhere"}, "there is no", "config=FOLDER"),
        ({"quantization_config": {"bits": 4}}, "hf", {}, "quantised", "before it was quantised"),
        ({"num_hidden_layers": 10**9}, "hf", {}, "num_hidden_layers", "Get the config again"),
        ({"hidden_size": 2**20}, "hf", {}, "parameters", "of the same model"),
        ({"hidden_size": 9}, "hf", {}, "multiple", "--model-kwargs"),
        (
            {"model_type": None, "architecture": "resnet18"},
            *("hf", {}, "one of timm", "timm:resnet18"),
        ),
    ],
)
def test_configs_that_are_refused(
    changes: dict[str, Any],
    name: str,
    kwargs: dict[str, Any],
    came: str,
    remedy: str,
    tmp_path: Path,
    transformers: Any,
) -> None:
    folder = write(tmp_path / "net", **changes)
    (folder / "evil.py").write_text("raise AssertionError('it ran')")
    save_file({"a": torch.ones(1)}, folder / "model.safetensors")
    refusal(lambda: built(folder, name, **kwargs), came=came, remedy=remedy)


def test_a_config_can_fetch_no_kernel_and_no_code(tmp_path: Path, transformers: Any) -> None:
    folder = write(
        tmp_path / "net",
        auto_map={"AutoModelForMaskedLM": "evil.Model"},
        _attn_implementation="evil/kernel",
        attn_implementation="evil/kernel",
    )
    (folder / "evil.py").write_text("raise AssertionError('it ran')")
    model = built(folder, "hf:AutoModelForMaskedLM")
    assert model.config._attn_implementation == "eager"


def test_no_config_beside_the_weights(tmp_path: Path, transformers: Any) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "w.pt")
    refusal(
        lambda: built(tmp_path, "hf", tmp_path / "w.pt"), came="there is no", remedy="config=FOLDER"
    )


class TestTimm:
    @pytest.fixture(autouse=True)
    def _timm(self) -> None:
        pytest.importorskip("timm", reason="timm is not installed (extra timm)")

    def test_models_by_name(self, tmp_path: Path) -> None:
        model = built(tmp_path, "timm:resnet10t", num_classes=3)
        assert isinstance(model, nn.Module)
        assert model.get_parameter("fc.weight").shape[0] == 3
        built(tmp_path, "timm:resnet10t.c3_in1k", pretrained=False)

    @pytest.mark.parametrize(
        ("name", "kwargs", "came", "remedy"),
        [
            ("timm:resnet10x", {}, "'resnet10x'", "Did you mean"),
            ("timm:hf_hub:a/b", {}, "'hf_hub:a/b'", "timm.list_models()"),
            ("timm:local-dir:/tmp", {}, "'local-dir:/tmp'", "timm.list_models()"),
            ("timm:resnet10t", {"pretrained": True}, "pretrained=True", "Remove that argument"),
            ("timm:resnet10t", {"checkpoint_path": "a"}, "checkpoint_path", "Remove"),
            ("timm:resnet10t", {"num_clases": 3}, "num_clases", "--model-kwargs"),
        ],
    )
    def test_names_and_arguments_that_are_refused(
        self, name: str, kwargs: dict[str, Any], came: str, remedy: str, tmp_path: Path
    ) -> None:
        refusal(lambda: built(tmp_path, name, **kwargs), came=came, remedy=remedy)


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [("hf", "transformers", "hf"), ("timm:resnet10t", "timm", "timm")],
)
def test_an_absent_library_is_named_with_its_extra(
    name: str, module: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    write(tmp_path)
    refusal(
        lambda: built(tmp_path, name),
        came="not installed",
        remedy=f"pip install 'curvtool[{extra}]'",
    )
