"""Losses of language models: the next token, and the masked ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from curvtool.problem.batch import Batch
from tests.problem.losses import (
    EPS,
    batch_of,
    cut,
    dataset_mean,
    dict_of,
    labels,
    loss_of,
    normal,
)
from tests.problem.sentences import refusal

V, N, T = 7, 6, 5
TOKENS = labels(V, N, T)


class Net(nn.Module):
    """Tokens to logits, each of its own token alone; the head is its last layer."""

    def __init__(self, *, named: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(V, 3, _weight=normal(V, 3))
        self.head = nn.Linear(3, V).double()
        self.head.weight.data = normal(V, 3, seed=2)
        self.head.bias.data = normal(V, seed=3)
        self.named = named

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
        del attention_mask  # each token is seen alone
        logits = self.head(self.embed(input_ids).tanh())
        return {"logits": logits, "cache": None} if self.named else logits


NET = Net()


def next_token_mean(tokens_NT: Tensor, labels_NT: Tensor) -> Tensor:
    """The formula of transformers: logits without the last, labels without the first."""
    logits = NET(tokens_NT)[:, :-1]
    return F.cross_entropy(logits.reshape(-1, V), labels_NT[:, 1:].reshape(-1))


CUTS = st.lists(st.integers(0, 100), max_size=4)


@settings(deadline=None)
@given(cuts=CUTS, seed=st.integers(0, 99), ignored=st.sampled_from([0.0, 0.4, 0.8]))
@pytest.mark.parametrize("head", [None, "head"])
def test_causal_lm_is_the_mean_over_the_targets_whatever_the_batches(
    cuts: list[int], seed: int, ignored: float, head: str | None
) -> None:
    tokens = labels(V, N, T, seed=seed)
    shown = tokens.where(labels(10, N, T, seed=seed, ignored=ignored) >= 0, -100)
    if bool((shown[:, 1:] == -100).all()):
        return
    kwargs: dict[str, Any] = {} if head is None else {"head": head, "chunk_tokens": 4}
    parts = cut(batch_of(tokens, shown), cuts)
    got = dataset_mean(loss_of("causal_lm", **kwargs), NET, parts)
    # At most 24 terms, each rounded some ten times.
    assert abs(got - float(next_token_mean(tokens, shown).detach())) <= 1e3 * EPS


def test_the_weight_is_the_number_of_targets_and_the_accuracy_is_of_these() -> None:
    shown = labels(V, N, T, seed=5, ignored=0.5)
    shown = TOKENS.where(shown != -100, -100)
    value = loss_of("causal_lm")(NET, batch_of(TOKENS, shown), score=True)
    counted = shown[:, 1:] != -100
    assert value.weight == value.score.counted == int(counted.sum())
    right = (NET(TOKENS)[:, :-1].argmax(-1) == shown[:, 1:]) & counted
    assert value.score.correct == int(right.sum())


def test_tokens_are_their_own_labels_and_padding_is_no_target() -> None:
    loss = loss_of("causal_lm")
    alone = loss(NET, batch_of(TOKENS), score=True)
    assert alone.weight == N * (T - 1)
    assert torch.equal(alone.mean, loss(NET, batch_of(TOKENS, TOKENS), score=True).mean)
    mask = (torch.arange(T) < torch.tensor([5, 4, 3, 2, 1, 5])[:, None]).long()
    padded = loss(Net(named=True), dict_of(input_ids=TOKENS, attention_mask=mask), score=True)
    assert padded.weight == 4 + 3 + 2 + 1 + 0 + 4
    expected = next_token_mean(TOKENS, TOKENS.masked_fill(mask == 0, -100))
    # As above.
    assert abs(float((padded.mean - expected).detach())) <= 1e3 * EPS
    other = loss_of("causal_lm", mask=None)
    batch = dict_of(input_ids=TOKENS, attention_mask=mask)
    assert other(Net(named=True), batch, score=True).weight == N * (T - 1)


def test_a_single_token_predicts_nothing() -> None:
    value = loss_of("causal_lm")(NET, batch_of(TOKENS[:, :1]), score=True)
    assert (value.weight, float(value.mean.detach())) == (0, 0)


@settings(deadline=None)
@given(cuts=CUTS, seed=st.integers(0, 99))
@pytest.mark.parametrize("head", [None, "head"])
def test_masked_lm_is_the_mean_over_the_masked_whatever_the_batches(
    cuts: list[int], seed: int, head: str | None
) -> None:
    shown = labels(V, N, T, seed=seed, ignored=0.8)
    if bool((shown == -100).all()):
        return
    kwargs: dict[str, Any] = {} if head is None else {"head": head}
    parts = cut(batch_of(TOKENS, shown), cuts)
    got = dataset_mean(loss_of("masked_lm", **kwargs), NET, parts)
    expected = F.cross_entropy(NET(TOKENS).reshape(-1, V), shown.reshape(-1))
    # At most 30 terms.
    assert abs(got - float(expected.detach())) <= 1e3 * EPS


def test_masked_lm_reads_transformers_names() -> None:
    shown = labels(V, N, T, seed=5, ignored=0.5)
    batch = dict_of(labels=shown, attention_mask=torch.ones(N, T), input_ids=TOKENS)
    value = loss_of("masked_lm")(Net(named=True), batch, score=True)
    assert value.weight == value.score.counted == int((shown != -100).sum())


AHEAD = torch.cat([TOKENS[:, 1:], torch.zeros(N, 1, dtype=torch.long)], 1)


@pytest.mark.parametrize(
    ("name", "batch", "came", "remedy"),
    [
        ("causal_lm", batch_of(TOKENS, AHEAD), "shifted by one already", "--loss cross_entropy"),
        ("causal_lm", batch_of(TOKENS, TOKENS[:, 0]), "int64 of shape (6,)", "the tokens"),
        ("causal_lm", batch_of(TOKENS, TOKENS * 1.0), "float32", "the tokens"),
        ("causal_lm", batch_of(TOKENS * 1.0), "float32", "inputs under [data]"),
        ("causal_lm", batch_of(TOKENS, TOKENS + 1), "largest label is 7", "from 0 to 6"),
        (
            "causal_lm",
            dict_of(input_ids=TOKENS, attention_mask=torch.ones(N, 2)),
            "(6, 2)",
            "mask=NAME",
        ),
        ("masked_lm", batch_of(TOKENS, TOKENS), "the input itself", "Mask tokens"),
        ("masked_lm", batch_of(TOKENS), "1 tensor", "(inputs, targets)"),
        ("masked_lm", dict_of(input_ids=TOKENS), "input_ids", 'targets = "..."'),
        ("masked_lm", batch_of(TOKENS[:, 0], TOKENS[:, 0]), "shape (6,)", "inputs under [data]"),
    ],
)
def test_data_that_do_not_fit(name: str, batch: Batch, came: str, remedy: str) -> None:
    sentence = refusal(lambda: loss_of(name)(NET, batch, score=True), came=came, remedy=remedy)
    assert name in sentence


def test_arguments_are_checked_under_the_losss_own_name() -> None:
    for name in ("causal_lm", "masked_lm"):
        said = refusal(lambda: loss_of(name, label_smoothing=2), came="2", remedy="[0, 1)")  # noqa: B023
        assert said.startswith(name)
        said = refusal(
            lambda: loss_of(name, head="body")(NET, batch_of(TOKENS, AHEAD - 100)),  # noqa: B023
            came="no 'body'",
            remedy="head",
        )
        assert said.startswith(name)
