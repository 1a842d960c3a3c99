"""Making losses and batches, for the tests of losses."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from curvtool.problem.batch import Batch, Loss
from curvtool.problem.losses import resolve_loss
from curvtool.problem.spec import DataSpec, LossSpec, ModelSpec, Origin, ProblemSpec

EPS = torch.finfo(torch.float64).eps


def loss_of(
    name: str,
    *,
    folder: Path = Path(),
    inputs: tuple[str, ...] | None = None,
    targets: str | None = None,
    build: str = "mlp",
    output: str | None = None,
    **kwargs: object,
) -> Loss:
    origin = Origin("lab.toml", folder, trusted=True)
    return resolve_loss(
        ProblemSpec(
            ModelSpec(build, origin, output=output),
            DataSpec("npz:d.npz", origin, inputs=inputs, targets=targets),
            LossSpec(name, origin, kwargs),
        )
    )


def batch_of(*values: Tensor) -> Batch:
    return Batch(values, values[0].shape[0])


def dict_of(**values: Tensor) -> Batch:
    return Batch(values, next(iter(values.values())).shape[0])


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def labels(classes: int, *shape: int, seed: int = 1, ignored: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(classes, shape, generator=generator)
    return drawn.where(torch.rand(*shape, generator=generator) >= ignored, -100)


def cut(batch: Batch, cuts: list[int]) -> list[Batch]:
    """Parts of a batch, at places that may be anywhere."""
    edges = [0, *sorted({c % batch.examples for c in cuts} - {0}), batch.examples]
    return [batch.part(start, stop) for start, stop in pairwise(edges)]


def dataset_mean(loss: Loss, model: nn.Module, parts: list[Batch]) -> float:
    """The design's mean: weight times loss over the sum of weights, batches of no weight left."""
    total = weights = 0.0
    for part in parts:
        value = loss(model, part, score=True)
        if value.weight:
            total, weights = (
                total + value.weight * float(value.mean.detach()),
                weights + value.weight,
            )
    return total / weights if weights else 0.0


class Returning(nn.Module):
    """A model that returns what is made of its first input."""

    def __init__(self, make: object) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: Tensor) -> object:
        assert callable(self.make)
        return self.make(x)
