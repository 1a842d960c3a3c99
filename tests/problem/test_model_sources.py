"""Models by keyword, by torchvision's name, by the user's function."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from curvtool.errors import HookError
from curvtool.problem.model_sources import build_model, resolve_model
from curvtool.problem.spec import ModelSpec, Origin
from tests.problem.sentences import refusal

HOOKS = """
import torch
def build(width=2): return torch.nn.Linear(width, 1)
def nothing(): return {"a": 1}
def broken(): raise ValueError("my own bug")
def on_meta(): return torch.nn.Linear(2, 1, device="meta")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "m.py").write_text(HOOKS)
    return tmp_path


def build(folder: Path, name: str, **kwargs: object) -> nn.Module:
    spec = ModelSpec(name, Origin("lab.toml", folder, trusted=True), kwargs)
    return build_model(spec, resolve_model(spec))


def test_each_kind_of_model_is_built(folder: Path) -> None:
    assert sum(p.numel() for p in build(folder, "mlp", sizes=[3, 2]).parameters()) == 8
    assert sum(p.numel() for p in build(folder, "m.py:build", width=5).parameters()) == 6
    resnet = build(folder, "torchvision:resnet18", num_classes=3)
    assert tuple(resnet.get_parameter("fc.weight").shape) == (3, 512)


@pytest.mark.parametrize(
    ("name", "kwargs", "came", "remedy"),
    [
        ("mpl", {}, "'mpl'", 'Did you mean "mlp"?'),
        ("npz:a.npz", {}, "'npz:a.npz'", "file.py:build"),
        ("csv:folder", {}, "not a model in this version", "file.py:build"),
        ("timm:", {}, "'timm:'", "timm:NAME"),
        ("torchvision:resnet81", {}, "'resnet81'", 'Did you mean "resnet18"?'),
        ("torchvision:resnet18", {"weights": "DEFAULT"}, "DEFAULT", "Remove that argument"),
        ("torchvision:resnet18", {"num_clases": 3}, "{'num_clases': 3}", "--model-kwargs"),
        ("mlp", {"size": [3, 2]}, 'no argument "size"', '"sizes"?'),
        ("mlp", {}, '"sizes" is missing', "--model-kwargs"),
        ("mlp", {"sizes": "wide"}, "'wide'", "--model-kwargs"),
        ("m.py:build", {"widht": 3}, 'no argument "widht"', 'Did you mean "width"?'),
        ("m.py:nothing", {}, "dict of 1", "Return the model"),
    ],
)
def test_models_that_cannot_be(
    name: str, kwargs: dict[str, object], came: str, remedy: str, folder: Path
) -> None:
    refusal(lambda: build(folder, name, **kwargs), came=came, remedy=remedy)


def test_an_error_of_the_users_builder_is_kept_as_the_cause(folder: Path) -> None:
    with pytest.raises(HookError, match="my own bug") as caught:
        build(folder, "m.py:broken")
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_model_without_values_comes_through_to_be_named_later(folder: Path) -> None:
    assert build(folder, "m.py:on_meta").get_parameter("weight").is_meta
