"""`check` and `bench` from the user's seat."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import pytest

from curvtool.errors import ExitCode
from tests.cli.calls import MLP, QUICK, call, left, refusal
from tests.cli.problems import write_problem

FILE = "digits_mlp.bench.h5"
# Compiling is left to tests/operators: it takes ten seconds.
SHORT = (
    "bench", str(MLP), "--max-examples", "64", "--rounds", "2", "--hvp", "retained-graph",
    "--hvp", "reverse-over-reverse", "--hvp", "finite-difference",
)  # fmt: skip
WAYS = ["retained-graph", "reverse-over-reverse", "finite-difference"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_check_prints_the_plan_and_writes_nothing(here: Path) -> None:
    ended = call("check", *QUICK)
    assert ended.code == ExitCode.DONE
    for words in ("Hessian check", "retained-graph", "forecast", "1 of 1 graph kept", "passed"):
        assert words in ended.out
    assert "eigenvalue" not in ended.out
    assert max(map(len, ended.out.splitlines())) <= 80
    assert all(line.startswith("curvtool: ") for line in ended.err.splitlines())
    assert not list(here.iterdir())


def test_check_plans_the_solve_that_the_options_ask_for() -> None:
    def forecast(*options: str) -> dict[str, float]:
        ended = call("check", *QUICK, "--json", "-q", *options)
        assert not ended.err
        found: dict[str, float] = json.loads(ended.out)["plan"]["forecast"]
        return found

    plain = forecast()
    assert plain["products"] > 0
    assert forecast("--max-hvps", "3")["products"] == 3
    assert forecast("-k", "8")["products"] > plain["products"]
    ten = ("--batch-size", "10")
    rebuilt = forecast("--hvp", "reverse-over-reverse", *ten)
    assert rebuilt["bytes"] < forecast("--hvp", "retained-graph", *ten)["bytes"]


def test_check_keeps_what_the_memory_allows() -> None:
    ended = call("check", str(MLP), "--batch-size", "256", "--memory", "2MiB", "--json", "-q")
    plan = json.loads(ended.out)["plan"]
    assert 0 < plan["batches_kept"] < plan["num_batches"]
    assert plan["way_of_rest"] in {"reverse-over-reverse", "forward-over-reverse"}
    assert plan["bytes_kept"] < plan["memory_limit"] == 2 * 2**20


def test_noise_that_cannot_be_measured_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no double here")

    monkeypatch.setattr("curvtool.pipeline.preparing.noise_over_all", fail)
    ended = call("check", *QUICK, "--hvp", "finite-difference", "--json", "-q")
    assert ended.code == ExitCode.DONE
    (said,) = json.loads(ended.out)["plan"]["adjustments"]
    assert "could not be measured" in said
    assert "no double here" in said


@pytest.mark.parametrize("noise", [0.2, float("nan")])
def test_noise_over_all_examples_can_refuse(noise: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curvtool.pipeline.preparing.noise_over_all", lambda *_, **__: noise)
    differences = ("--hvp", "finite-difference")
    said = refusal("check", *QUICK, *differences, code=ExitCode.NOT_A_HESSIAN)
    assert "--dtype float64" in said


def test_check_refuses_what_is_no_hessian(here: Path) -> None:
    problem = write_problem(here)
    said = refusal("check", *problem[1:], "--model", "hooks.py:wrong", code=ExitCode.NOT_A_HESSIAN)
    assert "'differences'" in said


def test_bench_compares_and_leaves_one_file(here: Path) -> None:
    ended = call(*SHORT)
    assert ended.code == ExitCode.DONE
    for way in WAYS:
        assert way in ended.out
    assert "An exact product costs" in ended.out
    assert max(map(len, ended.out.splitlines())) <= 80
    assert ended.err.splitlines()[-1] == f"curvtool: written to {FILE}"
    assert left(here) == [FILE]
    with h5py.File(FILE) as file:
        assert file.attrs["kind"] == "bench"
    again = call("show", FILE)
    assert again.out == ended.out


def test_bench_as_json_says_which_are_exact() -> None:
    shown = json.loads(call(*SHORT, "--json", "-q").out)
    assert shown["kind"] == "bench"
    trials = {trial["way"]: trial for trial in shown["trials"]}
    assert list(trials) == WAYS
    assert [trial["exact"] for trial in trials.values()] == [True, True, False]
    for trial in trials.values():
        assert trial["seconds"] > 0
        assert trial["gradients"] > 0
        assert trial["bytes_peak"] > 0
    assert {trials[way]["verdict"] for way in WAYS[:2]} == {"chosen", "right"}
    assert trials["finite-difference"]["verdict"] == "inexact"
    # float32 products of 64 examples: some tens of roundings of 6e-8.
    assert trials["retained-graph"]["error"] < 1e-4
    assert json.loads(call("show", FILE, "--json").out) == shown


def test_bench_measures_anew_but_spares_another_request() -> None:
    first = call(*SHORT, "--json", "-q")
    second = call(*SHORT, "--json", "-q")
    assert json.loads(second.out)["created"] >= json.loads(first.out)["created"]
    other = (*SHORT, "--seed", "1")
    assert FILE in refusal(*other)
    assert call(*other, "--force", "-q").code == ExitCode.DONE


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("bench", "a.pt", "--hvp", "fastest"), "expected one of retained-graph"),
        (("bench", "a.pt", "--rounds", "0"), "greater than or equal to 1"),
        (("check", "a.pt", "--hvp", "fastest"), "retained-graph"),
        (("check", "a.pt", "--out", "b.h5"), "--out"),
        (("check", "a.pt", "-q", "-v"), "contradict"),
    ],
)
def test_contradictions_are_judged_before_anything_is_opened(
    arguments: tuple[str, ...], said: str
) -> None:
    ended = call(*arguments)
    assert ended.code == ExitCode.USAGE
    assert said in ended.err
    assert len(ended.err.splitlines()) == 1


def test_what_the_users_code_prints_is_no_result(here: Path) -> None:
    problem = write_problem(here)[1:]
    for command in ("check", "bench"):
        extra = ("--model", "hooks.py:talking", "--hvp", "retained-graph")
        ended = call(command, *problem, *extra, "--json", "-q")
        assert ended.code == ExitCode.DONE, ended.err
        assert "talking" in ended.err
        assert json.loads(ended.out)["kind"] == command
