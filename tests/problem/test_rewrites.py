"""Calls in another form: the same function and derivatives, with less to compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from curvtool.errors import PreflightError
from curvtool.operators.hessian import HessianOperator
from curvtool.operators.preflight import preflight
from curvtool.problem import rewrites
from curvtool.problem.objective import Objective
from curvtool.problem.rewrites import Rewrites
from curvtool.problem.twice import twice_differentiable
from tests.objectives import CPU, batches, builtin, labels, normal, seeded

EPS = torch.finfo(torch.float64).eps


def used(norm: nn.Module) -> nn.Module:
    """A norm with statistics and weights that are not its first ones."""
    for i, t in enumerate((*norm.parameters(), *norm.buffers())):
        if t.is_floating_point():
            t.data.copy_(normal(*t.shape, seed=i).abs() + 0.1)
    return norm


class Branching(nn.Module):
    """The convolution's output goes to the norm, and past it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 3, 3), used(nn.BatchNorm2d(3))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        found: Tensor = torch.tanh(self.norm(y)) + y.square()
        return found


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(2, 3, 3), used(nn.BatchNorm2d(3)), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = checkpoint(self.block, x, use_reentrant=False)
        return found


BODIES: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "1d": (lambda: nn.Sequential(nn.Conv1d(2, 3, 3), used(nn.BatchNorm1d(3)), nn.Tanh()), 1),
    "2d": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2, bias=False),
            used(nn.BatchNorm2d(4)),
            nn.Tanh(),
        ),
        2,
    ),
    "3d": (lambda: nn.Sequential(nn.Conv3d(2, 3, 2), used(nn.BatchNorm3d(3)), nn.Tanh()), 3),
    "words": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 3, padding="same"), used(nn.BatchNorm2d(3)), nn.Tanh()
        ),
        2,
    ),
    "not affine": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3), used(nn.BatchNorm2d(3, affine=False)), nn.Tanh()),
        2,
    ),
    "reflected": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"),
            used(nn.BatchNorm2d(3)),
            nn.Tanh(),
        ),
        2,
    ),
    "branching": (Branching, 2),
    "checkpointed": (Checkpointed, 2),
}


class Classifier(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.body(x).flatten(2).sum(2)
        return scores


def objective(name: str, *, train_mode: bool = False) -> Objective:
    build, dimensions = BODIES[name]
    module = seeded(lambda: Classifier(build())).double().eval()
    x = normal(7, 2, *[5] * dimensions)
    return Objective(
        module,
        builtin("cross_entropy"),
        batches((x, labels(3, 7)), 4),
        device=CPU,
        dtype=torch.float64,
        train_mode=train_mode,
    )


def apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("name", BODIES)
def test_a_norm_folded_into_its_convolution_changes_no_derivative(name: str) -> None:
    made = objective(name)
    there = made.evaluate()
    # Some hundred terms a sum, and the statistics' roots.
    assert apart(made.gradient_at(made.theta()), there.gradient_P) <= 1e3 * EPS
    v_P = normal(made.size)
    found_P = HessianOperator(made).matvec(v_P)
    h = 1e-5 / float(v_P.norm())
    v = made.layout.split(v_P)

    def gradient(sign: int) -> Tensor:
        with torch.no_grad():
            moved = [
                p.add_(piece, alpha=sign * h) for p, piece in zip(made.parameters, v, strict=True)
            ]
        total = torch.zeros((), dtype=torch.float64)
        for index in range(made.num_batches):
            x, y = made.batch(index).tensors
            total = total + F.cross_entropy(made.module(x), y, reduction="sum")
        found = torch.autograd.grad(total / 7, made.parameters)
        with torch.no_grad():
            for p, piece in zip(moved, v, strict=True):
                p.sub_(piece, alpha=sign * h)
        return torch.cat([g.flatten() for g in found])

    # Central differences: the square of the step, and rounding over it.
    assert apart(found_P, (gradient(1) - gradient(-1)) / (2 * h)) <= 1e-7


# A traced program (`linearized`) cannot hold what is computed again.
@pytest.mark.parametrize(
    ("name", "way"),
    [
        (name, way)
        for name in ("2d", "branching", "checkpointed")
        for way in ("reverse-over-reverse", "forward-over-reverse", "linearized")
        if (name, way) != ("checkpointed", "linearized")
    ],
)
def test_every_way_goes_through_it(name: str, way: str) -> None:
    made = objective(name)
    v_P = normal(made.size)
    found_P = HessianOperator(made, way=way).matvec(v_P)
    assert apart(found_P, HessianOperator(made).matvec(v_P)) <= 1e3 * EPS


def _operations(output: Tensor) -> set[str]:
    waiting, names = [output.grad_fn], set()
    while waiting:
        node: Any = waiting.pop()
        if node is not None:
            names.add(node.name())
            waiting += [further for further, _ in node.next_functions]
    return names


def test_the_graph_has_no_norm_left() -> None:
    made = objective("2d")
    assert not any("BatchNorm" in name for name in _operations(made.batch_loss(0)))
    # Statistics of the batch are no constants: nothing to fold.
    coupled = objective("2d", train_mode=True)
    assert any("BatchNorm" in name for name in _operations(coupled.batch_loss(0)))


@pytest.mark.parametrize("between", [nn.ReLU(), nn.Identity()])
def test_only_what_follows_a_convolution_is_folded(between: nn.Module) -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 3), between, used(nn.BatchNorm2d(3))).eval()
    with Rewrites():
        names = _operations(net(normal(2, 2, 5, 5).float()))
    assert any("BatchNorm" in name for name in names) is isinstance(between, nn.ReLU)


def test_a_rewriting_that_is_wrong_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    right = rewrites._convolved

    def wrong(*args: Any, scale_C: Tensor, offset_C: Tensor) -> Tensor:
        return right(*args, scale_C=1.001 * scale_C, offset_C=offset_C)

    monkeypatch.setattr(rewrites, "_convolved", wrong)
    with pytest.raises(PreflightError, match="'as written'"):
        preflight(objective("2d"), way="retained-graph", seed=0)


def test_a_model_that_fits_perfectly_is_as_written() -> None:
    module = seeded(lambda: nn.Linear(4, 2)).double()
    x = normal(9, 4)
    with torch.no_grad():
        targets = module(x)
    made = Objective(
        module, builtin("mse"), batches((x, targets), 4), device=CPU, dtype=torch.float64
    )
    found = preflight(made, way="retained-graph", seed=0)
    assert {c.name: c.passed for c in found.checks}["as written"] is True


# In float64, what is taken to float32.

CASTS: dict[str, Callable[[Tensor], Tensor]] = {
    "float": lambda x: x.float() * 3,
    "to": lambda x: x.to(torch.float32) * 3,
    "softmax": lambda x: x.softmax(0, dtype=torch.float32),
    "of integers": lambda x: torch.arange(3).float() @ x,
    "made of it": lambda x: torch.ones(3, dtype=torch.float32) @ x,
}


@pytest.mark.parametrize("name", CASTS)
def test_in_double_nothing_is_single(name: str) -> None:
    x = torch.rand(3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with twice_differentiable(dtype=torch.float64):
        assert CASTS[name](x).dtype == torch.float64
    with twice_differentiable():
        assert torch.rand(3).float().dtype == torch.float32
        assert x.float().dtype == torch.float32


def test_in_double_bits_stay_bits() -> None:
    bits = torch.tensor([1.0]).view(torch.int32)
    with twice_differentiable(dtype=torch.float64):
        assert bits.view(torch.float32).item() == 1.0
