"""Small problems with their dense Hessians, computed by other means than the package's own.

Letters: P parameters, N examples.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from curvtool.problem.batch import Batch, BatchValues, Loss
from curvtool.problem.hooks import Hook
from curvtool.problem.losses import resolve_loss
from curvtool.problem.losses.hook import HookLoss
from curvtool.problem.models import cnn, gpt, mlp
from curvtool.problem.objective import Objective
from curvtool.problem.spec import DataSpec, LossSpec, ModelSpec, Origin, ProblemSpec

CPU = torch.device("cpu")
ORIGIN = Origin("lab.toml", Path(), trusted=True)
N = 23  # a prime: every batch size but 1 and 23 leaves a ragged last batch


def builtin(name: str, **kwargs: object) -> Loss:
    """A loss of the package by its name."""
    return resolve_loss(
        ProblemSpec(
            ModelSpec("mlp", ORIGIN), DataSpec("npz:d.npz", ORIGIN), LossSpec(name, ORIGIN, kwargs)
        )
    )


def hook(function: Callable[..., Any]) -> Loss:
    """The loss that a user's function makes."""
    return HookLoss("lab.py:loss", Hook("lab.py:loss", function, Path(), ORIGIN), {})


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator).to(dtype)


def labels(classes: int, *shape: int, seed: int = 1, ignored: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(classes, shape, generator=generator)
    return drawn.where(torch.rand(*shape, generator=generator) >= ignored, -100)


def seeded(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A module with parameters and statistics of size 1, the global seed untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build()
    for i, p in enumerate(module.parameters()):
        p.data = normal(*p.shape, seed=100 + i) * 0.6
    for i, (name, b) in enumerate(module.named_buffers()):
        if b.is_floating_point():
            b.data = normal(*b.shape, seed=300 + i).abs() + 0.5 * name.endswith("var")
    return module


def batches(values: BatchValues, size: int) -> list[Batch]:
    """Cut the examples into batches of `size`, the last one short."""
    first = next(iter(values.values())) if isinstance(values, Mapping) else values[0]
    whole = Batch(values, len(first))
    return [whole.part(i, i + size) for i in range(0, whole.examples, size)]


@dataclass(frozen=True, eq=False)
class Case:
    """A problem, and its dataset mean once more as a plain formula over all examples at once."""

    build: Callable[[], nn.Module]
    loss: Loss
    values: BatchValues
    mean: Callable[[nn.Module, Any], Tensor]
    weight_decay: float = 0.0

    def objective(self, batch_size: int = 7, *, dtype: torch.dtype = torch.float64) -> Objective:
        return Objective(
            seeded(self.build).double(),
            self.loss,
            batches(self.values, batch_size),
            device=CPU,
            dtype=dtype,
            weight_decay=self.weight_decay,
        )


def dense_hessian(
    module: nn.Module, mean: Callable[[nn.Module], Tensor], *, weight_decay: float = 0.0
) -> Tensor:
    """H by `torch.func` (forward over reverse) of a plain function of all parameters.

    Not by `torch.func.hessian`, whose jacrev is wrong through LayerNorm (torch 2.14.1: 43 % off).
    """
    names = [n for n, p in module.named_parameters() if p.requires_grad]
    pieces = [p.detach() for p in module.parameters() if p.requires_grad]
    whole = _Mean(module, mean)

    def f(theta_P: Tensor) -> Tensor:
        parts = torch.split(theta_P, [p.numel() for p in pieces])
        replaced = {
            f"module.{n}": t.view(p.shape) for n, t, p in zip(names, parts, pieces, strict=True)
        }
        result: Tensor = functional_call(whole, replaced, ())
        return result + weight_decay / 2 * theta_P.square().sum()

    with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
        # torch scripts the forward derivatives of softmax and the norms on first use.
        warnings.filterwarnings("ignore", message=".*torch.jit.script. is deprecated")
        theta_P = torch.cat([p.reshape(-1) for p in pieces])
        H_PP: Tensor = torch.func.jacfwd(torch.func.grad(f))(theta_P)
    return H_PP


class _Mean(nn.Module):
    def __init__(self, module: nn.Module, mean: Callable[[nn.Module], Tensor]) -> None:
        super().__init__()
        self.module = module
        self._mean = mean

    def forward(self) -> Tensor:
        return self._mean(self.module)


@lru_cache
def truth(name: str) -> Tensor:
    """The dense float64 Hessian of a case."""
    case = CASES[name]
    module = seeded(case.build).double().eval()
    return dense_hessian(
        module, lambda m: case.mean(m, case.values), weight_decay=case.weight_decay
    )


def _tanh_mlp() -> nn.Module:
    return mlp(sizes=[4, 5, 3], activation="tanh")


def _frozen() -> nn.Module:
    module = mlp(sizes=[4, 5, 3], activation="tanh")
    next(iter(module.parameters())).requires_grad_(False)
    return module


def _cnn() -> nn.Module:
    return cnn(in_channels=1, channels=[3, 4], classes=3, norm="batch", pool="max")


def _gpt(*, tied: bool) -> nn.Module:
    return gpt(vocab_size=6, context=4, width=4, layers=1, heads=2, mlp_ratio=2, tied=tied)


class Unreached(nn.Module):
    """Its second layer is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(4, 3)
        self.spare = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.used(x))


def cross_entropy(model: nn.Module, values: Any) -> Tensor:
    return F.cross_entropy(model(values[0]), values[1])


def _tokens(model: nn.Module, values: Any) -> Tensor:
    return F.cross_entropy(model(values[0]).flatten(0, 1), values[1].flatten())


def _mse(model: nn.Module, values: Any) -> Tensor:
    squares: Tensor = (model(values[0]) - values[1]).square()
    return squares.mean()


CLASS_WEIGHTS = [0.2, 1.0, 3.0]
# The second batch of seven is masked as a whole, the others in part.
MASKED = labels(3, N, ignored=0.4).index_fill(0, torch.arange(7, 14), -100)


def _weighted(model: nn.Module, values: Any) -> Tensor:
    weights = torch.tensor(CLASS_WEIGHTS, dtype=values[0].dtype)
    return F.cross_entropy(model(values[0]), values[1], weights)


def _mse_of_dict(model: nn.Module, values: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    kept = values["mask"]
    squares: Tensor = (model(values["features"]) - values["goal"]).square().sum(1)
    return (squares * kept).sum() / kept.sum().clamp(min=1), kept.sum()


def _pairs_only(model: nn.Module, values: Any) -> Tensor:
    """Like losses over pairs: a constant where the batch has no pair (none in the last two)."""
    x: Tensor = values[0]
    if int(values[1].min()) >= 7:
        return x.new_zeros(())
    output: Tensor = model(x)
    return output.square().mean()


def _mean_of_pairs(model: nn.Module, values: Any) -> Tensor:
    squares: Tensor = model(values[0][:7]).square()
    return squares.mean().mul(7 / N)


_X = normal(N, 4, seed=2)
_Y = labels(3, N, seed=3)
_TOKENS = (labels(6, N, 4, seed=4), labels(6, N, 4, seed=5, ignored=0.3))
_IMAGES = (normal(N, 6, 6, seed=6), _Y)
_DICT = {"features": _X, "goal": normal(N, 3, seed=7), "mask": (labels(3, N, seed=8) > 0).double()}

CASES = {
    "tanh": Case(_tanh_mlp, builtin("cross_entropy"), (_X, _Y), cross_entropy),
    "relu": Case(
        lambda: mlp(sizes=[4, 6, 6, 3]), builtin("cross_entropy"), (_X, _Y), cross_entropy
    ),
    "cnn": Case(_cnn, builtin("cross_entropy"), _IMAGES, cross_entropy),
    "gpt": Case(lambda: _gpt(tied=False), builtin("cross_entropy"), _TOKENS, _tokens),
    "tied": Case(lambda: _gpt(tied=True), builtin("cross_entropy"), _TOKENS, _tokens),
    "frozen": Case(_frozen, builtin("cross_entropy"), (_X, _Y), cross_entropy),
    "unreached": Case(Unreached, builtin("cross_entropy"), (_X, _Y), cross_entropy),
    "linear-mse": Case(lambda: nn.Linear(4, 2), builtin("mse"), (_X, normal(N, 2, seed=9)), _mse),
    "masked-weighted": Case(
        _tanh_mlp,
        builtin("cross_entropy", class_weights=CLASS_WEIGHTS),
        (_X, MASKED),
        _weighted,
    ),
    "constant-batches": Case(_tanh_mlp, hook(_pairs_only), (_X, torch.arange(N)), _mean_of_pairs),
    "dict": Case(_tanh_mlp, hook(_mse_of_dict), _DICT, lambda m, v: _mse_of_dict(m, v)[0]),
    "bce": Case(
        _tanh_mlp,
        builtin("bce", pos_weight=2.5),
        (_X, labels(2, N, 3, seed=10).double()),
        lambda m, v: F.binary_cross_entropy_with_logits(
            m(v[0]), v[1], pos_weight=torch.tensor(2.5, dtype=v[0].dtype)
        ),
    ),
    "nll": Case(
        lambda: nn.Sequential(_tanh_mlp(), nn.LogSoftmax(-1)),
        builtin("nll"),
        (_X, _Y),
        lambda m, v: F.nll_loss(m(v[0]), v[1]),
    ),
    "zero": Case(
        lambda: nn.Linear(4, 3),
        hook(lambda m, v: m(v[0]).mean()),
        (_X, _Y),
        lambda m, v: m(v[0]).mean(),
    ),
    "weight-decay": Case(
        _tanh_mlp, builtin("cross_entropy"), (_X, _Y), cross_entropy, weight_decay=0.3
    ),
}


def dense_product(operator_matvec: Callable[[Tensor], Tensor], size: int) -> Tensor:
    """The matrix of a product, column by column."""
    return torch.stack([operator_matvec(e) for e in torch.eye(size, dtype=torch.float64)], dim=1)
