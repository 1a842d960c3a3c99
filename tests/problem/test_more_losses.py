"""Soft targets of cross_entropy, and huber: torch's own formulas as truth."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.problem.losses import EPS, batch_of, cut, dataset_mean, labels, loss_of, normal
from tests.problem.sentences import refusal

IDENTITY = nn.Identity()
CUTS = st.lists(st.integers(0, 100), max_size=6)


@settings(deadline=None)
@given(
    cuts=CUTS,
    seed=st.integers(0, 99),
    kwargs=st.fixed_dictionaries(
        {},
        optional={
            "class_weights": st.lists(st.floats(0.01, 9), min_size=4, max_size=4),
            "label_smoothing": st.floats(0, 0.9),
        },
    ),
    positions=st.integers(0, 2),
)
def test_soft_targets_are_torchs_mean_whatever_the_batches(
    cuts: list[int], seed: int, kwargs: dict[str, Any], positions: int
) -> None:
    shape = (9, positions, 4) if positions else (9, 4)
    logits, shares = normal(*shape, seed=seed), normal(*shape, seed=seed + 1).softmax(-1)
    weights = kwargs.get("class_weights")
    truth = F.cross_entropy(
        logits.reshape(-1, 4),
        shares.reshape(-1, 4),
        weight=None if weights is None else torch.tensor(weights, dtype=torch.float64),
        label_smoothing=kwargs.get("label_smoothing", 0.0),
    )
    loss = loss_of("cross_entropy", class_axis="last" if positions else "auto", **kwargs)
    got = dataset_mean(loss, IDENTITY, cut(batch_of(logits, shares), cuts))
    # At most 72 terms of size up to 9 * 10, each rounded a few times.
    assert abs(got - float(truth)) <= 1e4 * EPS


def test_soft_targets_with_classes_first() -> None:
    logits, shares = normal(5, 3, 2), normal(5, 3, 2, seed=1).softmax(1)
    value = loss_of("cross_entropy", class_axis="first")(IDENTITY, batch_of(logits, shares))
    assert value.weight == 10
    # 30 terms.
    assert abs(float(value.mean - F.cross_entropy(logits, shares))) <= 100 * EPS


def test_one_hot_targets_are_labels() -> None:
    logits, y = normal(6, 4), labels(4, 6)
    loss = loss_of("cross_entropy")
    hard = loss(IDENTITY, batch_of(logits, y), score=True)
    soft = loss(IDENTITY, batch_of(logits, F.one_hot(y, 4).float()), score=True)
    assert (soft.weight, soft.score) == (hard.weight, hard.score)
    assert abs(float(soft.mean - hard.mean)) <= 100 * EPS
    shares = batch_of(logits, normal(6, 4).softmax(1))
    assert loss(IDENTITY, shares, score=True).score.correct is None


@pytest.mark.parametrize(
    ("kwargs", "targets", "came", "remedy"),
    [
        ({}, normal(4, 3), "a row sums to", "Normalise them"),
        ({}, torch.ones(4, 3), "sums to 3", "Normalise them"),
        ({}, torch.ones(4, 2) / 2, "float32 of shape (4, 2)", "mse or bce"),
        ({"head": "head"}, torch.ones(4, 3) / 3, "without a head", "astype(int64)"),
    ],
)
def test_soft_targets_that_are_none(
    kwargs: dict[str, Any], targets: Tensor, came: str, remedy: str
) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(5, 3).double()

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head(x)
            return logits

    loss = loss_of("cross_entropy", **kwargs)
    batch = batch_of(normal(4, 5), targets)
    refusal(lambda: loss(Net(), batch, score=True), came=came, remedy=remedy)


def test_the_class_axis_of_soft_images_has_to_be_told() -> None:
    batch = batch_of(normal(2, 3, 4), normal(2, 3, 4).softmax(1))
    refusal(
        lambda: loss_of("cross_entropy")(IDENTITY, batch),
        came="class_axis is auto",
        remedy='class_axis = "last"',
    )


@settings(deadline=None)
@given(cuts=CUTS, seed=st.integers(0, 99), delta=st.floats(0.01, 5))
def test_huber_is_torchs_mean_whatever_the_batches(
    cuts: list[int], seed: int, delta: float
) -> None:
    outputs, targets = normal(7, 3, seed=seed), normal(7, 3, seed=seed + 1)
    truth = F.huber_loss(outputs, targets, delta=delta)
    got = dataset_mean(
        loss_of("huber", delta=delta), IDENTITY, cut(batch_of(outputs, targets), cuts)
    )
    # 21 terms of size up to 10.
    assert abs(got - float(truth)) <= 1e3 * EPS


@pytest.mark.parametrize("delta", [0, -1, float("inf"), "a", True])
def test_deltas_that_cannot_be(delta: object) -> None:
    refusal(lambda: loss_of("huber", delta=delta), came=repr(delta), remedy="delta = 1.0")


@pytest.mark.parametrize("name", ["huber", "cross_entropy"])
def test_second_derivatives_agree_in_both_modes(name: str) -> None:
    # Half of the differences are beyond huber's square.
    outputs, targets = normal(6, 3), normal(6, 3, seed=1)
    if name == "cross_entropy":
        targets = targets.softmax(-1)
    loss, direction = loss_of(name), normal(6, 3, seed=2)

    def mean(x: Tensor) -> Tensor:
        return loss(IDENTITY, batch_of(x, targets)).mean

    leaf = outputs.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(mean(leaf), leaf, create_graph=True)
    (reverse,) = torch.autograd.grad(gradient, leaf, direction)
    forward = torch.func.jvp(torch.func.grad(mean), (outputs,), (direction,))[1]
    assert float((forward - reverse).norm()) <= 100 * EPS
    h = 1e-6
    ahead, behind = (torch.func.grad(mean)(outputs + s * h * direction) for s in (1, -1))
    # h^2 of third derivatives, and eps / h of the gradient.
    assert float(((ahead - behind) / (2 * h) - reverse).norm()) <= 1e-8
