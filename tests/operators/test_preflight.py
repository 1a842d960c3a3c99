"""What the preflight measures, and that no right product is refused; the traps have their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from curvtool.errors import ExitCode, PreflightError
from curvtool.operators import preflight as room
from curvtool.operators.hessian import HessianOperator
from curvtool.operators.preflight import preflight
from curvtool.problem.batch import Batch, Loss
from curvtool.problem.models import cnn, gpt, mlp
from curvtool.problem.objective import Objective
from curvtool.results import Preflight
from tests.objectives import (
    CASES,
    CPU,
    batches,
    builtin,
    cross_entropy,
    dense_product,
    hook,
    labels,
    normal,
    seeded,
)
from tests.operators.traps import TRAPS

N = 40
ROWS = normal(N, 6)
SEQUENCES = normal(N, 5, 8, seed=1)
TOKENS = labels(9, N, 4, seed=2)
IMAGES = normal(N, 6, 6, seed=3)
TARGETS = labels(3, N, seed=4)
CROSS_ENTROPY = builtin("cross_entropy")
MAIN_WAYS = ("retained-graph", "forward-over-reverse")  # the others have the table of traps

Build = Callable[[], nn.Module]


class Caching(nn.Module):
    """Keeps what it computed, as research code does to look at it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.seen: dict[str, list[Tensor]] = {}

    def forward(self, x: Tensor) -> Tensor:
        self.hidden = torch.tanh(self.layer(x))
        self.seen["hidden"] = [self.hidden]
        return self.hidden


