"""Rounding that moves an example across a kink, and is not seen on a few others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from curvtool.operators.hessian import HessianOperator
from curvtool.operators.kinks import has_kinks, noise_over_all
from curvtool.problem.models import cnn, gpt, mlp
from curvtool.problem.objective import Objective
from tests.objectives import CASES, CPU, batches, builtin, normal, seeded


class Scaled(nn.Module):
    """A rectified sum, scaled: its Hessian couples the scale with the summands that are let by."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        a, b, c = torch.split(x * self.weight, 1, dim=1)
        found: Tensor = self.scale * torch.relu(a + b + c)
        return found


def objective(x: Tensor, dtype: torch.dtype = torch.float32) -> Objective:
    made = Objective(
        Scaled(), builtin("mse"), batches((x, torch.ones(len(x), 1)), 3), device=CPU, dtype=dtype
    )
    made.evaluate()
    return made


# In single precision 2^24 + 1 is 2^24, so that the sum is zero; in double it is one.
ON_THE_KINK = torch.tensor([[2.0**24, 1.0, -(2.0**24)]])


def test_an_example_on_a_kink_is_noticed_among_all() -> None:
    others = normal(6, 3).float().abs()
    direction_P = torch.tensor([0.0, 1.0, 0.0, 1.0])
    clear = objective(others)
    found = noise_over_all(clear, HessianOperator(clear), direction_P, way="retained-graph")
    assert found is not None
    assert found <= 1e-5  # some sums of a few terms
    caught = objective(torch.cat([others, ON_THE_KINK]))
    found = noise_over_all(caught, HessianOperator(caught), direction_P, way="retained-graph")
    assert found is not None
    assert found > 0.01  # a seventh of the mean has lost its second derivatives


def test_in_double_there_is_nothing_to_compare_with() -> None:
    made = objective(normal(6, 3).abs(), torch.float64)
    direction_P = normal(4)
    assert noise_over_all(made, HessianOperator(made), direction_P, way="retained-graph") is None


@pytest.mark.parametrize("case", ["tanh", "gpt", "masked-weighted"])
def test_smooth_losses_have_none(case: str) -> None:
    assert not has_kinks(CASES[case].objective())


def _nodes_of(module: nn.Module, x: Tensor, y: Tensor) -> Objective:
    return Objective(
        module, builtin("cross_entropy"), batches((x, y), 4), device=CPU, dtype=torch.float64
    )


@pytest.mark.parametrize(("activation", "kinked"), [("relu", True), ("tanh", False)])
def test_the_activation_decides(activation: str, kinked: bool) -> None:
    module = seeded(lambda: mlp(sizes=[4, 5, 3], activation=activation))
    assert has_kinks(_nodes_of(module, normal(8, 4), torch.arange(8) % 3)) is kinked


def test_built_in_networks_are_told_apart() -> None:
    words = torch.arange(24).reshape(4, 6) % 5
    language = seeded(lambda: gpt(vocab_size=5, context=6, width=8, layers=1, heads=2))
    assert not has_kinks(_nodes_of(language, words, words))
    images = seeded(lambda: cnn(in_channels=1, channels=[2], classes=3, activation="relu"))
    assert has_kinks(_nodes_of(images, normal(4, 1, 8, 8), torch.arange(4) % 3))
