"""Small problems on disk, whose parts a test may spoil one at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

HOOKS = """
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self, activation=torch.tanh):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.last = nn.Linear(4, 2)
        self.activation = activation

    def forward(self, x):
        return self.last(self.activation(self.first(x)))


class Detached(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.tanh(x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * (1 - torch.tanh(x) ** 2).detach()


class Wrong(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.tanh(x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * (1 - torch.tanh(2 * x) ** 2)


class Dropping(Net):
    def forward(self, x):
        return self.last(F.dropout(torch.tanh(self.first(x)), 0.5, self.training))


class Raising(Net):
    def forward(self, x):
        raise ArithmeticError("in forward")


class Talking(Net):
    def forward(self, x):
        print("talking")
        return super().forward(x)


def build():
    return Net()


def detached():
    return Net(Detached.apply)


def wrong():
    return Net(Wrong.apply)


def dropping():
    return Dropping()


def talking():
    return Talking()


def raising_forward():
    return Raising()


def raising_build():
    raise ArithmeticError("in build")


def normed():
    net = Net()
    net.first = nn.utils.weight_norm(net.first)
    return net


class PlainlyNormed(nn.Module):
    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(4))
        self.weight_g = nn.Parameter(torch.ones(4, 1))
        self.weight_v = nn.Parameter(torch.ones(4, 3))

    def forward(self, x):
        v = self.weight_v
        return F.linear(x, v * (self.weight_g / v.square().sum(1, keepdim=True).sqrt()), self.bias)


def plainly_normed():
    net = Net()
    net.first = PlainlyNormed()
    return net


def no_room():
    raise MemoryError


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 5

    def __getitem__(self, index):
        raise ArithmeticError("in a row")


def rows():
    return Rows()


def nothing():
    return []


def raising_loss(model, batch):
    raise ArithmeticError("in loss")


def loss(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])
"""


def net() -> nn.Module:
    """What `build` in the hooks makes, as far as the names of its tensors go."""
    torch.manual_seed(0)
    first, last = nn.Linear(3, 4), nn.Linear(4, 2)
    return nn.ModuleDict({"first": first, "last": last})


def write_problem(folder: Path) -> tuple[str, ...]:
    """Write net.pt, hooks.py and data.npz; return the arguments that make a command of them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hooks.py").write_text(HOOKS)
    torch.save(net().state_dict(), folder / "net.pt")
    write_data(folder / "data.npz")
    return (
        *("spectrum", "net.pt", "--model", "hooks.py:build"),
        *("--data", "npz:data.npz", "--loss", "cross_entropy"),
    )


def write_data(path: Path, *, width: int = 3, examples: int = 40, shift: int = 0) -> None:
    """Write a dataset of two classes; `shift` moves the labels."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((examples, width)).astype(np.float32)
    np.savez(path, x=x, y=(x.sum(axis=1) > 0).astype(np.int64) + shift)