class Tapped(nn.Module):
    """Its constant is no buffer and stays float32 when the module is cast."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.constant = normal(6, 6, dtype=torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layer(x @ self.constant))


def net(*inner: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 5), *inner, nn.Linear(5, 3))


def _one_hot(values: Any) -> Tensor:
    return F.one_hot(values[1], 3).to(values[0].dtype)


@dataclass(frozen=True)
class Good:
    build: Build
    inputs: Tensor = ROWS
    loss: Loss = CROSS_ENTROPY
    second_way: bool = True


GOOD = {
    "tanh": Good(lambda: net(nn.Tanh())),
    "relu": Good(lambda: mlp(sizes=[6, 16, 16, 3])),
    "cnn": Good(lambda: cnn(in_channels=1, channels=[4, 4], classes=3), IMAGES),
    "group norm": Good(
        lambda: cnn(in_channels=1, channels=[4], classes=3, norm="group", groups=2), IMAGES
    ),
    "layer norm": Good(lambda: net(nn.LayerNorm(5), nn.GELU())),
    "gpt": Good(
        lambda: gpt(vocab_size=9, context=4, width=4, layers=1, heads=2),
        TOKENS,
        hook(lambda m, v: F.cross_entropy(m(v[0])[:, -1], v[1])),
    ),
    "caching": Good(Caching),
    "huber_loss": Good(
        lambda: net(nn.Tanh()),
        loss=hook(lambda m, v: F.huber_loss(m(v[0]), _one_hot(v))),
        second_way=False,  # no forward derivative of its backward
    ),
    "linear": Good(lambda: nn.Linear(6, 3), loss=hook(lambda m, v: m(v[0]).mean())),
    "flat": Good(
        # Softmax sums to 1: H is rounding, asymmetric and all.
        lambda: nn.Linear(6, 3),
        loss=hook(lambda m, v: m(v[0]).softmax(1).sum(1).mean()),
    ),
}


def objective_of(
    build: Build,
    inputs: Tensor = ROWS,
    loss: Loss = CROSS_ENTROPY,
    *,
    dtype: torch.dtype = torch.float32,
    train_mode: bool = False,
) -> Objective:
    return Objective(
        seeded(build),
        loss,
        batches((inputs, TARGETS), 35),
        device=CPU,
        dtype=dtype,
        train_mode=train_mode,
    )


def checks(result: Preflight) -> dict[str, bool | None]:
    return {check.name: check.passed for check in result.checks}


def refusal(objective: Objective, *, way: str = "retained-graph") -> str:
    with pytest.raises(PreflightError) as caught:
        preflight(objective, way=way, seed=0)
    assert caught.value.exit_code is ExitCode.NOT_A_HESSIAN
    return str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", GOOD)
def test_a_right_product_passes(name: str, dtype: torch.dtype) -> None:
    good = GOOD[name]
    objective = objective_of(good.build, good.inputs, good.loss, dtype=dtype)
    result = preflight(objective, way="retained-graph", seed=0)
    expected: dict[str, bool | None] = dict.fromkeys(
        ("repeat", "as written", "symmetry", "differences"), True
    )
    if dtype == torch.float64:  # in float32 differences and noise need no second way
        expected["second way"] = True if good.second_way else None
    assert checks(result) == expected
    eps = torch.finfo(dtype).eps
    # Networks this small and smooth round by some hundred eps; the flat one is all rounding.
    assert 10 * eps <= result.noise <= 1000 * eps


@pytest.mark.parametrize("name", GOOD)
def test_what_passes_agrees_with_differences_of_the_gradient(name: str) -> None:
    good = GOOD[name]
    objective = objective_of(good.build, good.inputs, good.loss, dtype=torch.float64)
    v_P = normal(objective.size, seed=8)
    theta_P, h = objective.theta(), 1e-6
    gradients = [objective.gradient_at(theta_P + s * h * v_P) for s in (1, -1)]
    differences_P = (gradients[0] - gradients[1]) / (2 * h)
    for way in MAIN_WAYS[: 1 + good.second_way]:
        product_P = HessianOperator(objective, way=way).matvec(v_P)
        # h^2 of third derivatives, and eps of the gradient over h; both below 1e-8 here.
        assert float((product_P - differences_P).norm()) <= 1e-7 * float(v_P.norm())


@pytest.mark.parametrize("way", MAIN_WAYS)
@pytest.mark.parametrize("name", CASES)
def test_every_problem_of_the_conformance_tests_passes(name: str, way: str) -> None:
    result = preflight(CASES[name].objective(), way=way, seed=1)
    assert None not in checks(result).values()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("way", ["retained-graph", "double-vjp"])
@pytest.mark.parametrize("name", ["torch._weight_norm", "gradient in forward"])
def test_a_wrong_product_is_refused_with_the_module(
    name: str, way: str, dtype: torch.dtype
) -> None:
    sentence = refusal(TRAPS[name].objective(dtype), way=way)
    assert "not that of a Hessian" in sentence
    assert "most of all in" in sentence
    assert "(" in sentence.partition("most of all in")[2]  # the module's class


def test_a_product_that_drops_a_term_is_symmetric_and_refused_nevertheless() -> None:
    objective = TRAPS["gradient in forward"].objective(torch.float64)
    H_PP = dense_product(HessianOperator(objective).matvec, objective.size)
    # Rounding of some hundred terms: symmetry alone cannot see what is missing.
    assert float((H_PP - H_PP.T).norm()) <= 1e-13 * float(H_PP.norm())
    assert "'differences'" in refusal(objective)


MISSING = {
    "hardsigmoid": "the model (Around)",
    "embedding bag": "0 (EmbeddingBag)",
    "multi_margin": "multi_margin_loss",
    "reentrant checkpoint": "use_reentrant=False",
}


@pytest.mark.filterwarnings("ignore:.*torch.utils.checkpoint:UserWarning")
@pytest.mark.parametrize("way", ["retained-graph", "reverse-over-reverse"])
@pytest.mark.parametrize("name", MISSING)
def test_a_missing_derivative_is_a_sentence_with_the_place(name: str, way: str) -> None:
    sentence = refusal(TRAPS[name].objective(torch.float32), way=way)
    assert MISSING[name] in sentence
    assert sentence.endswith(".")


@pytest.mark.parametrize("name", ["huber", "soft_margin", "cdist", "grid_sample", "old function"])
def test_what_forward_mode_does_not_reach_is_told_another_way(name: str) -> None:
    objective = TRAPS[name].objective(torch.float32)
    assert "use --hvp retained-graph" in refusal(objective, way="forward-over-reverse")


def test_a_model_that_does_not_cast_is_judged_by_the_second_way() -> None:
    result = preflight(objective_of(Tapped), way="retained-graph", seed=0)
    assert checks(result) == {
        "repeat": True,
        "as written": True,
        "symmetry": True,
        "differences": None,
        "second way": True,
    }
    unmade = next(check for check in result.checks if check.name == "differences")
    assert "no float64 reference" in unmade.detail
    assert "forward-over-reverse" in result.noise_source


class HalfWrong(torch.autograd.Function):
    """Differentiable in forward mode as well, so that only the way backwards is wrong."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.square()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], _: Tensor) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.save_for_forward(inputs[0])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        result: Tensor = SymmetricDrop.apply(gradient, x)
        return result

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        x: Tensor = ctx.saved_tensors[0]
        return 2 * x * tangent


