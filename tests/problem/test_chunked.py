"""Cross-entropy by chunks: torch's own formulas and dense Hessians as truth, and no (N, V) tensor.

Letters: N tokens, V vocabulary, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from curvtool.errors import InputError
from curvtool.operators.hessian import HessianOperator
from curvtool.problem.batch import Batch, Loss
from curvtool.problem.losses.chunked import summed_cross_entropy
from curvtool.problem.losses.chunks import targets_of
from curvtool.problem.models import gpt
from curvtool.problem.objective import Objective
from tests.conformance import matches_the_matrix
from tests.objectives import CASES, CPU, Case, builtin, labels, normal, seeded, truth
from tests.problem.sentences import refusal

EPS = torch.finfo(torch.float64).eps
D = 3


def plain(y: Tensor, *, weights_V: Tensor | None = None, **kwargs: Any) -> Callable[..., Tensor]:
    """What torch makes of the logits as a whole."""

    def summed(h: Tensor, W: Tensor, b: Tensor | None = None) -> Tensor:
        return F.cross_entropy(F.linear(h, W, b), y, weights_V, reduction="sum", **kwargs)

    return summed


def by_chunks(y: Tensor, classes: int, *, chunk: int, **kwargs: Any) -> Callable[..., Tensor]:
    """The same as a function of (h, W) or (h, W, b)."""
    targets = targets_of(y, classes=classes, dtype=torch.float64, **kwargs)

    def summed(h: Tensor, W: Tensor, b: Tensor | None = None) -> Tensor:
        return summed_cross_entropy(h, W, b, targets, chunk_tokens=chunk)

    return summed


# N, V, tokens of a chunk, seed
SIZES = st.tuples(st.integers(0, 12), st.integers(1, 7), st.integers(1, 15), st.integers(0, 99))


@settings(deadline=None, max_examples=60)
@given(
    sizes=SIZES,
    ignored=st.sampled_from([0.0, 0.5, 1.0]),
    bias=st.booleans(),
    weighted=st.booleans(),
    label_smoothing=st.sampled_from([0.0, 0.3]),
)
def test_value_and_gradient_are_torchs_whatever_the_chunks(
    sizes: tuple[int, int, int, int],
    ignored: float,
    bias: bool,
    weighted: bool,
    label_smoothing: float,
) -> None:
    tokens, classes, chunk, seed = sizes
    y = labels(classes, tokens, seed=seed, ignored=ignored)
    shapes = [(tokens, D), (classes, D), *[(classes,)] * bias]
    pieces = [normal(*s, seed=seed + i).requires_grad_() for i, s in enumerate(shapes)]
    kwargs: dict[str, Any] = {
        "weights_V": normal(classes, seed=seed).abs() if weighted else None,
        "label_smoothing": label_smoothing,
    }
    made = by_chunks(y, classes, chunk=chunk, **kwargs)(*pieces)
    true = plain(y, **kwargs)(*pieces)
    # Both round each of N terms, sums of at most D V products, a few times; factors are below 5.
    scale = 1 + max(float(p.detach().abs().max()) for p in pieces if p.numel())
    allowed = 100 * EPS * (1 + tokens) * D * classes * 5 * scale**2
    assert float((made - true).detach().abs()) <= allowed
    gradients = torch.autograd.grad(made, pieces)
    for a, t in zip(gradients, torch.autograd.grad(true, pieces), strict=True):
        assert a.shape == t.shape
        assert float((a - t).abs().sum()) <= allowed


WEIGHTS = torch.tensor([0.5, 1, 2, 0], dtype=torch.float64)
KWARGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "smooth": {"label_smoothing": 0.2},
    "weighted": {"weights_V": WEIGHTS},
    "both": {"weights_V": WEIGHTS, "label_smoothing": 0.3},
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script. is deprecated")
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kwargs", KWARGS.values(), ids=KWARGS.keys())
def test_derivatives_are_those_of_differences(kwargs: dict[str, Any], bias: bool) -> None:
    y = torch.tensor([0, 3, -100, 1, 2])
    shapes = [(5, D), (4, D), *[(4,)] * bias]
    pieces = tuple(normal(*s, seed=i).requires_grad_() for i, s in enumerate(shapes))
    summed = by_chunks(y, 4, chunk=2, **kwargs)
    batched: Any = {"check_batched_grad": True}
    assert gradcheck(
        summed, pieces, check_forward_ad=True, check_batched_forward_grad=True, **batched
    )
    assert gradgradcheck(
        summed, pieces, check_fwd_over_rev=True, check_rev_over_rev=True, **batched
    )


@pytest.mark.filterwarnings("ignore:.*torch.jit.script. is deprecated")
def test_torch_func_finds_the_dense_hessian_in_every_mode() -> None:
    y = labels(5, 7, ignored=0.3)
    at, which = (normal(7, D), normal(5, D, seed=1), normal(5, seed=2)), (0, 1, 2)
    f, func = by_chunks(y, 5, chunk=3), torch.func
    true = tree_leaves(func.hessian(plain(y), which)(*at))
    for made in (
        func.hessian(f, which),
        func.jacrev(func.grad(f, which), which),
        func.jacrev(func.jacfwd(f, which), which),
    ):
        for a, t in zip(tree_leaves(made(*at)), true, strict=True):
            # Entries are sums of at most 7 D terms of size up to 10, each rounded a few times.
            assert float((a - t).abs().max()) <= 1e4 * EPS


def test_a_third_derivative_is_refused_rather_than_wrong() -> None:
    h = normal(4, D).requires_grad_()
    f = by_chunks(labels(5, 4), 5, chunk=3)
    (g,) = torch.autograd.grad(f(h, normal(5, D)), h, create_graph=True)
    (Hv,) = torch.autograd.grad(g, h, torch.ones_like(g), create_graph=True)
    with pytest.raises(NotImplementedError, match="third derivative"):
        torch.autograd.grad(Hv.sum(), h)


# The loss


def with_head(case: Case, chunk_tokens: int = 5, **kwargs: object) -> Case:
    loss = builtin("cross_entropy", head="head", chunk_tokens=chunk_tokens, **kwargs)
    return replace(case, loss=loss)


@pytest.mark.parametrize("name", ["gpt", "tied"])
@pytest.mark.parametrize(
    "way", ["retained-graph", "reverse-over-reverse", "forward-over-reverse", "double-vjp"]
)
def test_the_hessian_of_a_language_model_is_the_dense_one(name: str, way: str) -> None:
    operator = HessianOperator(with_head(CASES[name]).objective(), way=way)
    matches_the_matrix(operator, truth(name))


def agree_on_products(make: Callable[[Loss], Objective], way: str = "retained-graph") -> None:
    """With and without a head, for a block and for its vectors."""
    products = []
    for kwargs in ({}, {"head": "head", "chunk_tokens": 4}):
        operator = HessianOperator(make(builtin("cross_entropy", **kwargs)), way=way)
        V_kP = normal(3, operator.size)
        products += [operator.matmat(V_kP), torch.stack([operator.matvec(v) for v in V_kP])]
    # As in `tests/conformance.py`, with |H v| for |H| |v|.
    allowed = 1000 * EPS * (1 + float(products[0].norm()))
    assert all(float((p - products[0]).norm()) <= allowed for p in products)


@pytest.mark.parametrize("frozen", ["head", "rest"])
def test_a_head_alone_and_all_but_the_head(frozen: str) -> None:
    def build() -> nn.Module:
        module = CASES["gpt"].build()
        for name, p in module.named_parameters():
            p.requires_grad_(name.startswith("head") == (frozen == "rest"))
        return module

    agree_on_products(lambda loss: replace(CASES["gpt"], build=build, loss=loss).objective())


class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The most elements that any operation gives out."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numel = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        # An expanded tensor takes what its storage takes.
        sizes = [
            min(t.numel(), t.untyped_storage().nbytes() // t.element_size())
            for t in tree_leaves(out)
            if isinstance(t, Tensor)
        ]
        self.numel = max([self.numel, *sizes])
        return out


@pytest.mark.parametrize("way", ["retained-graph", "forward-over-reverse"])
def test_nothing_of_tokens_by_vocabulary_is_ever_there(way: str) -> None:
    vocabulary, width, chunk, tokens = 500, 4, 10, 40
    build = partial(gpt, vocab_size=vocabulary, context=10, width=width, layers=1, heads=2)
    values = (labels(vocabulary, 4, 10), labels(vocabulary, 4, 10, seed=2, ignored=0.2))
    case = replace(CASES["gpt"], build=build, values=values)
    found = {}
    for each in (case, with_head(case, chunk_tokens=chunk, label_smoothing=0.1)):
        objective = each.objective(batch_size=4)
        with Largest() as largest:
            objective.evaluate()
            operator = HessianOperator(objective, way=way)
            operator.matvec(torch.ones(operator.size, dtype=torch.float64))
        found[each.loss is case.loss] = largest.numel
    assert found[True] >= tokens * vocabulary  # the recorder sees what there is to be seen
    # The vector of all parameters is what is left.
    assert found[False] <= max(chunk * vocabulary, operator.size) < tokens * vocabulary / 2


def test_score_and_weight_are_those_of_the_whole_logits() -> None:
    module = seeded(CASES["gpt"].build).double()
    tokens, y = Batch(CASES["gpt"].values, 0).tensors
    batch = Batch((tokens, y.where(y >= 0, 3)), len(tokens))
    for kwargs in ({}, {"class_weights": [1, 2, 0, 4, 5, 6]}, {"ignore_index": 3}):
        whole = builtin("cross_entropy", **kwargs)(module, batch, score=True)
        for chunk_tokens in (1, 5, 92, 1000):
            loss = builtin("cross_entropy", head="head", chunk_tokens=chunk_tokens, **kwargs)
            value = loss(module, batch, score=True)
            # A mean of 92 terms of size below 10, each rounded a few times.
            assert float((value.mean - whole.mean).detach().abs()) <= 1e3 * EPS
            assert (value.score.correct, value.weight) == (whole.score.correct, whole.weight)
            assert value.score.counted == whole.score.counted


def test_a_batch_with_nothing_to_count_weighs_nothing() -> None:
    module = seeded(CASES["gpt"].build).double()
    batch = Batch((labels(6, 2, 4), torch.full((2, 4), -100)), 2)
    value = with_head(CASES["gpt"]).loss(module, batch, score=True)
    assert (value.weight, float(value.mean.detach()), value.score.counted) == (0, 0, 0)
    gradients = torch.autograd.grad(value.mean, list(module.parameters()))
    assert not any(bool(g.any()) for g in gradients)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_errs_as_its_eps_says(dtype: torch.dtype) -> None:
    y, shapes = labels(6, 40), ((40, D), (6, D))
    pieces = [normal(*s, seed=i).to(dtype).requires_grad_() for i, s in enumerate(shapes)]
    doubles = [p.detach().double().requires_grad_() for p in pieces]
    targets = targets_of(y, classes=6, dtype=dtype)
    made = [summed_cross_entropy(pieces[0], pieces[1], None, targets, chunk_tokens=7)]
    true = [plain(y)(*doubles)]
    made += torch.autograd.grad(made[0], pieces)
    true += torch.autograd.grad(true[0], doubles)
    for a, t in zip(made, true, strict=True):
        assert a.dtype == dtype
        # Of 40 terms each rounds logits below 10, and the sum, to the dtype.
        assert float((a - t).detach().abs().max()) <= 10 * torch.finfo(dtype).eps * 40


# The head


class Net(nn.Module):
    """A body, a head, and something done around the head."""

    def __init__(self, around: Callable[[Net, Tensor], Any]) -> None:
        super().__init__()
        self.body = nn.Linear(4, D)
        self.head = nn.Linear(D, 5)
        self.around = around

    def forward(self, x: Tensor) -> Any:
        return self.around(self, torch.tanh(self.body(x)))


class Scaled(nn.Linear):
    """A linear layer that is none."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


