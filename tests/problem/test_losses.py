"""Losses: their weights as laws, torch's own formulas as truth, and sentences for the rest."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from curvtool.errors import HookError, InputError
from curvtool.problem.batch import Batch, BatchValues, Loss
from tests.problem.losses import EPS, batch_of, labels, loss_of, normal
from tests.problem.sentences import refusal

IDENTITY = nn.Identity()


def dataset_mean(loss: Loss, outputs: Tensor, targets: Tensor, cuts: list[int]) -> float:
    """The design's mean: weight times loss over the sum of weights, batches of no weight left."""
    total = weights = 0.0
    edges = [0, *sorted({cut % len(outputs) for cut in cuts} - {0}), len(outputs)]
    for start, stop in pairwise(edges):
        value = loss(IDENTITY, batch_of(outputs[start:stop], targets[start:stop]), score=True)
        if value.weight:
            total, weights = total + value.weight * float(value.mean), weights + value.weight
        else:
            assert not bool(value.mean.isnan())
    return total / weights if weights else 0.0


CUTS = st.lists(st.integers(0, 100), max_size=6)
CLASS_KWARGS = st.fixed_dictionaries(
    {},
    optional={
        "class_weights": st.lists(st.floats(0.01, 9), min_size=4, max_size=4),
        "label_smoothing": st.floats(0, 0.9),
    },
)


@settings(deadline=None)
@given(cuts=CUTS, kwargs=CLASS_KWARGS, seed=st.integers(0, 99), positions=st.integers(0, 3))
def test_cross_entropy_is_torchs_mean_whatever_the_batches(
    cuts: list[int], kwargs: dict[str, Any], seed: int, positions: int
) -> None:
    shape = (9, positions) if positions else (9,)
    logits = normal(*shape, 4, seed=seed)
    targets = labels(4, *shape, seed=seed, ignored=0.4)
    loss = loss_of("cross_entropy", class_axis="last" if positions else "auto", **kwargs)
    weights = kwargs.get("class_weights")
    truth = F.cross_entropy(
        logits.reshape(-1, 4),
        targets.reshape(-1),
        weight=None if weights is None else torch.tensor(weights, dtype=torch.float64),
        label_smoothing=kwargs.get("label_smoothing", 0.0),
    )
    if bool((targets == -100).all()):
        return
    # At most 27 terms of size up to 9 * 10, each rounded a few times.
    assert abs(dataset_mean(loss, logits, targets, cuts) - float(truth)) <= 1e4 * EPS


@settings(deadline=None)
@given(cuts=CUTS, seed=st.integers(0, 99), weighted=st.booleans())
def test_nll_is_torchs_mean_whatever_the_batches(
    cuts: list[int], seed: int, weighted: bool
) -> None:
    log_probs = normal(9, 4, seed=seed).log_softmax(-1)
    targets = labels(4, 9, seed=seed)
    kwargs: dict[str, Any] = {"class_weights": [0.5, 1, 2, 4]} if weighted else {}
    weight = torch.tensor([0.5, 1, 2, 4], dtype=torch.float64) if weighted else None
    truth = F.nll_loss(log_probs, targets, weight=weight)
    got = dataset_mean(loss_of("nll", **kwargs), log_probs, targets, cuts)
    assert abs(got - float(truth)) <= 1e3 * EPS


@settings(deadline=None)
@given(cuts=CUTS, seed=st.integers(0, 99), shape=st.sampled_from([(7,), (7, 1), (7, 2, 3)]))
def test_mse_and_bce_are_torchs_means_whatever_the_batches(
    cuts: list[int], seed: int, shape: tuple[int, ...]
) -> None:
    outputs, targets = normal(*shape, seed=seed), labels(2, *shape, seed=seed)
    truth = F.mse_loss(outputs, targets.double())
    assert abs(dataset_mean(loss_of("mse"), outputs, targets, cuts) - float(truth)) <= 1e3 * EPS
    for factor in (None, 2.5):
        pos_weight = None if factor is None else torch.tensor(factor, dtype=torch.float64)
        truth = F.binary_cross_entropy_with_logits(outputs, targets.double(), pos_weight=pos_weight)
        loss = loss_of("bce", pos_weight=factor)
        assert abs(dataset_mean(loss, outputs, targets, cuts) - float(truth)) <= 1e3 * EPS


def test_ragged_sequences_weigh_their_tokens() -> None:
    short, long = normal(2, 3, 5), normal(2, 7, 5, seed=3)
    targets = labels(5, 2, 3), labels(5, 2, 7)
    loss = loss_of("cross_entropy")
    values = [loss(IDENTITY, batch_of(*pair)) for pair in zip((short, long), targets, strict=True)]
    assert [value.weight for value in values] == [6, 14]


