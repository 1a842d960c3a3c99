"""The dataset mean: whatever the batching, its loss, gradient and notes are those of the whole.

Letters: P parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from curvtool.errors import InputError, PreflightError
from curvtool.problem.batch import Batch, Loss
from curvtool.problem.models import mlp
from curvtool.problem.objective import Evaluation, Objective
from tests.objectives import (
    CASES,
    CPU,
    Unreached,
    batches,
    builtin,
    hook,
    labels,
    normal,
    seeded,
)

EPS = torch.finfo(torch.float64).eps
X, Y = normal(23, 4), labels(3, 23)


def objective_of(
    cut: list[Batch],
    loss: Loss,
    module: nn.Module | None = None,
    *,
    dtype: torch.dtype = torch.float64,
    **settings_of_it: Any,
) -> Objective:
    module = module or seeded(lambda: mlp(sizes=[4, 5, 3], activation="tanh"))
    return Objective(module, loss, cut, device=CPU, dtype=dtype, **settings_of_it)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("batch_size", [1, 7, 23])
def test_loss_and_gradient_are_those_of_the_plain_formula(name: str, batch_size: int) -> None:
    if name == "constant-batches" and batch_size != 7:
        pytest.skip("its examples are coupled by sevens")
    case = CASES[name]
    objective = case.objective(batch_size)
    found = objective.evaluate()
    module = seeded(case.build).double().eval()
    parameters = [p for p in module.parameters() if p.requires_grad]
    mean = case.mean(module, case.values)
    mean = mean + case.weight_decay / 2 * torch.stack([p.square().sum() for p in parameters]).sum()
    expected = torch.autograd.grad(mean, parameters, materialize_grads=True)
    # Sums of 23 examples in other orders, and networks of some hundred roundings.
    assert abs(found.loss - float(mean.detach())) <= 100 * EPS * (1 + found.loss)
    error = found.gradient_P - torch.cat([g.flatten() for g in expected])
    assert float(error.norm()) <= 100 * EPS * (1 + float(found.gradient_P.norm()))


@given(
    cuts=st.lists(st.integers(1, 22), max_size=6, unique=True),
    ignored=st.floats(0, 0.95),
    weights=st.lists(st.floats(0.01, 100), min_size=3, max_size=3),
    seed=st.integers(0, 2**20),
)
@settings(max_examples=50, deadline=None)
def test_the_mean_is_of_the_dataset_and_not_of_the_batches(
    cuts: list[int], ignored: float, weights: list[float], seed: int
) -> None:
    y = labels(3, 23, seed=seed, ignored=ignored)
    y[seed % 23] = 2
    whole = Batch((X, y), 23)
    loss = builtin("cross_entropy", class_weights=weights)
    one = objective_of([whole], loss).evaluate()
    many = objective_of([whole.part(a, b) for a, b in pairwise([0, *sorted(cuts), 23])], loss)
    found = many.evaluate()
    # 23 terms a sum, in two orders.
    assert abs(found.loss - one.loss) <= 50 * EPS * one.loss
    assert float((found.gradient_P - one.gradient_P).norm()) <= 50 * EPS * 20
    assert abs(many.total_weight - sum(one.batch_weights)) <= 50 * EPS * many.total_weight
    assert found.score == one.score
    shares = sum(many.share(i) for i in range(many.num_batches))
    assert abs(shares - 1) <= 10 * EPS
    terms = sum(float(many.batch_loss(i).detach()) for i in many.active)
    assert abs(terms - one.loss) <= 50 * EPS * one.loss


def test_what_it_counts() -> None:
    objective = objective_of(batches((X, Y), 7), builtin("cross_entropy"))
    assert (objective.num_batches, objective.num_examples) == (4, 23)
    assert [objective.examples(i) for i in range(4)] == [7, 7, 7, 2]
    assert objective.weights == (7.0, 7.0, 7.0, 2.0)
    assert objective.total_weight == 23.0
    assert objective.size == 4 * 5 + 5 + 5 * 3 + 3
    found = objective.evaluate()
    right = objective.module(X).argmax(1) == Y
    assert found.score.accuracy == int(right.sum()) / 23
    assert not found.uses_attention


def test_a_batch_of_weight_zero_is_skipped() -> None:
    y = Y.index_fill(0, torch.arange(7, 14), -100)
    objective = objective_of(batches((X, y), 7), builtin("cross_entropy"))
    assert objective.weights == (7.0, 0.0, 7.0, 2.0)
    assert objective.active == (0, 2, 3)
    kept = torch.cat([torch.arange(7), torch.arange(14, 23)])
    expected = F.cross_entropy(objective.module(X[kept]), y[kept])
    assert abs(objective.evaluate().loss - float(expected.detach())) <= 100 * EPS


def test_no_weight_at_all_is_refused() -> None:
    objective = objective_of(batches((X, torch.full_like(Y, -100)), 7), builtin("cross_entropy"))
    with pytest.raises(InputError, match="No example has weight"):
        objective.evaluate()


def test_a_loss_that_no_parameter_reaches_is_refused() -> None:
    def loss(model: nn.Module, values: Any) -> Tensor:
        with torch.no_grad():
            output: Tensor = model(values[0])
        return output.square().mean()

    with pytest.raises(InputError, match="does not depend on the differentiated parameters"):
        objective_of(batches((X, Y), 7), hook(loss)).evaluate()
    elsewhere = objective_of(
        batches((X, Y), 7), builtin("cross_entropy"), seeded(Unreached), patterns=["spare.*"]
    )
    with pytest.raises(InputError, match="does not depend"):
        elsewhere.evaluate()


def test_parameters_out_of_reach_are_noted_once() -> None:
    objective = CASES["unreached"].objective()
    assert objective.notes == []
    for _ in range(2):
        objective.evaluate()
    assert objective.notes == [
        "The loss never reaches spare.weight, spare.bias: their part of H is zero "
        "(--skip-unused leaves it out)."
    ]


def test_batches_that_are_constant_weigh_all_the_same() -> None:
    objective = CASES["constant-batches"].objective(7)
    assert objective.active == (0, 1, 2, 3)
    only = objective.batch_gradient(0)
    assert torch.equal(objective.evaluate().gradient_P != 0, objective.layout.join(only) != 0)
    assert not any(bool(g.any()) for g in objective.batch_gradient(2))


@pytest.mark.parametrize("factor", [float("inf"), float("nan")])
def test_a_gradient_that_is_not_finite_is_refused(factor: float) -> None:
    class Steep(torch.autograd.Function):
        @staticmethod
        def forward(_: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(_: Any, gradient: Tensor) -> Tensor:
            return gradient * factor

    def loss(model: nn.Module, values: Any) -> Tensor:
        result: Tensor = Steep.apply(model(values[0]).square().mean())
        return result

    with pytest.raises(InputError, match="gradient is not finite"):
        objective_of(batches((X, Y), 7), hook(loss)).evaluate()


def test_a_missing_first_derivative_is_a_sentence() -> None:
    class Stepwise(torch.autograd.Function):
        @staticmethod
        def forward(_: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(_: Any, gradient: Tensor) -> Tensor:
            raise NotImplementedError("derivative for lab::step is not implemented")

    def loss(model: nn.Module, values: Any) -> Tensor:
        result: Tensor = Stepwise.apply(model(values[0]).square().mean())
        return result

    with pytest.raises(PreflightError, match="lab::step"):
        objective_of(batches((X, Y), 7), hook(loss)).evaluate()


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_elsewhere_is_that_of_a_module_put_there(name: str) -> None:
    objective = CASES[name].objective()
    here_P = objective.theta()
    there_P = here_P + 0.1 * normal(objective.size, seed=9)
    at_there_P = objective.gradient_at(there_P)
    assert torch.equal(objective.theta(), here_P)  # nothing was written
    # Another order of the batches' sum, with shares instead of weights.
    apart = (objective.gradient_at(here_P) - objective.evaluate().gradient_P).norm()
    assert float(apart) <= 100 * EPS * (1 + float(at_there_P.norm()))
    with torch.no_grad():
        for p, t in zip(objective.parameters, objective.layout.split(there_P), strict=True):
            p.copy_(t)
    moved = objective.evaluate().gradient_P
    assert float((moved - at_there_P).norm()) <= 100 * EPS * (1 + float(moved.norm()))


def test_the_gradient_elsewhere_goes_through_what_is_computed_again() -> None:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            inner = torch.utils.checkpoint.checkpoint(
                lambda t: torch.tanh(self.first(t)), x, use_reentrant=False
            )
            output: Tensor = self.last(inner)
            return output

    cut, loss = batches((X, Y), 7), builtin("cross_entropy")
    plain = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    saving = objective_of(cut, loss, seeded(Checkpointed))
    full = objective_of(cut, loss, seeded(lambda: plain))
    theta_P = saving.theta() + 0.5
    apart = (saving.gradient_at(theta_P) - full.gradient_at(theta_P)).norm()
    assert float(apart) <= 100 * EPS  # the same sums, once more


def test_a_sample_of_its_own_type_has_few_examples_and_the_same_model() -> None:
    objective = objective_of(
        batches((X, Y), 10), builtin("cross_entropy"), weight_decay=0.5, patterns=["layers.0.*"]
    )
    sample = objective.sample(4)
    assert (sample.num_batches, sample.num_examples) == (1, 4)
    assert torch.equal(sample.batch(0).tensors[0], X[:4])
    assert sample.layout.names == objective.layout.names
    assert sample.weight_decay == 0.5
    assert all(a is b for a, b in zip(sample.parameters, objective.parameters, strict=True))


def test_a_sample_of_another_type_shares_nothing() -> None:
    objective = objective_of(batches((X, Y), 10), builtin("cross_entropy"), dtype=torch.float32)
    double = objective.sample(4, dtype=torch.float64)
    assert double.dtype == torch.float64
    assert all(p.dtype == torch.float64 for p in double.parameters)
    assert all(p.dtype == torch.float32 for p in objective.parameters)
    before_P = objective.theta()
    with torch.no_grad():
        for p in double.parameters:
            p.fill_(7.0)
    assert torch.equal(objective.theta(), before_P)


@given(first=st.integers(0, 22), most=st.integers(1, 23), size=st.integers(1, 23))
@settings(max_examples=40, deadline=None)
def test_a_sample_has_weight_wherever_the_first_target_is(first: int, most: int, size: int) -> None:
    y = Y.clone()
    y[:first] = -100
    sample = objective_of(batches((X, y), size), builtin("cross_entropy")).sample(most)
    assert sample.total_weight > 0
    assert sample.num_examples <= min(most, size)


class FromZeros(nn.Module):
    """A recurrent layer whose first state is made as most people make it."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(4, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.rnn(x[:, None], torch.zeros(1, len(x), 3))[0]
        return out[:, -1]


