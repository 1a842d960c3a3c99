"""Weights of examples and predictions: a weight is as many copies, and a mask is a weight of 0."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from curvtool.problem.batch import Batch
from curvtool.problem.losses import resolve_loss
from curvtool.problem.spec import DataSpec, LossSpec, ModelSpec, ProblemSpec
from tests.objectives import CPU, ORIGIN, builtin, labels, normal
from tests.problem.sentences import refusal

N, T, C = 8, 3, 4
EPS = torch.finfo(torch.float64).eps
COUNTS_N = torch.tensor([2, 0, 1, 3, 1, 0, 2, 1])


class Outputs(torch.nn.Module):
    """Outputs that are parameters' product with the inputs: the loss's own curvature shows."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(normal(*shape, seed=7))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


CASES: dict[str, tuple[str, dict[str, Any], Tensor, Tensor]] = {
    "classes": ("cross_entropy", {"label_smoothing": 0.1}, normal(N, 5), labels(C, N)),
    "class_weights": (
        "cross_entropy",
        {"class_weights": [1.0, 2.0, 0.5, 3.0]},
        normal(N, 5),
        labels(C, N, ignored=0.2),
    ),
    "tokens": ("cross_entropy", {}, normal(N, T, 5), labels(C, N, T, ignored=0.2)),
    "shares": ("cross_entropy", {}, normal(N, 5), normal(N, C).softmax(-1)),
    "mse": ("mse", {}, normal(N, 5), normal(N, C)),
    "huber": ("huber", {"delta": 0.7}, normal(N, 5), normal(N, C)),
    "bce": ("bce", {"pos_weight": 2.0}, normal(N, 5), (normal(N, C) > 0).double()),
}


def value(name: str, kwargs: dict[str, Any], batch: Batch) -> tuple[Tensor, float, Tensor, Any]:
    """Mean, weight, Hessian by torch, and score."""
    module = Outputs(5, C)
    loss = builtin(name, **kwargs)
    found = loss(module, batch, score=True)
    (gradient,) = torch.autograd.grad(found.mean, [module.weight], create_graph=True)
    rows = [
        torch.autograd.grad(g, module.weight, retain_graph=True)[0].reshape(-1)
        for g in gradient.reshape(-1)
    ]
    return found.mean.detach(), found.weight, torch.stack(rows), found.score


@pytest.mark.parametrize("case", CASES)
def test_a_weight_counts_as_many_copies(case: str) -> None:
    name, kwargs, x, y = CASES[case]
    weighted = value(name, kwargs, Batch((x, y), N, COUNTS_N.double()))
    copies = [t.repeat_interleave(COUNTS_N, dim=0) for t in (x, y)]
    copied = value(name, kwargs, Batch(tuple(copies), len(copies[0])))
    # Sums of at most N T C terms in another order: 100 roundings of what they are of.
    bound = N * T * C * EPS * 10
    assert abs(weighted[0] - copied[0]) <= bound * abs(copied[0])
    assert abs(weighted[1] - copied[1]) <= bound * copied[1]
    assert (weighted[2] - copied[2]).abs().max() <= bound * copied[2].abs().max()


@pytest.mark.parametrize("case", CASES)
def test_a_mask_leaves_examples_out(case: str) -> None:
    name, kwargs, x, y = CASES[case]
    mask_N = COUNTS_N > 0
    masked = value(name, kwargs, Batch((x, y), N, mask_N.double()))
    left = value(name, kwargs, Batch((x[mask_N], y[mask_N]), int(mask_N.sum())))
    bound = N * T * C * EPS * 10
    assert abs(masked[0] - left[0]) <= bound * abs(left[0])
    assert masked[1] == pytest.approx(left[1], rel=bound)
    assert masked[3].correct == left[3].correct
    assert masked[3].counted == left[3].counted


def test_tokens_have_weights_of_their_own() -> None:
    name, kwargs, x, y = CASES["tokens"]
    mask_NT = labels(2, N, T, seed=5)
    masked = value(name, kwargs, Batch((x, y), N, mask_NT.double()))
    ignored = value(name, kwargs, Batch((x, y.where(mask_NT > 0, -100)), N))
    assert masked[1] == ignored[1]
    assert abs(masked[0] - ignored[0]) <= 100 * EPS * abs(ignored[0])
    assert masked[3].counted == ignored[3].counted


def test_parts_of_a_batch_have_its_weights() -> None:
    weights_N = COUNTS_N.double()
    whole = Batch((normal(N, 5), labels(C, N)), N, weights_N)
    first, second = whole.halves()
    assert torch.equal(torch.cat([first.tensors[2], second.tensors[2]]), weights_N)
    moved = whole.moved(CPU, torch.float32)
    assert moved.weights is not None
    assert moved.weights.dtype == torch.float32


def test_weights_of_zero_only_make_a_batch_of_no_weight() -> None:
    batch = Batch((normal(N, 5), labels(C, N)), N, torch.zeros(N, dtype=torch.float64))
    assert builtin("cross_entropy")(Outputs(5, C), batch, score=True).weight == 0


@pytest.mark.parametrize(
    ("loss", "kwargs", "came", "remedy"),
    [
        ("contrastive", {"temperature": 1.0}, "no sum over predictions", "loss of your own"),
    ],
)
def test_losses_that_weigh_nothing(
    loss: str, kwargs: dict[str, Any], came: str, remedy: str
) -> None:
    data = DataSpec("npz:d.npz", ORIGIN, weights="w")
    problem = ProblemSpec(ModelSpec("mlp", ORIGIN), data, LossSpec(loss, ORIGIN, kwargs))
    refusal(lambda: resolve_loss(problem), came=came, remedy=remedy)


def test_weights_that_do_not_fit() -> None:
    batch = Batch((normal(N, 5), labels(C, N)), N, torch.ones(N, T, dtype=torch.float64))
    loss = builtin("cross_entropy")
    refusal(lambda: loss(Outputs(5, C), batch, score=True), came="(8, 3)", remedy="weights")
    head = builtin("cross_entropy", head="0")
    net = torch.nn.Sequential(torch.nn.Linear(5, C).double())
    one = Batch((normal(N, 5), labels(C, N)), N, torch.ones(N, dtype=torch.float64))
    refusal(lambda: head(net, one, score=True), came="by chunks", remedy="Leave head out")