@pytest.mark.parametrize("kwargs", [{}, {"class_weights": [1.0, 1.0, 1.0]}])
def test_a_batch_with_nothing_to_count_weighs_nothing(kwargs: dict[str, Any]) -> None:
    outputs = normal(4, 3).requires_grad_()
    value = loss_of("cross_entropy", **kwargs)(
        IDENTITY, batch_of(outputs, torch.full((4,), -100)), score=True
    )
    assert (value.weight, float(value.mean.detach()), value.score.counted) == (0, 0, 0)
    (gradient,) = torch.autograd.grad(value.mean, outputs)
    assert not bool(gradient.any())


def test_classes_of_weight_zero_weigh_nothing() -> None:
    loss = loss_of("cross_entropy", class_weights=[0.0, 2.0])
    assert loss(IDENTITY, batch_of(normal(3, 2), torch.tensor([0, 0, 0]))).weight == 0
    assert loss(IDENTITY, batch_of(normal(3, 2), torch.tensor([0, 1, 1]))).weight == 4


def test_classes_first_and_last_agree_and_the_ambiguous_is_refused() -> None:
    logits, targets = normal(2, 3, 5), labels(5, 2, 3)
    last = loss_of("cross_entropy")(IDENTITY, batch_of(logits, targets))
    first = loss_of("cross_entropy")(IDENTITY, batch_of(logits.movedim(-1, 1), targets))
    assert torch.allclose(last.mean, first.mean, rtol=10 * EPS)
    square = batch_of(normal(2, 3, 3), labels(3, 2, 3))
    refusal(
        lambda: loss_of("cross_entropy")(IDENTITY, square),
        came="fit both ways",
        remedy='class_axis = "last"',
    )
    both = [
        loss_of("cross_entropy", class_axis=a)(IDENTITY, square).mean for a in ("last", "first")
    ]
    assert float(both[0]) != float(both[1])


def test_right_predictions_are_counted_without_the_ignored() -> None:
    logits = torch.eye(4)[[0, 1, 2, 3]]
    value = loss_of("cross_entropy")(
        IDENTITY, batch_of(logits, torch.tensor([0, 1, 0, -100])), score=True
    )
    assert (value.score.correct, value.score.counted) == (2, 3)
    value = loss_of("bce")(
        IDENTITY, batch_of(torch.tensor([1.0, -1, 2, -2]), torch.tensor([1, 0, 0, 1])), score=True
    )
    assert (value.score.correct, value.score.counted) == (2, 4)
    soft = batch_of(torch.ones(2), torch.tensor([0.3, 0.9]))
    assert loss_of("bce")(IDENTITY, soft, score=True).score.correct is None
    assert loss_of("mse")(IDENTITY, soft, score=True).score.correct is None
    assert loss_of("cross_entropy")(IDENTITY, batch_of(logits, labels(4, 4))).score.correct is None


LOGITS, LABELS = normal(4, 3), labels(3, 4)


@pytest.mark.parametrize(
    ("name", "kwargs", "values", "came", "remedy"),
    [
        ("cross_entropy", {}, (LOGITS, LABELS + 2), "the largest label is 4", "from 0 to 2"),
        ("cross_entropy", {}, (LOGITS, LABELS - 3), "the smallest label is -3", "ignore_index"),
        ("cross_entropy", {}, (LOGITS, LABELS.double()), "float64", "astype(int64)"),
        ("cross_entropy", {}, (LOGITS, LABELS[:, None]), "(4, 1)", "Squeeze"),
        ("cross_entropy", {}, (LOGITS, labels(2, 4, 3)), "(4, 3)", "argmax(1)"),
        ("cross_entropy", {}, (LOGITS, labels(2, 5)), "targets (5,)", "belong together"),
        ("cross_entropy", {}, (normal(4), LABELS), "outputs (4,)", "belong together"),
        ("cross_entropy", {"class_axis": "first"}, (normal(2, 3, 5), labels(5, 2, 3)), "first", ""),
        ("cross_entropy", {"class_weights": [1, 2]}, (LOGITS, LABELS), "got 2", "[loss]"),
        ("cross_entropy", {}, (LOGITS * float("nan"), LABELS), "output holds NaN", "preprocessing"),
        ("nll", {}, (LOGITS, LABELS), "sum to", "Use cross_entropy"),
        ("mse", {}, (normal(4, 1), normal(4)), "targets (4,)", "y[:, None]"),
        ("mse", {}, (normal(4), normal(4, 1)), "targets (4, 1)", "y.squeeze(1)"),
        ("mse", {}, (normal(4, 2), normal(4, 3)), "targets (4, 3)", "belong together"),
        ("mse", {}, (normal(4), normal(4) * float("inf")), "it is inf", "targets"),
        ("mse", {}, (normal(4),), "1 tensor", "--loss file.py:loss"),
        ("bce", {}, (normal(4), labels(3, 4) * 1.0), "the largest is 2", "cross_entropy"),
        ("bce", {}, (normal(4), -labels(2, 4)), "the smallest is -1", "0 and 1"),
        ("bce", {"pos_weight": [1.0, 2.0]}, (normal(4, 3), labels(2, 4, 3)), "got 2", "[loss]"),
    ],
)
def test_data_that_do_not_fit_the_loss(
    name: str, kwargs: dict[str, Any], values: BatchValues, came: str, remedy: str
) -> None:
    loss = loss_of(name, **kwargs)
    assert isinstance(values, tuple)
    sentence = refusal(
        lambda: loss(IDENTITY, batch_of(*values), score=True), came=came, remedy=remedy
    )
    assert name in sentence


