"""`init` from the user's seat."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from curvtool.errors import ExitCode
from tests.cli.calls import MLP, call, refusal
from tests.cli.problems import net, write_problem


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused_init(*arguments: str) -> str:
    ended = call("init", *arguments)
    assert ended.code == ExitCode.UNUSABLE_INPUT
    assert not ended.out
    assert "Traceback" not in ended.err
    return ended.sentence


def test_it_writes_a_file_that_check_takes_once_it_is_filled_in(here: Path) -> None:
    write_problem(here)
    ended = call("init", "net.pt")
    assert ended.code == ExitCode.DONE, ended.err
    assert "Wrote curvtool.toml" in ended.out
    assert "4, 26 numbers, at the top level" in ended.out
    assert "Next: edit curvtool.toml, then curvtool check net.pt" in ended.out
    assert max(map(len, ended.out.splitlines())) <= 80
    text = (here / "curvtool.toml").read_text()
    assert "first.weight  float32 of shape (4, 3)" in text
    # As it is, it is refused at the first thing that is left to say.
    assert "'TODO'" in refusal("check", "net.pt")
    for value in ("hooks.py:build", "npz:data.npz", "cross_entropy"):
        text = text.replace('"TODO"', f'"{value}"', 1)
    (here / "curvtool.toml").write_text(
        text.replace('# inputs = "x" ', 'inputs = "x"').replace('# targets = "y"', 'targets = "y"')
    )
    filled = call("check", "net.pt", "-q")
    assert filled.code == ExitCode.DONE, filled.err
    assert "accuracy" in filled.out


def test_nothing_is_replaced_unasked(here: Path) -> None:
    torch.save(net().state_dict(), here / "net.pt")
    (here / "curvtool.toml").write_text("mine")
    assert "--force" in refused_init("net.pt")
    assert (here / "curvtool.toml").read_text() == "mine"
    assert call("init", "net.pt", "--force").code == ExitCode.DONE
    assert "TODO" in (here / "curvtool.toml").read_text()
    assert "--problem other.toml" in call("init", "net.pt", "-o", "other.toml").out
    assert sorted(p.name for p in here.iterdir()) == ["curvtool.toml", "net.pt", "other.toml"]


def test_what_cannot_be_written_or_read(here: Path) -> None:
    torch.save(net().state_dict(), here / "net.pt")
    (here / "text.pt").write_text("hello")
    assert "checkpoint itself" in refused_init("net.pt", "-o", "net.pt", "--force")
    assert "mkdir" in refused_init("net.pt", "-o", "no/such.toml")
    assert "is a folder" in refused_init("net.pt", "-o", ".")
    assert "a text file" in refused_init("text.pt")
    assert "no such file" in refused_init("absent.pt")
    assert sorted(p.name for p in here.iterdir()) == ["net.pt", "text.pt"]


def test_a_checkpoint_with_its_problem_needs_none(here: Path) -> None:
    ended = call("init", MLP)
    assert ended.code == ExitCode.DONE
    assert "no problem file is needed" in ended.out
    assert not list(here.iterdir())


def test_real_predictions_have_their_errors_in_the_report(here: Path) -> None:
    write_problem(here)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 3)).astype(np.float32)
    np.savez(here / "real.npz", x=x, y=rng.standard_normal((40, 2)).astype(np.float32))
    ended = call(
        *("check", "net.pt", "--model", "hooks.py:build", "--data", "npz:real.npz"),
        *("--data-kwargs", "inputs=x", "--data-kwargs", "targets=y", "--loss", "huber", "-q"),
    )
    assert ended.code == ExitCode.DONE, ended.err
    assert "RMSE " in ended.out
    assert "targets' standard deviation " in ended.out
    assert max(map(len, ended.out.splitlines())) <= 80
