"""A model's own loss: read from what it returns, its weight held against the batch's parts."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from curvtool.problem.batch import Batch
from curvtool.problem.objective import Objective
from tests.problem.losses import batch_of, cut, dataset_mean, dict_of, labels, loss_of, normal
from tests.problem.sentences import refusal

V, N, T = 7, 6, 5
TOKENS = labels(V, N, T)
# transformers take their losses in float32, whatever the model's type.
EPS32 = torch.finfo(torch.float32).eps


class Config:
    is_encoder_decoder = False


class Model(nn.Module):
    """As transformers write theirs: called by names, and with labels it returns its loss."""

    loss_type = "ForMaskedLM"
    divide_by = "counted"

    def __init__(self) -> None:
        super().__init__()
        self.config = Config()
        self.embed = nn.Embedding(V, 4, _weight=normal(V, 4))
        self.head = nn.Linear(4, V, bias=False).double()
        self.head.weight.data = normal(V, 4, seed=1)

    def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> Any:
        logits = self.head(self.embed(input_ids).tanh())
        loss = None
        if labels is not None:
            loss = self.mean(logits.float(), labels)
        return OrderedDict(loss=loss, logits=logits, past_key_values=None)

    def mean(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits.reshape(-1, V), labels.reshape(-1))


class Causal(Model):
    loss_type = "ForCausalLM"

    def mean(self, logits: Tensor, labels: Tensor) -> Tensor:
        return super().mean(logits[:, :-1], labels[:, 1:])


class PerExample(Model):
    def mean(self, logits: Tensor, labels: Tensor) -> Tensor:
        each = F.cross_entropy(logits.movedim(-1, 1), labels, reduction="none").sum(1)
        return each.mean()


class Regression(Model):
    def mean(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.mse_loss(logits[:, 0, 0], labels.to(logits.dtype))


class Coupled(Model):
    def mean(self, logits: Tensor, labels: Tensor) -> Tensor:
        return super().mean(logits - logits.mean(0), labels)


CUTS = st.lists(st.integers(0, 100), max_size=4)


@settings(deadline=None)
@given(cuts=CUTS, seed=st.integers(0, 99), ignored=st.sampled_from([0.0, 0.5]))
@pytest.mark.parametrize("kind", [Model, Causal])
def test_it_is_the_mean_over_the_counted_labels_whatever_the_batches(
    kind: type[Model], cuts: list[int], seed: int, ignored: float
) -> None:
    shown = labels(V, N, T, seed=seed, ignored=ignored)
    whole, model = dict_of(input_ids=TOKENS, labels=shown), kind()
    parts = [p for p in cut(whole, cuts) if bool((p.values["labels"][:, 1:] != -100).any())]  # type: ignore[call-overload]
    if sum(p.examples for p in parts) < N:
        return  # the mean over nothing is NaN, which such a model returns
    got = dataset_mean(loss_of("hf"), model, parts)
    expected = float(model(**whole.values)["loss"].detach())  # type: ignore[arg-type]
    # 30 terms of size 10 in float32, in two orders.
    assert abs(got - expected) <= 300 * EPS32 * 10


def test_weight_and_accuracy_are_of_the_counted_labels() -> None:
    shown = labels(V, N, T, seed=5, ignored=0.5)
    batch = dict_of(input_ids=TOKENS, labels=shown)
    value = loss_of("hf")(Model(), batch, score=True)
    counted = shown != -100
    assert value.weight == value.score.counted == int(counted.sum())
    value = loss_of("hf")(Causal(), batch, score=True)
    assert value.weight == value.score.counted == int(counted[:, 1:].sum())
    right = Causal()(TOKENS)["logits"][:, :-1].argmax(-1) == shown[:, 1:]
    assert value.score.correct == int((right & counted[:, 1:]).sum())


def test_the_weight_can_be_told() -> None:
    shown = labels(V, N, T, seed=5, ignored=0.5)
    batch = dict_of(input_ids=TOKENS, labels=shown)
    loss = loss_of("hf", weight="examples")
    value = loss(PerExample(), batch, score=True)
    assert (value.weight, value.score.correct) == (N, None)
    refusal(
        lambda: loss_of("hf")(PerExample(), batch, score=True),
        came="do not add up",
        remedy="weight=labels, next or examples",
    )
    named = Causal()
    named.loss_type = "SomethingNew"
    assert loss_of("hf", weight="next")(named, batch, score=True).weight == int(
        (shown[:, 1:] != -100).sum()
    )


def test_a_decoder_beside_an_encoder_shifts_no_labels() -> None:
    model = Model()
    model.loss_type = "ForConditionalGeneration"
    model.config.is_encoder_decoder = True
    shown = labels(V, N, T, seed=5, ignored=0.5)
    value = loss_of("hf")(model, dict_of(input_ids=TOKENS, labels=shown), score=True)
    assert value.weight == int((shown != -100).sum())


def test_real_labels_weigh_every_number_and_have_errors() -> None:
    value = loss_of("hf")(Regression(), dict_of(input_ids=TOKENS, labels=normal(N)), score=True)
    assert value.weight == N
    assert value.score.fit is None  # its logits are not the predictions alone


def test_examples_that_couple_are_refused_or_said() -> None:
    batch = dict_of(input_ids=TOKENS, labels=labels(V, N, T, seed=5))
    refusal(
        lambda: loss_of("hf")(Coupled(), batch, score=True),
        came="do not add up",
        remedy="couples=true",
    )
    loss = loss_of("hf", couples=True)
    assert loss(Coupled(), batch, score=True).weight == N * T
    objective = Objective(Coupled(), loss, [batch], device=torch.device("cpu"), dtype=torch.float64)
    assert any("batch size (6) is part of this H" in note for note in objective.notes)


def test_entries_may_have_other_names() -> None:
    shown = labels(V, N, T, seed=5)
    batch = dict_of(input_ids=TOKENS, goal=shown, weights=normal(N))
    loss = loss_of("hf", inputs=("input_ids",), targets="goal")
    plain = loss_of("hf")(Model(), dict_of(input_ids=TOKENS, labels=shown))
    assert torch.equal(loss(Model(), batch, score=True).mean, plain.mean)
    goal = dict_of(input_ids=TOKENS, goal=shown)
    assert torch.equal(loss_of("hf", targets="goal")(Model(), goal, score=True).mean, plain.mean)
    tuples = Model()
    tuples.forward = lambda **kw: tuple(Model.forward(tuples, **kw).values())  # type: ignore[method-assign]
    batch = dict_of(input_ids=TOKENS, labels=shown)
    assert torch.equal(loss_of("hf")(tuples, batch, score=True).mean, plain.mean)


@pytest.mark.parametrize(
    ("batch", "came", "remedy"),
    [
        (batch_of(TOKENS, TOKENS), "a tuple of 2", "Yield dicts"),
        (dict_of(input_ids=TOKENS), "with logits", "Add labels"),
        (dict_of(input_ids=TOKENS, labels=TOKENS, more=TOKENS), "more", "belong together"),
    ],
)
def test_batches_that_do_not_fit(batch: Batch, came: str, remedy: str) -> None:
    refusal(lambda: loss_of("hf")(Model(), batch, score=True), came=came, remedy=remedy)


@pytest.mark.parametrize(
    ("kwargs", "came", "remedy"),
    [
        ({"weight": "tokens"}, "'tokens'", "Leave it out"),
        ({"ignore_index": "a"}, "'a'", "-100"),
        ({"couples": 1}, "got 1", "Correct it"),
    ],
)
def test_settings_that_cannot_be(kwargs: dict[str, Any], came: str, remedy: str) -> None:
    refusal(lambda: loss_of("hf", **kwargs), came=came, remedy=remedy)


def test_names_under_data_that_are_not_there() -> None:
    loss = loss_of("hf", inputs=("ids",), targets="labels")
    batch = dict_of(input_ids=TOKENS, labels=TOKENS)
    refusal(lambda: loss(Model(), batch), came="input_ids, labels", remedy="under [data]")