@pytest.mark.parametrize(
    ("name", "kwargs", "came", "remedy"),
    [
        ("crossentropy", {}, "'crossentropy'", 'Did you mean "cross_entropy"?'),
        ("cross_entropy", {"smoothing": 0.1}, '"smoothing"', '"label_smoothing"?'),
        ("cross_entropy", {"label_smoothing": 1.5}, "1.5", "[0, 1)"),
        ("cross_entropy", {"label_smoothing": "a"}, "'a'", "--loss-kwargs"),
        ("cross_entropy", {"class_weights": [1, -1]}, "[1, -1]", "class_weights = ["),
        ("cross_entropy", {"class_weights": "a"}, "'a'", "class_weights = ["),
        ("cross_entropy", {"class_axis": 1}, "got 1", '"last"'),
        ("cross_entropy", {"ignore_index": "a"}, "'a'", "whole number"),
        ("cross_entropy", {"chunk_tokens": 4}, "got None", "chunk_tokens belongs to it"),
        ("cross_entropy", {"head": "h", "chunk_tokens": 0}, "got 0", "at least 1"),
        ("cross_entropy", {"head": "h", "class_axis": "first"}, '"first"', "Leave class_axis"),
        ("bce", {"pos_weight": 0}, "got 0", "pos_weight = "),
        ("mse", {"reduction": "sum"}, '"reduction"', "--loss-kwargs"),
    ],
)
def test_losses_that_cannot_be(name: str, kwargs: dict[str, Any], came: str, remedy: str) -> None:
    refusal(lambda: loss_of(name, **kwargs), came=came, remedy=remedy)


