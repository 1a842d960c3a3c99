"""Laws of the built-in architectures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from curvtool.problem.models import BUILTIN_MODELS
from curvtool.problem.models.parts import ACTIVATIONS

GPT: dict[str, Any] = {"vocab_size": 11, "context": 8, "width": 12, "layers": 2, "heads": 3}
CNN: dict[str, Any] = {"in_channels": 1, "channels": [4, 8], "classes": 5}


def build(name: str, **kwargs: Any) -> nn.Module:
    torch.manual_seed(0)
    return BUILTIN_MODELS[name](**kwargs).double().eval()


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def tokens(*shape: int) -> Tensor:
    return torch.randint(11, shape, generator=torch.Generator().manual_seed(2))


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_mlp_is_its_closed_form() -> None:
    model = build("mlp", sizes=[6, 4, 3], activation="tanh")
    state = model.state_dict()
    images = normal(5, 2, 3)
    hidden = torch.tanh(images.reshape(5, 6) @ state["layers.0.weight"].T + state["layers.0.bias"])
    expected = hidden @ state["layers.1.weight"].T + state["layers.1.bias"]
    torch.testing.assert_close(model(images), expected)


def test_identity_without_bias_makes_a_product_of_matrices() -> None:
    model = build("mlp", sizes=[6, 4, 3], activation="identity", bias=False)
    first, second = model.state_dict().values()
    x = normal(5, 6)
    torch.testing.assert_close(model(x), x @ (second @ first).T)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_activations_keep_the_shape(activation: str) -> None:
    x = normal(2, 3)
    assert ACTIVATIONS[activation](x).shape == x.shape


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize("pool", ["max", "avg", "none"])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_cnn_gives_one_row_of_logits_an_image(norm: str, pool: str, kernel_size: int) -> None:
    model = build("cnn", **CNN, norm=norm, pool=pool, kernel_size=kernel_size)
    assert model(normal(3, 1, 8, 6)).shape == (3, 5)
    # Only without a normalisation does a convolution keep its bias: 4 + 8 either way or twice.
    norms = 0 if norm == "none" else 4 + 8
    assert count(model) == (4 + 4 * 8) * kernel_size**2 + (4 + 8) + norms + (8 * 5 + 5)


def test_cnn_adds_the_channel_axis_of_grey_images() -> None:
    model = build("cnn", **CNN)
    images = normal(3, 8, 8)
    torch.testing.assert_close(model(images), model(images.unsqueeze(1)))


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 1, 8, 8), (2, 3, 8)])
def test_cnn_refuses_images_of_other_channels(shape: tuple[int, ...]) -> None:
    model = build("cnn", **CNN | {"in_channels": 3})
    with pytest.raises(ValueError, match=r"cnn needs images of shape \(N, 3, H, W\); got"):
        model(normal(*shape))


def test_cnn_in_eval_mode_treats_examples_alone() -> None:
    model = build("cnn", **CNN, norm="batch")
    images = normal(4, 1, 8, 8)
    alone = torch.cat([model(image) for image in images.tensor_split(4)])
    torch.testing.assert_close(model(images), alone)


@pytest.mark.parametrize("options", [{}, {"tied": True}, {"bias": False}, {"mlp_ratio": 2}])
def test_gpt_is_causal(options: dict[str, Any]) -> None:
    model = build("gpt", **GPT, **options)
    before = tokens(2, 8)
    after = before.clone()
    after[:, 5] = (after[:, 5] + 1) % 11
    with torch.no_grad():
        moved = (model(before) - model(after)).abs().amax(dim=(0, 2))
    # The sums over positions 0..4 hold the same numbers; 1e-12 is 4 decades over their rounding.
    assert moved[:5].max() < 1e-12
    assert moved[5:].min() > 1e-6


def test_gpt_reads_any_number_of_tokens_up_to_its_context() -> None:
    model = build("gpt", **GPT)
    row = tokens(2, 8)
    assert model(row).shape == (2, 8, 11)
    torch.testing.assert_close(model(row[:, :3]), model(row)[:, :3])
    with pytest.raises(ValueError, match=r"at most 8; got \(2, 9\)"):
        model(tokens(2, 9))


def test_gpt_has_the_parameters_of_the_formula() -> None:
    embeddings, head = (11 + 8) * 12, 11 * 12
    attention, feed_forward, norm = 4 * (12 * 12 + 12), 2 * 4 * 12 * 12 + 5 * 12, 2 * 12
    blocks = 2 * (attention + feed_forward + 2 * norm)
    assert count(build("gpt", **GPT)) == embeddings + blocks + norm + head
    assert count(build("gpt", **GPT, tied=True)) == embeddings + blocks + norm


def test_gpt_tied_is_one_parameter_under_two_names() -> None:
    state = build("gpt", **GPT, tied=True).state_dict()
    assert state["head.weight"].data_ptr() == state["token_embedding.weight"].data_ptr()


def test_state_dict_names_say_what_they_hold() -> None:
    assert "blocks.0.attention.query.weight" in build("gpt", **GPT).state_dict()
    assert "blocks.1.norm.running_mean" in build("cnn", **CNN).state_dict()
    assert "layers.0.bias" in build("mlp", sizes=[2, 2]).state_dict()


@pytest.mark.parametrize(
    ("name", "kwargs", "sentence"),
    [
        ("mlp", {"sizes": [3]}, r"sizes to be a list of at least 2 positive .*got \[3\]"),
        ("mlp", {"sizes": "64"}, "sizes to be a list"),
        ("mlp", {"sizes": [3, 0]}, r"sizes\[1\] to be a positive integer; got 0"),
        ("mlp", {"sizes": [3, True]}, r"sizes\[1\] to be a positive integer; got True"),
        (
            "mlp",
            {"sizes": [3, 2], "activation": "swish"},
            "activation to be one of elu, gelu.*got 'swish'",
        ),
        ("mlp", {"sizes": [3, 2], "bias": 1}, "bias to be true or false; got 1"),
        ("cnn", CNN | {"kernel_size": 4}, "kernel_size to be odd.*got 4"),
        ("cnn", CNN | {"norm": "layer"}, "norm to be one of batch, group, none; got 'layer'"),
        ("cnn", CNN | {"norm": "group", "groups": 3}, "groups=3 to divide all channels"),
        ("cnn", CNN | {"pool": None}, "pool to be one of avg, max, none; got None"),
        ("gpt", GPT | {"heads": 5}, "width to be a multiple of heads=5; got 12"),
        ("gpt", GPT | {"layers": 1.5}, "layers to be a positive integer; got 1.5"),
    ],
)
def test_a_wrong_argument_is_named(name: str, kwargs: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} needs {sentence}"):
        BUILTIN_MODELS[name](**kwargs)
