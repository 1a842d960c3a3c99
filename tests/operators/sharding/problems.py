"""Models for products over ranks, beside the cases of `tests.objectives`."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.objectives import CASES, Case, builtin, cross_entropy, hook, labels, normal

N = 23


class OwnWays(nn.Module):
    """Uses parameters in other ways than by calling the layers that own them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6, bias=False)
        self.offset = nn.Parameter(torch.zeros(6))
        self.scale = nn.Parameter(torch.zeros(1))
        self.norm = nn.LayerNorm(6)
        self.frozen = nn.Linear(6, 6)
        self.frozen.requires_grad_(False)
        self.act = nn.ReLU(inplace=True)
        self.rows = nn.ParameterList([nn.Parameter(torch.zeros(6)) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        h += self.offset
        h = self.frozen(self.act(h)) * self.scale.exp()
        h = self.norm(h) @ self.first.weight @ self.first.weight.T
        return torch.stack([(h * row).sum(-1) for row in self.rows], dim=-1)


class Encoder(nn.Module):
    """Torch's own attention, which takes many parameters in one call."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(
            4, 2, dim_feedforward=6, dropout=0.0, activation="gelu", batch_first=True
        )
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.layer(x).mean(1))
        return result


class Recurrent(nn.Module):
    """A layer that hands its parameters on in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRU(4, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.cell(x)[0][:, -1]
        return result


class Convolutions(nn.Module):
    """Convolution and BatchNorm in eval mode with bias, silu and a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.second = nn.Conv2d(3, 3, 3, padding=1, groups=3)
        self.group = nn.GroupNorm(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.silu(self.norm(self.first(x[:, None])))
        h = h + self.group(self.second(h))
        found: Tensor = h.mean((2, 3))
        return found


class Checkpointed(nn.Module):
    """Blocks whose activations torch computes again on the way back."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4), nn.GELU()) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + checkpoint(block, x, use_reentrant=False)
        return x


def _hinge(model: nn.Module, values: Any) -> Tensor:
    return F.cross_entropy(model(values[0]).sin(), values[1])


_SEQUENCES = (normal(N, 5, 4, seed=20), labels(3, N, seed=21))
_IMAGES = (normal(N, 5, 5, seed=22), labels(3, N, seed=23))
_ROWS = (normal(N, 4, seed=24), labels(3, N, seed=25))

OWN = {
    "own-ways": Case(OwnWays, builtin("cross_entropy"), _ROWS, cross_entropy),
    "encoder": Case(Encoder, builtin("cross_entropy"), _SEQUENCES, cross_entropy),
    "recurrent": Case(Recurrent, hook(_hinge), _SEQUENCES, _hinge),
    "checkpointed": Case(Checkpointed, builtin("cross_entropy"), _ROWS, cross_entropy),
    "convolutions": Case(Convolutions, builtin("cross_entropy"), _IMAGES, cross_entropy),
}
OF_OTHERS = (
    *("tanh", "relu", "cnn", "gpt", "tied", "frozen", "unreached", "linear-mse", "weight-decay"),
    *("masked-weighted", "dict", "bce", "nll"),
)
PROBLEMS = {**OWN, **{name: CASES[name] for name in OF_OTHERS}}
