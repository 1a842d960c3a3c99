"""Losses from the user's seat: several outputs, language models, contrastive pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curvtool.errors import ExitCode
from curvtool.problem.models import gpt
from tests.cli.calls import call, refusal
from tests.cli.problems import write_problem

MODELS = """
import torch
from torch import nn
from hooks import Net


class Several(Net):
    def forward(self, x):
        logits = super().forward(x)
        return {"logits_too": logits, "hidden": torch.tanh(self.first(x))}


class Pair(Net):
    def forward(self, left, right):
        return super().forward(left), super().forward(right)


def several():
    return Several()


def pair():
    return Pair()
"""


@pytest.fixture(autouse=True)
def problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    monkeypatch.chdir(tmp_path)
    arguments = write_problem(tmp_path)[1:]
    (tmp_path / "models.py").write_text(MODELS)
    return arguments


def checked(*arguments: str) -> dict[str, Any]:
    ended = call("check", *arguments, "--json", "-q")
    assert ended.code == ExitCode.DONE, ended.err
    found: dict[str, Any] = json.loads(ended.out)["problem"]
    return found


def test_an_output_is_named_on_the_command_line_or_in_the_file(problem: tuple[str, ...]) -> None:
    several = (*problem, "--model", "models.py:several")
    said = refusal("check", *several)
    assert "logits_too (" in said
    assert "--output logits_too" in said
    plain = checked(*problem)
    named = checked(*several, "--output", "logits_too")
    assert named["loss_value"] == plain["loss_value"]
    assert named["accuracy"] == plain["accuracy"]
    Path("p.toml").write_text('[model]\nbuild = "models.py:several"\noutput = 0\n')
    assert "'0'" in refusal("check", "--problem", "p.toml", "net.pt", *problem[3:])
    Path("p.toml").write_text('[model]\nbuild = "models.py:several"\noutput = "logits_too"\n')
    by_file = checked("--problem", "p.toml", "net.pt", *problem[3:])
    assert by_file["loss_value"] == plain["loss_value"]
    Path("p.toml").write_text('[model]\nbuild = "models.py:several"\noutput = -1\n')
    assert "place from 0" in refusal("check", "--problem", "p.toml", "net.pt", *problem[3:])


def test_language_models_count_their_targets(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = gpt(vocab_size=7, context=6, width=8, layers=1, heads=2)
    torch.save(model.state_dict(), "gpt.pt")
    tokens = np.random.default_rng(0).integers(0, 7, (10, 6))
    np.savez("tokens.npz", tokens=tokens)
    (tmp_path / "data.py").write_text(
        "import numpy as np, torch\n"
        "def dataset():\n"
        "    return {'tokens_NT': torch.from_numpy(np.load('tokens.npz')['tokens'])}\n"
    )
    sizes = ("vocab_size=7", "context=6", "width=8", "layers=1", "heads=2")
    kwargs = [word for size in sizes for word in ("--model-kwargs", size)]
    arguments = ("gpt.pt", "--model", "gpt", *kwargs, "--data", "data.py:dataset")
    found = checked(*arguments, "--loss", "causal_lm")
    logits = model.eval()(torch.from_numpy(tokens))[:, :-1].detach()
    right = (logits.argmax(-1) == torch.from_numpy(tokens)[:, 1:]).double().mean()
    assert found["total_weight"] == 50
    assert found["accuracy"] == pytest.approx(float(right))
    by_chunks = checked(*arguments, "--loss", "causal_lm", "--loss-kwargs", "head=head")
    # 50 terms in float32, in two orders.
    assert by_chunks["loss_value"] == pytest.approx(found["loss_value"], rel=1e-5)


def test_a_coupling_loss_is_announced(tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text(
        "import torch\n"
        "def dataset():\n"
        "    g = torch.Generator().manual_seed(0)\n"
        "    return {n: torch.randn(20, 3, generator=g) for n in ('left', 'right')}\n"
    )
    ended = call(
        *("check", "net.pt", "--model", "models.py:pair", "--data", "data.py:dataset"),
        *("--loss", "contrastive", "--loss-kwargs", "temperature=0.5", "--batch-size", "8", "-q"),
    )
    assert ended.code == ExitCode.DONE, ended.err
    said = " ".join(ended.out.split())
    assert "Contrastive couples the examples of a batch: the batch size (8, the last 4)" in said
    assert "accuracy" in said
    assert max(map(len, ended.out.splitlines())) <= 80