class SymmetricDrop(torch.autograd.Function):
    """2 x g, whose derivative in x is dropped on the way back and right on the way ahead."""

    @staticmethod
    def forward(g: Tensor, x: Tensor) -> Tensor:
        return 2 * x * g

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], _: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        x: Tensor = ctx.saved_tensors[1]
        return 2 * x * gradient, None

    @staticmethod
    def jvp(ctx: Any, dg: Tensor, dx: Tensor) -> Tensor:
        g, x = ctx.saved_tensors
        result: Tensor = 2 * (x * dg + g * dx)
        return result


class DropsInPlain(Tapped):
    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = HalfWrong.apply(super().forward(x))
        return result


def test_where_nothing_casts_a_second_way_that_disagrees_refuses() -> None:
    sentence = refusal(objective_of(DropsInPlain))
    assert "'second way'" in sentence
    assert "layer (Linear)" in sentence


def test_the_least_noise_is_ten_eps() -> None:
    for dtype in (torch.float32, torch.float64):
        result = preflight(
            objective_of(GOOD["tanh"].build, dtype=dtype), way="retained-graph", seed=0
        )
        assert result.noise >= 10 * torch.finfo(dtype).eps


class Rounded(nn.Module):
    """Computes in float16, whatever the parameters' type."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == torch.float64:
            return torch.tanh(self.layer(x))
        with torch.autocast("cpu", torch.float16):
            return torch.tanh(self.layer(x)).float()


def test_a_rounder_product_has_more_noise() -> None:
    result = preflight(objective_of(Rounded), way="retained-graph", seed=0)
    # float16 keeps 11 bits: a few relative errors of at most 2^-11.
    assert 2**-14 <= result.noise <= 2**-8
    assert "float64" in result.noise_source


@pytest.mark.parametrize("perturbation", [1e-5, 1e-4, 1e-3])
def test_noise_is_the_size_of_a_perturbation(
    perturbation: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Perturbed:
        """The float32 product, one part in many off along the vector: symmetric still."""

        def __init__(self, objective: Objective, *, way: str) -> None:
            self.inner = HessianOperator(objective, way=way)

        def matvec(self, v_P: Tensor) -> Tensor:
            Hv_P = self.inner.matvec(v_P)
            return Hv_P * (1 + perturbation) if v_P.dtype == torch.float32 else Hv_P

    monkeypatch.setattr(room, "HessianOperator", Perturbed)
    result = preflight(objective_of(GOOD["tanh"].build), way="retained-graph", seed=0)
    # Off by the perturbation, and by float32's own rounding.
    assert abs(result.noise - perturbation) <= 100 * torch.finfo(torch.float32).eps


def test_one_seed_gives_the_same_defects_twice() -> None:
    runs = [
        preflight(objective_of(GOOD["relu"].build), way="retained-graph", seed=5) for _ in range(2)
    ]
    assert runs[0].checks == runs[1].checks
    assert runs[0].noise == runs[1].noise


def test_want_of_memory_comes_through_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    full = torch.OutOfMemoryError("CUDA out of memory.")

    class Full:
        """Has no memory left for the second way."""

        def __init__(self, objective: Objective, *, way: str) -> None:
            if way == "forward-over-reverse":
                raise full
            self.matvec = HessianOperator(objective, way=way).matvec

    monkeypatch.setattr(room, "HessianOperator", Full)
    objective = objective_of(GOOD["tanh"].build, dtype=torch.float64)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        preflight(objective, way="retained-graph", seed=0)
    assert caught.value is full


def test_the_model_and_the_global_seed_are_left_alone() -> None:
    objective = objective_of(GOOD["cnn"].build, IMAGES)
    before = {k: t.clone() for k, t in objective.module.state_dict().items()}
    state = torch.random.get_rng_state()
    preflight(objective, way="retained-graph", seed=0)
    after = objective.module.state_dict()
    assert all(
        torch.equal(before[k], after[k]) and before[k].dtype == after[k].dtype for k in after
    )
    assert torch.equal(torch.random.get_rng_state(), state)


def test_masks_over_the_first_examples_do_not_stop_it() -> None:
    targets = TARGETS.clone()
    targets[:34] = -100  # more than the preflight takes, and all but one of the first batch
    objective = Objective(
        seeded(GOOD["tanh"].build),
        CROSS_ENTROPY,
        [Batch((ROWS[:35], targets[:35]), 35), Batch((ROWS[35:], targets[35:]), 5)],
        device=CPU,
        dtype=torch.float32,
    )
    assert all(checks(preflight(objective, way="retained-graph", seed=0)).values())


def test_the_cross_entropy_of_the_hook_is_that_of_the_package() -> None:
    a, b = (
        preflight(objective_of(GOOD["tanh"].build, loss=loss), way="retained-graph", seed=0)
        for loss in (CROSS_ENTROPY, hook(cross_entropy))
    )
    assert checks(a) == checks(b)