def net(around: Callable[[Net, Tensor], Any] = lambda m, x: m.head(x)) -> Net:
    module = seeded(lambda: Net(around)).double()
    assert isinstance(module, Net)
    return module


BATCH = Batch((normal(6, 4), labels(5, 6)), 6)


def on_batch(module: nn.Module, loss: Loss) -> Objective:
    return Objective(module, loss, [BATCH], device=CPU, dtype=torch.float64)


def loss_value(module: nn.Module, *, score: bool = True, **kwargs: object) -> Tensor:
    loss = builtin("cross_entropy", **{"head": "head", "chunk_tokens": 4, **kwargs})
    return loss(module, BATCH, score=score).mean


@pytest.mark.parametrize(
    "around",
    [
        lambda m, x: m.head(x) / 2,
        lambda m, x: m.head(x).log_softmax(-1),
        lambda m, x: m.head(x).reshape(6, 1, -1),
        lambda m, x: m.head(x).div_(2),
        lambda m, x: (m.head(x), x)[1],
    ],
)
def test_a_head_that_is_not_the_last_thing_is_refused(around: Callable[[Net, Tensor], Any]) -> None:
    for score in (True, False):
        run = partial(loss_value, net(around), score=score)
        refusal(run, came="makes something else of what 'head' gives", remedy="or leave it out")