class Casting(nn.Module):
    """Normalises in float32 at least, as code for mixed precision does, and masks by a float."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).to(torch.float32)
        hidden = hidden * (hidden.float() ** 2).mean(-1, keepdim=True, dtype=torch.float32).rsqrt()
        masked = hidden * (x[:, :1] > -5).float() + torch.zeros(5, dtype=torch.float32)
        out: Tensor = self.last(masked)
        return out


@pytest.mark.parametrize("build", [FromZeros, Casting])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_a_model_makes_of_no_type_is_of_the_objectives(
    build: Callable[[], nn.Module], dtype: torch.dtype
) -> None:
    objective = objective_of(
        batches((X, Y), 7), builtin("cross_entropy"), seeded(build), dtype=torch.float32
    )
    sample = objective.sample(None, dtype=dtype)
    assert sample.evaluate().gradient_P.dtype == dtype
    assert sample.gradient_at(sample.theta()).dtype == dtype
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("size", [23, 10, 3])
def test_a_sample_is_not_of_examples_that_are_fitted_to_rounding(size: int) -> None:
    # A class of its own is told by a feature of its own, and comes first, as in sorted data.
    x, y = torch.cat([X, X.new_zeros(23, 4)]), Y.repeat(2)
    x[:23], y[:23] = x[:23] * 0 + torch.tensor([1e3, 0, 0, 0], dtype=X.dtype), 0
    x[23:] = X
    x[23:, 0] = 0
    model = nn.Linear(4, 3).to(X.dtype)
    with torch.no_grad():
        model.weight[:, 0] = torch.tensor([1.0, 0.0, 0.0])
    objective = objective_of(batches((x, y), size), builtin("cross_entropy"), model)
    sample = objective.sample(4)
    assert 1e3 * float(sample.evaluate().loss) > objective.evaluate().loss > 0
    assert not sample.batch(0).tensors[0][:, 0].all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_floats_take_the_objectives_type_and_integers_stay(dtype: torch.dtype) -> None:
    for stay in (True, False):
        objective = objective_of(
            batches((X, Y), 7), builtin("cross_entropy"), dtype=dtype, keep_data_on_device=stay
        )
        inputs, targets = objective.batch(0).tensors
        assert inputs.dtype == dtype
        assert targets.dtype == torch.int64
        assert objective.theta().dtype == objective.evaluate().gradient_P.dtype == dtype


def test_dicts_keep_what_is_no_tensor() -> None:
    batch = Batch({"x": X, "mode": "train", "scale": torch.tensor(2.0)}, 23)  # type: ignore[dict-item]
    part = batch.part(20, 30)
    assert part.examples == 3
    assert isinstance(part.values, dict)
    assert torch.equal(part.values["x"], X[20:])
    assert part.values["mode"] == "train"
    assert float(part.values["scale"]) == 2.0
    assert batch.nbytes == X.nbytes + 4
    moved = batch.moved(CPU, torch.float32)
    assert [t.dtype for t in moved.tensors] == [torch.float32] * 2


def test_the_model_stands_in_eval_mode_unless_asked() -> None:
    cut = batches((X, Y), 7)
    assert not objective_of(cut, builtin("cross_entropy")).module.training
    assert objective_of(cut, builtin("cross_entropy"), train_mode=True).module.training


def test_an_evaluation_leaves_the_module_as_it_was() -> None:
    objective = CASES["cnn"].objective()
    before = {k: t.clone() for k, t in objective.module.state_dict().items()}
    found = objective.evaluate()
    assert isinstance(found, Evaluation)
    assert not found.gradient_P.requires_grad
    assert all(torch.equal(before[k], t) for k, t in objective.module.state_dict().items())
    assert all(p.grad is None for p in objective.parameters)