def test_dict_batches_need_names() -> None:
    class Sum(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a + b

    batch = Batch({"a": normal(3), "b": normal(3), "t": normal(3)}, 3)
    assert loss_of("mse", inputs=("a", "b"), targets="t")(Sum(), batch, score=True).weight == 3
    refusal(lambda: loss_of("mse")(Sum(), batch), came="a, b, t", remedy='targets = "..."')
    wrong = loss_of("mse", inputs=("a", "bb"), targets="t")
    refusal(lambda: wrong(Sum(), batch), came="a, b, t", remedy='Did you mean "b"?')


def test_a_tuple_is_inputs_and_then_the_target() -> None:
    class Sum(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a + b

    a, b = normal(3), normal(3, seed=1)
    assert float(loss_of("mse")(Sum(), batch_of(a, b, a + b)).mean) == 0


def test_a_model_that_cannot_run_is_named_when_scoring_alone() -> None:
    model, batch = nn.Linear(7, 3), batch_of(torch.ones(4, 5), LABELS)
    for build, kind in (("mlp", InputError), ("m.py:build", HookError)):
        with pytest.raises(kind, match=r"float32 of shape \(4, 5\) .*mat1 and mat2") as caught:
            loss_of("cross_entropy", build=build)(model, batch, score=True)
        assert isinstance(caught.value.__cause__, RuntimeError)
        assert type(caught.value) is kind
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        loss_of("cross_entropy")(model, batch)


def test_a_model_with_several_outputs_is_refused() -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    refusal(
        lambda: loss_of("mse")(Pair(), batch_of(normal(3), normal(3))),
        came="tuple of 2",
        remedy="--loss file.py:loss",
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["mse", "bce", "cross_entropy"])
def test_the_mean_has_the_outputs_type(name: str, dtype: torch.dtype) -> None:
    outputs = normal(3, 2).to(dtype)
    targets = labels(2, 3) if name == "cross_entropy" else normal(3, 2).sigmoid()
    assert loss_of(name)(IDENTITY, batch_of(outputs, targets), score=True).mean.dtype == dtype


@pytest.mark.filterwarnings("ignore:.torch.jit.*. is deprecated")
@pytest.mark.parametrize("name", ["mse", "bce", "cross_entropy", "nll"])
def test_second_derivatives_agree_in_both_modes(name: str) -> None:
    outputs = normal(4, 3).log_softmax(-1)
    targets = labels(3, 4) if name in {"cross_entropy", "nll"} else normal(4, 3).sigmoid()
    loss, direction = loss_of(name), normal(4, 3, seed=2)

    def mean(x: Tensor) -> Tensor:
        return loss(IDENTITY, batch_of(x, targets)).mean

    leaf = outputs.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(mean(leaf), leaf, create_graph=True)
    (reverse,) = torch.autograd.grad(
        gradient, leaf, direction, materialize_grads=True, allow_unused=True
    )
    forward = torch.func.jvp(torch.func.grad(mean), (outputs,), (direction,))[1]
    assert torch.allclose(forward, reverse, atol=100 * EPS)


# The user's loss

HOOKS = """
import torch
import torch.nn.functional as F
def mean(model, batch):
    x, y = batch
    return F.mse_loss(model(x), y)
def shaped(model, batch, scale=1.0): return scale * mean(model, batch).reshape(1)
def weighted(model, batch):
    mask = batch["y"] >= 0
    return model(batch["x"])[mask].sum() / mask.sum(), mask.sum()
def vector(model, batch): return batch[0]
def number(model, batch): return 3.0
def negative(model, batch): return batch[0].sum(), -1
def odd(model, batch): return batch[0].sum(), "many"
def infinite(model, batch): return batch[0].sum() / 0
def raising(model, batch): raise KeyError("mine")
def memory(model, batch): raise torch.OutOfMemoryError("CUDA out of memory")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("losses")
    (folder / "l.py").write_text(HOOKS)
    return folder


def test_the_users_loss_weighs_examples_unless_it_says(folder: Path) -> None:
    batch = batch_of(normal(3, 2), normal(3, 2))
    mean = loss_of("l.py:mean", folder=folder)
    for loss in (mean, loss_of("l.py:shaped", folder=folder, scale=1.0)):
        for score in (True, False):
            value = loss(IDENTITY, batch, score=score)
            assert (value.weight, value.mean.shape, value.score.correct) == (3, (), None)
            assert torch.equal(value.mean, F.mse_loss(*batch.values))
    rows = Batch({"x": normal(3), "y": torch.tensor([1, -1, 1])}, 3)
    assert loss_of("l.py:weighted", folder=folder)(IDENTITY, rows, score=True).weight == 2
    nothing = Batch({"x": normal(3), "y": torch.tensor([-1, -1, -1])}, 3)
    assert loss_of("l.py:weighted", folder=folder)(IDENTITY, nothing, score=True).weight == 0


@pytest.mark.parametrize(
    ("name", "came", "remedy"),
    [
        ("vector", "a tensor, float64 of shape (3, 2)", "Return for example"),
        ("number", "float", "Return for example"),
        ("negative", "-1", "unmasked tokens"),
        ("odd", "'many'", "unmasked tokens"),
        ("infinite", "inf", "targets"),
    ],
)
def test_results_of_the_users_loss_that_are_none(
    name: str, came: str, remedy: str, folder: Path
) -> None:
    batch = batch_of(normal(3, 2).abs(), normal(3, 2))
    loss = loss_of(f"l.py:{name}", folder=folder)
    refusal(lambda: loss(IDENTITY, batch, score=True), came=came, remedy=remedy)


def test_what_the_users_loss_raises_is_kept(folder: Path) -> None:
    batch = batch_of(normal(3), normal(3))
    loss = loss_of("l.py:raising", folder=folder)
    with pytest.raises(HookError) as caught:
        loss(IDENTITY, batch, score=True)
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(KeyError):
        loss(IDENTITY, batch)
    with pytest.raises(torch.OutOfMemoryError):
        loss_of("l.py:memory", folder=folder)(IDENTITY, batch, score=True)


def test_arguments_of_the_users_loss_are_checked(folder: Path) -> None:
    refusal(
        lambda: loss_of("l.py:shaped", folder=folder, scael=2),
        came='no argument "scael"',
        remedy='Did you mean "scale"?',
    )
