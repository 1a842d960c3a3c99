"""Products of the newer losses and of models with several outputs, beside the dense truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from curvtool.operators.hessian import HessianOperator
from curvtool.operators.preflight import preflight
from curvtool.problem.models import gpt, mlp
from tests.objectives import (
    Case,
    N,
    dense_hessian,
    dense_product,
    labels,
    normal,
    seeded,
)
from tests.problem.losses import loss_of

EPS = torch.finfo(torch.float64).eps
WAYS = ("retained-graph", "reverse-over-reverse", "forward-over-reverse")
X, TOKENS = normal(N, 4, seed=2), labels(6, N, 4, seed=4)
MASKED = labels(6, N, 4, seed=5, ignored=0.6)
ATTENDED = (torch.arange(4) < 1 + labels(4, N, seed=6)[:, None]).long()


class Several(nn.Module):
    """Logits beside what led to them."""

    def __init__(self, inner: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.inner = inner()

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
        del attention_mask  # padding is last, and the attention is causal
        logits = self.inner(input_ids)
        return {"hidden": logits.tanh(), "logits": logits, "cache": [None]}


class Towers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image, self.text = nn.Linear(4, 3), mlp(sizes=[4, 3, 3], activation="tanh")
        self.logit_scale = nn.Parameter(torch.zeros(()))

    def forward(self, pixels: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        return self.image(pixels), self.text(words)


def small_gpt() -> nn.Module:
    return gpt(vocab_size=6, context=4, width=4, layers=1, heads=2, mlp_ratio=2)


def small_mlp() -> nn.Module:
    return mlp(sizes=[4, 5, 3], activation="tanh")


def next_token(model: nn.Module, values: Any) -> Tensor:
    tokens = values["input_ids"]
    targets = tokens.masked_fill(values["attention_mask"] == 0, -100)[:, 1:]
    return F.cross_entropy(model(tokens)["logits"][:, :-1].flatten(0, 1), targets.flatten())


def of_pairs(model: nn.Module, values: Any) -> Tensor:
    a, b = (F.normalize(t) for t in model(*values))
    scale: Tensor = dict(model.named_parameters())["logit_scale"]
    similar = scale.exp() * a @ b.T
    own = torch.arange(len(a))
    return (F.cross_entropy(similar, own) + F.cross_entropy(similar.T, own)) / 2


SOFT, REAL = normal(N, 3, seed=7).softmax(1), normal(N, 3, seed=8)
PADDED = {"input_ids": TOKENS, "attention_mask": ATTENDED}
CASES = {
    "soft targets": Case(
        small_mlp,
        loss_of("cross_entropy", label_smoothing=0.1),
        (X, SOFT),
        lambda m, v: F.cross_entropy(m(v[0]), v[1], label_smoothing=0.1),
    ),
    "huber": Case(
        small_mlp,
        loss_of("huber", delta=0.8),
        (X, REAL),
        lambda m, v: torch.where(
            (m(v[0]) - v[1]).abs() <= 0.8,
            (m(v[0]) - v[1]).square() / 2,
            0.8 * ((m(v[0]) - v[1]).abs() - 0.4),
        ).mean(),
    ),
    "causal_lm": Case(lambda: Several(small_gpt), loss_of("causal_lm"), PADDED, next_token),
    "causal_lm with a head": Case(
        lambda: Several(small_gpt),
        loss_of("causal_lm", head="inner.head", chunk_tokens=5),
        PADDED,
        next_token,
    ),
    "masked_lm": Case(
        lambda: Several(small_gpt),
        loss_of("masked_lm"),
        (TOKENS, MASKED),
        lambda m, v: F.cross_entropy(m(v[0])["logits"].flatten(0, 1), v[1].flatten()),
    ),
    "contrastive": Case(
        Towers,
        loss_of("contrastive", scale="logit_scale"),
        (X, normal(N, 4, seed=9)),
        of_pairs,
    ),
    "another output": Case(
        lambda: Several(small_mlp),
        loss_of("mse", output="hidden"),
        (X, REAL),
        lambda m, v: (m(v[0])["hidden"] - v[1]).square().mean(),
    ),
}


# Examples a batch. Pairs are told apart within theirs: one of all is what the formula says. And a
# batch costs a gpt 15 ms a product whatever its size: two uneven ones instead of four.
BATCH = {"contrastive": N} | dict.fromkeys(("causal_lm", "causal_lm with a head", "masked_lm"), 16)
# Forward mode through a gpt takes minutes, and is among the conformance tests.
SLOW = {("causal_lm", "forward-over-reverse"), ("masked_lm", "forward-over-reverse")}


@pytest.mark.parametrize(("name", "way"), sorted({(n, w) for n in CASES for w in WAYS} - SLOW))
def test_the_product_is_that_of_the_dense_matrix(name: str, way: str) -> None:
    case = CASES[name]
    objective = case.objective(BATCH.get(name, 7))
    checked = preflight(objective, way=way, seed=0, examples=objective.num_examples)
    assert all(check.passed is not False for check in checked.checks)
    H_PP = dense_hessian(seeded(case.build).double(), lambda m: case.mean(m, case.values))
    found_PP = dense_product(HessianOperator(objective, way=way).matvec, objective.size)
    # Sums of at most 92 terms through networks of some hundred roundings.
    assert float((found_PP - H_PP).norm()) <= 1e4 * EPS * float(H_PP.norm())