@pytest.mark.parametrize(
    ("head", "came", "remedy"),
    [
        ("heat", "there is no 'heat'", 'Did you mean "head"?'),
        ("", "there is no ''", "body, head"),
        ("gelu", "'gelu' is torch.nn.modules.activation.GELU", "body, head"),
        ("scaled", "'scaled' is tests.problem.test_chunked.Scaled", "leave it out"),
        ("body", "mat1", "head=body names the last layer"),
        ("spare", "never calls 'spare'", "leave it out"),
    ],
)
def test_heads_that_are_none(head: str, came: str, remedy: str) -> None:
    module = net()
    module.gelu, module.scaled, module.spare = nn.GELU(), Scaled(D, 5), nn.Linear(1, 1)
    refusal(lambda: loss_value(module.double(), head=head), came=came, remedy=remedy)


def test_labels_out_of_range_and_a_model_that_cannot_run() -> None:
    loss = builtin("cross_entropy", head="head")
    for y, came in ((labels(5, 6) + 3, "the largest label is 7"), (labels(5, 6) - 3, "is -3")):
        batch = Batch((normal(6, 4), y), 6)
        refusal(partial(loss, net(), batch, score=True), came=came, remedy="from 0 to 4")
    refusal(lambda: loss(net(), Batch((normal(6, 4), labels(5, 7)), 6)), came="(7,)", remedy="")
    short = Batch((normal(6, 2), labels(5, 6)), 6)
    refusal(lambda: loss(net(), short, score=True), came="mat1", remedy="head=head names the last")
    pair = net(lambda m, x: (m.head(x), x))
    refusal(lambda: loss_value(pair), came="tuple of 2", remedy="--loss file.py:loss")


