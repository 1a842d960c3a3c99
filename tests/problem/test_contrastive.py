"""The contrastive loss within a batch: its formula, and that the batch is part of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from curvtool.problem.objective import Objective
from tests.problem.losses import EPS, Returning, batch_of, dict_of, loss_of, normal
from tests.problem.sentences import refusal

X, Y = normal(6, 4), normal(6, 4, seed=1)


class Towers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Linear(4, 3, bias=False)
        self.text = nn.Linear(4, 3, bias=False)
        self.image.weight.data = normal(3, 4, seed=2)
        self.text.weight.data = normal(3, 4, seed=3)
        self.logit_scale = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

    def forward(self, pixels: Tensor, words: Tensor) -> Any:
        return self.image(pixels), self.text(words)


def info_nce(a: Tensor, b: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Both directions, one example at a time."""
    a, b = F.normalize(a), F.normalize(b)
    rows, columns = [], []
    for i in range(len(a)):
        to_b = torch.stack([factor * (a[i] @ b[j]) for j in range(len(b))])
        to_a = torch.stack([factor * (a[j] @ b[i]) for j in range(len(a))])
        rows.append(to_b.logsumexp(0) - to_b[i])
        columns.append(to_a.logsumexp(0) - to_a[i])
    return torch.stack(rows).mean(), torch.stack(columns).mean()


@pytest.mark.parametrize("symmetric", [True, False])
def test_it_is_info_nce(symmetric: bool) -> None:
    model = Towers()
    loss = loss_of("contrastive", temperature=0.5, symmetric=symmetric)
    value = loss(model, batch_of(X, Y), score=True)
    rows, columns = info_nce(model.image(X), model.text(Y), 2.0)
    expected = (rows + columns) / 2 if symmetric else rows
    # Six terms of six exponentials of size up to e^2.
    assert abs(float((value.mean - expected).detach())) <= 1e3 * EPS
    assert value.weight == value.score.counted == 6


def test_the_scale_may_be_a_parameter_or_an_output() -> None:
    model = Towers()
    by_name = loss_of("contrastive", scale="logit_scale")(model, batch_of(X, Y), score=True)
    rows, columns = info_nce(model.image(X), model.text(Y), float(model.logit_scale.detach().exp()))
    assert abs(float((by_name.mean - (rows + columns) / 2).detach())) <= 1e3 * EPS
    (slope,) = torch.autograd.grad(by_name.mean, model.logit_scale)
    assert float(slope.abs()) > 0
    three = Returning(lambda x: (x, Y, model.logit_scale.exp()))
    as_output = loss_of("contrastive")(three, batch_of(X), score=True)
    same = loss_of("contrastive", temperature=1 / float(model.logit_scale.detach().exp()))
    assert abs(float((as_output.mean - same(three, batch_of(X)).mean).detach())) <= 1e3 * EPS


def test_outputs_are_found_beside_their_similarities_or_named() -> None:
    def clip(x: Tensor) -> dict[str, Tensor]:
        return {"logits_per_image": x @ Y.T, "text_embeds": x, "image_embeds": Y, "more": x[0]}

    def two(x: Tensor) -> dict[str, Tensor]:
        return {"a": x, "b": Y, "c": 2 * x + Y}

    plain = loss_of("contrastive", temperature=1.0)
    pair = plain(Returning(lambda x: (x, Y)), batch_of(X)).mean
    assert torch.equal(plain(Returning(clip), dict_of(x=X)).mean, pair)
    refusal(lambda: plain(Returning(two), batch_of(X)), came="there are 3", remedy="outputs=")
    named = loss_of("contrastive", temperature=1.0, outputs=["a", "b"])
    assert torch.equal(named(Returning(two), batch_of(X)).mean, pair)


def test_a_named_target_is_no_input() -> None:
    batch = dict_of(pixels=X, words=Y, kind=torch.zeros(6))
    loss = loss_of("contrastive", temperature=1.0, inputs=("pixels", "words"))
    assert loss(Towers(), batch).weight == 6


def test_the_batch_size_is_part_of_it_and_said() -> None:
    loss = loss_of("contrastive", temperature=1.0)

    def objective(size: int) -> Objective:
        whole = batch_of(X, Y)
        return Objective(
            Towers(),
            loss,
            [whole.part(i, i + size) for i in range(0, 6, size)],
            device=torch.device("cpu"),
            dtype=torch.float64,
        )

    by_four, by_six = objective(4), objective(6)
    assert by_four.couples
    assert any("batch size (4, the last 2) is part of this H" in n for n in by_four.notes)
    assert any("batch size (6) is part of this H" in n for n in by_six.notes)
    assert abs(by_four.evaluate().loss - by_six.evaluate().loss) > 0.1
    assert not by_six.halve_batches()


@pytest.mark.parametrize(
    ("kwargs", "make", "came", "remedy"),
    [
        ({}, lambda x: (x, Y), "neither a temperature nor a scale", "temperature = 0.07"),
        ({"scale": "logit_scael"}, lambda x: (x, Y), "has none", "Correct scale"),
        ({"temperature": 1.0}, lambda x: x, "there are 1", "outputs="),
        ({"temperature": 1.0}, lambda x: (x, Y[:, :2]), "(6, 2)", "Name others"),
        (
            {"temperature": 1.0, "outputs": ["a", "c"]},
            lambda x: {"a": x, "b": Y},
            "'c'",
            "Correct --output",
        ),
    ],
)
def test_outputs_that_are_no_pair(
    kwargs: dict[str, Any], make: Callable[[Tensor], object], came: str, remedy: str
) -> None:
    loss = loss_of("contrastive", **kwargs)
    refusal(lambda: loss(Returning(make), batch_of(X), score=True), came=came, remedy=remedy)


@pytest.mark.parametrize(
    ("kwargs", "came", "remedy"),
    [
        ({"temperature": 0}, "got 0", "0.07"),
        ({"temperature": "a"}, "'a'", "0.07"),
        ({"temperature": 1, "scale": "s"}, "both", "Leave one out"),
        ({"outputs": ["a"]}, "['a']", "image_embeds"),
        ({"outputs": "ab"}, "'ab'", "image_embeds"),
    ],
)
def test_settings_that_cannot_be(kwargs: dict[str, Any], came: str, remedy: str) -> None:
    refusal(lambda: loss_of("contrastive", **kwargs), came=came, remedy=remedy)
