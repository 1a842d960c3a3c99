"""`trace` and `diag` of small float32 problems beside float64 by plain double backward.

Rounding begins in late examples, or is all that an interval of a nearly diagonal matrix has.
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from curvtool.errors import ExitCode
from tests.cli.calls import call

COMMON = """
import torch
from torch import nn


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
"""
# Frequencies of time, the data sorted by time: float32 rounds w t more the later it is.
LATE = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.linspace(0.1, 2, 20))
        self.out = nn.Linear(40, 1)

    def forward(self, t):
        a = t * self.w
        return self.out(torch.cat([a.sin(), a.cos()], 1))


def dataset():
    t = torch.rand(160, 1, generator=torch.Generator().manual_seed(1)).pow(3).mul(2000)
    t = t.sort(0).values
    return t, (0.7 * t).sin()


def loss(model, batch):
    return (model(batch[0]) - batch[1]).square().mean()
"""
# One weight an output, weakly coupled: all probes agree to the rounding.
APART = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(normal(300, seed=1))

    def forward(self, x):
        y = torch.tanh(self.w * x)
        return y + 1e-6 * y.roll(1, 1)


def dataset():
    return normal(60, 300, seed=2), normal(60, 300, seed=3)


def loss(model, batch):
    return (model(batch[0]) - batch[1]).square().sum(1).mean()
"""
# Few parameters: each has a product of its own for less than an estimate takes.
FEW = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3))

    def forward(self, x):
        return self.layers(x)


def dataset():
    return normal(100, 5, seed=2), normal(100, 3, seed=3)


def loss(model, batch):
    return (model(batch[0]) - batch[1]).square().sum(1).mean()
"""


def _problem(text: str) -> dict[str, Any]:
    """The hooks as a file, a checkpoint of theirs, and what they define."""
    source = COMMON + textwrap.dedent(text) + "\n\ndef build():\n    return Net()\n"
    Path("prob.py").write_text(source)
    names: dict[str, Any] = {}
    exec(compile(source, "prob.py", "exec"), names)
    torch.manual_seed(0)
    torch.save(names["Net"]().state_dict(), "net.pt")
    return names


def _hessian(names: dict[str, Any]) -> Tensor:
    model: nn.Module = names["Net"]()
    model.load_state_dict(torch.load("net.pt"))
    model.double()
    batch = tuple(part.double() for part in names["dataset"]())
    parameters = list(model.parameters())
    first = torch.autograd.grad(names["loss"](model, batch), parameters, create_graph=True)
    g_P = torch.cat([part.reshape(-1) for part in first])
    rows = [torch.autograd.grad(entry, parameters, retain_graph=True) for entry in g_P]
    return torch.stack([torch.cat([part.reshape(-1) for part in row]) for row in rows])


def _answer(command: str, *more: str) -> dict[str, Any]:
    ended = call(
        *(command, "net.pt", "--model", "prob.py:build", "--data", "prob.py:dataset"),
        *("--loss", "prob.py:loss", "--json", "-q", "--force", "--out", "run.h5", *more),
    )
    assert ended.code in {ExitCode.DONE, ExitCode.NOT_CONVERGED}, ended.err
    found: dict[str, Any] = json.loads(ended.out)
    return found


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("text", [LATE, APART], ids=["late rounding", "nearly diagonal"])
def test_a_trace_holds_that_of_float64(text: str) -> None:
    H = _hessian(_problem(text))
    trace, square = float(H.trace()), float(H.square().sum())
    for more in (
        ("--method", "hutchinson", "--rel-err", "0.05"),
        ("--method", "dense"),
        ("--method", "hutchinson", "--rel-err", "0.05", "--dtype", "float64"),
    ):
        found = _answer("trace", "--frobenius", "--per-layer", "--confidence", "0.9999", *more)
        low, high = found["interval"]
        assert low < trace < high
        assert found["arithmetic"] > 0
        low, high = found["frobenius_squared_interval"]
        assert low < square < high


def test_a_method_that_cannot_reach_what_was_asked_says_why() -> None:
    _problem(APART)
    found = _answer("trace", "--method", "hutchinson", "--rel-err", "1e-9", "--max-hvps", "400")
    assert found["met"] is False
    assert found["outcome"] == "floor"
    assert "floor of the arithmetic" in found["outcome_sentence"]
    assert "--dtype float64" in found["reason"]


@pytest.mark.parametrize("rel_err", ["0.1", "0.05"])
def test_few_parameters_have_their_diagonal_written_out(rel_err: str) -> None:
    truth = _hessian(_problem(FEW)).diagonal().numpy()
    found = _answer("diag", "--rel-err", rel_err)
    P = len(truth)
    assert P == 39
    # Four products beside say how it rounds.
    assert found["hvps"] == P + 4
    with h5py.File("run.h5") as file:
        diagonal, error = file["diagonal"][...], file["diagonal_error"][...]
    assert (np.abs(diagonal - truth) <= error).all()
    assert found["rel_err"] < 1e-9


def test_a_diagonal_by_probes_holds_that_of_float64() -> None:
    truth = _hessian(_problem(APART)).diagonal().numpy()
    found = _answer("diag", "--rel-err", "0.02")
    assert found["method"] == "hutchinson"
    assert found["hvps"] < len(truth) / 4
    with h5py.File("run.h5") as file:
        diagonal, error = file["diagonal"][...], file["diagonal_error"][...]
    apart = np.abs(diagonal - truth)
    assert np.linalg.norm(apart) <= found["rel_err"] * np.linalg.norm(truth)
    assert (apart <= error).mean() >= 0.9
