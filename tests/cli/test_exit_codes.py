"""Codes 2 (a command line that contradicts itself) and 5 (the product is not a Hessian)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from curvtool.errors import ExitCode
from tests.cli.calls import call, refusal
from tests.cli.problems import write_problem


@pytest.fixture
def problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    monkeypatch.chdir(tmp_path)
    return write_problem(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--method lobpcg", "--which LM was asked for"),
        ("--method lobpcg --which BE", "lobpcg finds LA, SA"),
        ("--method power --which BE", "power finds LM, LA, SA"),
        ("--all -k 3", "leave --top-k out"),
        ("--all --method lanczos", "contradicts"),
        ("--basis 20", "at least 32"),
        ("--basis 10 -k 1", "at least 13"),
        ("--basis 100 --method power --which LA", "--basis belongs to Lanczos"),
        ("--momentum 0.5", "--method power"),
        ("--certify full --method eigsh", "belongs to Lanczos"),
        ("--memory much", "8GiB"),
        ("--memory 0", "--memory"),
        ("--memory 1e400", "--memory"),
        ("--memory -3", "--memory"),
        ("--device gpu", "auto, cpu, cuda or cuda:N"),
        ("--device cuda:-1", "auto, cpu, cuda or cuda:N"),
        ("--device cuda:²", "auto, cpu, cuda or cuda:N"),
        ("--tol 0", "positive number"),
        ("--tol nan", "positive number"),
        ("--tol -1", "positive number"),
        ("--weight-decay inf", "finite number"),
        ("--weight-decay -1", "greater than or equal to 0"),
        ("--seed -1", "greater than or equal to 0"),
        ("--seed 99999999999999999999", "less than or equal to 4294967295"),
        ("--top-k 0", "greater than or equal to 1"),
        ("--top-k three", "valid integer"),
        ("--max-hvps 1", "greater than or equal to 3"),
        ("--batch-size 0", "greater than or equal to 1"),
        ("--momentum 1 --method power", "less than or equal to 0.999"),
        ("--which XX", "'lm', 'la', 'sa', 'be'"),
        ("--dtype half", "'float32', 'float64'"),
        ("--model-kwargs width", "expects key=value"),
        ("--data-kwargs inputs=[", "not closed"),
        ("--quiet --verbose", "contradict"),
        ("--topk 3", "Did you mean --top-k?"),
        ("--wich SA", "Did you mean --which?"),
        ("--nothing-like-it", "No such option"),
        ("another.pt", "another.pt"),
        ("--json=3", "--json"),
        ("-k", "requires an argument"),
    ],
)
def test_contradictions_are_judged_before_anything_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    # The checkpoint is not there: whoever looked would end with 4.
    ended = call("spectrum", "absent.pt", *arguments.split())
    assert ended.code == ExitCode.USAGE
    assert ended.err.startswith("curvtool: ")
    assert len(ended.err.splitlines()) == 1
    assert said in ended.err
    assert not ended.out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("spectrm x.pt", "Did you mean 'spectrum'?"),
        ("shw x.h5", "Did you mean 'show'?"),
        ("spectrum", "Missing argument 'checkpoint'"),
        ("show", "Missing argument 'run'"),
        ("show a.h5 b.h5", "b.h5"),
        ("--versoin", "Did you mean --version?"),
    ],
)
def test_commands_that_are_none(arguments: str, said: str) -> None:
    ended = call(*arguments.split())
    assert ended.code == ExitCode.USAGE
    assert said in ended.err
    assert "--help" in ended.err
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("model", "option", "said"),
    [
        ("dropping", "--train-mode", "'repeat'"),
        ("detached", "--hvp=auto", "first"),
        ("detached", "--hvp=reverse-over-reverse", "first"),
        ("wrong", "--hvp=auto", "'differences'"),
    ],
)
def test_products_that_are_no_hessian_are_refused(
    problem: tuple[str, ...], model: str, option: str, said: str
) -> None:
    asked = (*problem, "--model", f"hooks.py:{model}", option)
    sentence = refusal(*asked, code=ExitCode.NOT_A_HESSIAN)
    assert "The product is not that of a Hessian" in sentence
    assert said in sentence


@pytest.mark.filterwarnings("ignore:.torch.nn.utils.weight_norm. is deprecated:FutureWarning")
def test_the_fused_weight_norm_gives_the_product_of_plain_operations(
    problem: tuple[str, ...],
) -> None:
    import torch

    from tests.cli.problems import net

    weights = net().state_dict()
    normed = weights.pop("first.weight")
    weights["first.weight_g"] = normed.norm(dim=1, keepdim=True)
    weights["first.weight_v"] = normed
    torch.save(weights, "net.pt")
    found = []
    for model in ("normed", "plainly_normed"):
        asked = (*problem, "--model", f"hooks.py:{model}", "--dtype", "float64", "--json", "-q")
        ended = call(*asked, "--all", "--force")
        assert ended.code == ExitCode.DONE
        found.append(json.loads(ended.out)["eigenvalues"])
    # Sums of some hundred terms in another order; each eigenvalue's error is absolute.
    assert found[0] == pytest.approx(found[1], rel=0, abs=1e-12 * max(map(abs, found[1])))


def test_dropout_in_eval_mode_is_no_obstacle(problem: tuple[str, ...]) -> None:
    assert call(*problem, "--model", "hooks.py:dropping").code == ExitCode.DONE


def test_a_bug_of_ours_says_so(problem: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("curvtool.pipeline.load", broken)
    ended = call(*problem)
    assert ended.code == ExitCode.BUG
    assert "ZeroDivisionError: ours" in ended.err
    assert "This is a bug in curvtool" in ended.sentence