def test_hooks_that_expect_logits_are_refused_and_those_before_are_run() -> None:
    module = net()
    handle = module.head.register_forward_hook(lambda *_: None)
    refusal(lambda: loss_value(module), came="has some", remedy="Remove them")
    loss_value(module, score=False)  # a hook that looks for a place to name
    handle.remove()
    module.head.register_forward_pre_hook(lambda _, args: (2 * args[0],))
    difference = loss_value(module) - builtin("cross_entropy")(module, BATCH).mean
    # A mean of 6 terms of size below 10, each rounded a few times.
    assert float(difference.detach().abs()) <= 100 * EPS


def test_the_model_is_as_before_after_an_exception() -> None:
    def failing(m: Net, x: Tensor) -> Tensor:
        m.head(x)
        raise KeyError("mine")

    module = net(failing)
    for score, kind in ((False, KeyError), (True, InputError)):
        with pytest.raises(kind):
            loss_value(module, score=score)
        assert "forward" not in vars(module.head)
        assert module.head(normal(2, D)).shape == (2, 5)


def test_parameters_replaced_for_a_call_are_the_ones_used() -> None:
    other = [1 + p.detach() for p in net().parameters()]
    with_and_without = builtin("cross_entropy", head="head"), builtin("cross_entropy")
    a, b = (on_batch(net(), loss).batch_loss_at(0, other) for loss in with_and_without)
    # As above.
    assert float((a - b).detach().abs()) <= 100 * EPS
    assert float((a - loss_value(net())).detach().abs()) > 0.01


@pytest.mark.parametrize("what", ["body", "all"])
@pytest.mark.parametrize("way", ["retained-graph", "forward-over-reverse"])
def test_activation_checkpointing_runs_again_without_the_head(what: str, way: str) -> None:
    def again(m: Net, x: Tensor) -> Any:
        inside, outside = (m.head, nn.Identity()) if what == "all" else (nn.Identity(), m.head)
        return outside(checkpoint(lambda x: inside(torch.sin(x) * x), x, use_reentrant=False))

    agree_on_products(lambda loss: on_batch(net(again), loss), way)


def test_a_traced_product_can_be_run_again() -> None:
    agree_on_products(lambda loss: on_batch(net(), loss), "linearized")
