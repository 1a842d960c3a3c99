"""Which of several outputs a loss reads, and how a batch's entries reach the model."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from curvtool.problem.batch import Batch
from tests.problem.losses import Returning, batch_of, dict_of, loss_of, normal
from tests.problem.sentences import refusal

X, Y = normal(3, 2), normal(3, 2, seed=1)
Pair = namedtuple("Pair", ["mean", "spread"])


@dataclass
class Answer:
    mean: Tensor
    spread: Tensor


FORMS: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "dict": (lambda x: {"mean": x, "spread": 2 * x}, "mean"),
    "a model's output class": (lambda x: OrderedDict(mean=x, spread=2 * x), "mean"),
    "named tuple": (lambda x: Pair(x, 2 * x), "mean"),
    "tuple": (lambda x: (x, 2 * x), "0"),
    "list": (lambda x: [x, 2 * x], "0"),
    "dataclass": (lambda x: Answer(x, 2 * x), "mean"),
    "namespace": (lambda x: SimpleNamespace(mean=x, spread=2 * x), "mean"),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_named_output_is_read(form: str) -> None:
    make, name = FORMS[form]
    second = {"mean": "spread", "0": "1"}[name]
    batch = batch_of(X, Y)
    for output, factor in ((name, 1), (second, 2)):
        value = loss_of("mse", output=output)(Returning(make), batch, score=True)
        assert torch.equal(value.mean, loss_of("mse")(nn.Identity(), batch_of(factor * X, Y)).mean)


@pytest.mark.parametrize("form", FORMS)
def test_several_outputs_are_listed_where_none_is_named(form: str) -> None:
    make, name = FORMS[form]
    second = {"mean": "spread", "0": "1"}[name]
    sentence = refusal(
        lambda: loss_of("mse")(Returning(make), batch_of(X, Y)),
        came=f"{name} (float64 of shape (3, 2)), {second} (float64",
        remedy=f"--output {name}",
    )
    assert f'output = "{name}" under [model]' in sentence


@pytest.mark.parametrize(
    "make",
    [
        lambda x: {"only": x},
        lambda x: (x,),
        lambda x: {"only": x, "cache": [x, x], "none": None},
        lambda x: {"hidden": 2 * x, "logits": x},
    ],
)
def test_the_only_tensor_or_the_logits_need_no_name(make: Callable[[Tensor], object]) -> None:
    value = loss_of("mse")(Returning(make), batch_of(X, Y))
    assert torch.equal(value.mean, loss_of("mse")(nn.Identity(), batch_of(X, Y)).mean)


@pytest.mark.parametrize(
    ("output", "make", "came", "remedy"),
    [
        ("a", lambda x: x, "one tensor", "Leave --output"),
        ("maen", FORMS["dict"][0], "none of that name", 'Did you mean "mean"?'),
        ("2", FORMS["tuple"][0], "none of that name", "Correct --output"),
        ("cache", lambda x: {"y": x, "cache": [x]}, "that is list of 1", "y (float64"),
        (None, lambda _: None, "NoneType", "--loss file.py:loss"),
        (None, lambda x: {"cache": [x]}, "dict of 1", "--loss file.py:loss"),
        (None, lambda _: "text", "str", "--loss file.py:loss"),
    ],
)
def test_outputs_that_are_not_there(
    output: str | None, make: Callable[[Tensor], object], came: str, remedy: str
) -> None:
    loss = loss_of("mse", output=output)
    refusal(lambda: loss(Returning(make), batch_of(X, Y)), came=came, remedy=remedy)


def test_a_head_may_be_behind_one_of_several_outputs() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(2, 4).double()

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"hidden": x.tanh(), "logits": self.head(x.tanh())}

    batch = batch_of(X, torch.tensor([0, 3, 1]))
    model = Net()
    whole = loss_of("cross_entropy")(model, batch).mean
    by_chunks = loss_of("cross_entropy", head="head", chunk_tokens=2)(model, batch).mean
    # Three terms of four exponentials.
    assert abs(float((whole - by_chunks).detach())) <= 100 * torch.finfo(torch.float64).eps


# How entries of a dict reach the model.


class Named(nn.Module):
    def forward(self, a: Tensor, b: Tensor | None = None, *, c: Tensor | None = None) -> Tensor:
        return a - (0 if b is None else 2 * b) + (0 if c is None else 3 * c)


class Gathering(nn.Module):
    def forward(self, *parts: Tensor) -> Tensor:
        return parts[0] - 2 * parts[1]


A, B, C = (normal(3, seed=i) for i in range(3))


@pytest.mark.parametrize(
    ("model", "inputs", "batch", "expected"),
    [
        (Named(), ("a", "b"), dict_of(a=A, b=B, t=C), A - 2 * B),
        (Named(), ("b", "a"), dict_of(a=A, b=B, t=C), A - 2 * B),
        (Named(), ("a", "c"), dict_of(a=A, c=B, t=C), A + 3 * B),
        (Named(), ("p", "q"), dict_of(p=A, q=B, t=C), A - 2 * B),
        (Named(), ("b", "q"), dict_of(q=A, b=B, t=C), B - 2 * A),
        (Gathering(), ("b", "a"), dict_of(a=A, b=B, t=C), B - 2 * A),
    ],
)
def test_inputs_go_by_name_where_the_model_has_arguments_of_these_names(
    model: nn.Module, inputs: tuple[str, ...], batch: Batch, expected: Tensor
) -> None:
    value = loss_of("mse", inputs=inputs, targets="t")(model, batch, score=True)
    assert torch.equal(value.mean, (expected - C).square().mean())


def test_labels_and_arguments_need_no_names() -> None:
    value = loss_of("mse")(Named(), dict_of(c=B, labels=C, a=A), score=True)
    assert torch.equal(value.mean, (A + 3 * B - C).square().mean())
    refusal(
        lambda: loss_of("mse")(Named(), dict_of(a=A, d=B, labels=C)),
        came="a, d, labels",
        remedy='inputs = "..."',
    )


def test_tokens_beyond_the_vocabulary_are_told() -> None:
    model = nn.Sequential(nn.Embedding(5, 2), nn.Linear(2, 3))
    loss = loss_of("cross_entropy")
    batch = batch_of(torch.tensor([[1, 7]]), torch.tensor([[0, 1]]))
    sentence = refusal(
        lambda: loss(model, batch, score=True), came="IndexError", remedy="different vocabularies"
    )
    assert "largest number in the data is 7, and the embedding '0' has 5 rows" in sentence
