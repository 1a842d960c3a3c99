"""`trace` and `diag` from the user's seat."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from curvtool.errors import ExitCode
from tests.cli.calls import MLP, call, left, refusal

# 330 parameters of the last layer, few enough for the whole matrix.
LAST = (str(MLP), "--max-examples", "100", "--batch-size", "20", "--params", "layers.2*")
QUICK = (str(MLP), "--max-examples", "60", "--batch-size", "10")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answer(*arguments: str) -> dict[str, Any]:
    ended = call(*arguments, "--json", "-q")
    assert ended.code in {ExitCode.DONE, ExitCode.NOT_CONVERGED}, ended.err
    found: dict[str, Any] = json.loads(ended.out)
    return found


def test_the_interval_holds_the_trace_of_the_matrix() -> None:
    exact = answer("trace", *LAST, "--method", "dense", "--per-layer", "--frobenius")
    assert exact["method"] == "dense"
    spectrum = answer("spectrum", *LAST, "--all")
    assert exact["trace"] == pytest.approx(sum(spectrum["eigenvalues"]), rel=1e-5)
    squares = sum(value**2 for value in spectrum["eigenvalues"])
    assert exact["frobenius_squared"] == pytest.approx(squares, rel=1e-5)
    found = answer(
        *("trace", *LAST, "--method", "hutchinson", "--rel-err", "0.05", "--confidence", "0.999"),
        "--force",
    )
    low, high = found["interval"]
    assert low <= exact["trace"] <= high
    assert (high - low) / 2 <= 0.05 * abs(found["trace"])
    assert found["outcome"] == "converged"


def test_a_trace_prints_its_interval_and_leaves_one_file(here: Path) -> None:
    ended = call("trace", *QUICK, "--rel-err", "0.1", "--per-layer")
    assert ended.code == ExitCode.DONE
    assert "trace" in ended.out
    assert "95 %" in ended.out
    assert "layers.0" in ended.out
    assert max(map(len, ended.out.splitlines())) <= 80
    assert left(here) == ["digits_mlp.trace.h5"]
    with h5py.File("digits_mlp.trace.h5") as file:
        assert file.attrs["kind"] == "trace"
        assert file["samples"].ndim == 2
    assert call("show", "digits_mlp.trace.h5").out == ended.out
    again = call("trace", *QUICK, "--rel-err", "0.1", "--per-layer")
    assert again.out == ended.out
    assert "already in" in again.err


def test_the_file_holds_what_the_trace_is_made_of() -> None:
    found = answer("trace", *QUICK, "--rel-err", "0.1", "--sharing", "per-batch")
    with h5py.File("digits_mlp.trace.h5") as file:
        samples, weights = file["samples"][...], file["batch_weight"][...]
        exact = float(file.attrs["deflated_trace"]) + float(file.attrs["correction"])
    assert samples.shape[1] == 6
    # Ten examples in each of six batches.
    assert weights == pytest.approx(np.full(6, 1 / 6))
    assert exact + samples.mean(axis=0) @ weights == pytest.approx(found["trace"], rel=1e-9)


def test_layers_add_up_and_groups_make_layers() -> None:
    found = answer("trace", *QUICK, "--rel-err", "0.1", "--per-layer")
    assert sum(found["layer_trace"]) == pytest.approx(found["trace"], rel=1e-6)
    grouped = answer(
        *("trace", *QUICK, "--rel-err", "0.1", "--per-layer", "--group", "bias|weight"), "--force"
    )
    assert sorted(grouped["layers"]) == ["bias", "weight"]
    assert sum(grouped["layer_trace"]) == pytest.approx(grouped["trace"], rel=1e-6)
    said = refusal("trace", *QUICK, "--per-layer", "--group", "nowhere", "-o", "other.h5")
    assert "matches none" in said


def test_a_trace_that_is_stopped_says_so() -> None:
    ended = call("trace", *QUICK, "--max-hvps", "4", "--rel-err", "0.0001")
    assert ended.code == ExitCode.NOT_CONVERGED
    with h5py.File("digits_mlp.trace.h5") as file:
        assert file.attrs["outcome"] == "max_hvps"


@pytest.mark.parametrize("method", ["hutch++", "xtrace"])
def test_a_sketched_trace_calls_its_error_an_estimate(method: str) -> None:
    found = answer("trace", *LAST, "--method", method, "--rel-err", "0.05")
    exact = answer("trace", *LAST, "--method", "dense", "--force")
    assert found["is_interval"] is False
    assert found["trace"] == pytest.approx(exact["trace"], rel=0.2)


def test_directions_come_from_a_run_of_the_same_matrix() -> None:
    assert call("spectrum", *QUICK, "-k", "3", "--vectors", "-o", "top.h5").code == ExitCode.DONE
    found = answer("trace", *QUICK, "--rel-err", "0.1", "--deflate", "top.h5")
    assert found["deflated"] == 3
    said = refusal(*(
        "trace",
        *QUICK,
        "--weight-decay",
        "0.1",
        "--deflate",
        "top.h5",
        "-o",
        "other.h5",
    ))
    assert "same matrix" in said
    assert "--weight-decay" in said
    for command in ("trace", "diag"):
        few = (command, *QUICK, "--deflate", "top.h5", "--max-hvps", "3", "-o", "other.h5")
        assert "3 directions" in refusal(*few)
    assert call("spectrum", *QUICK, "-k", "3", "-o", "bare.h5").code == ExitCode.DONE
    said = refusal("trace", *QUICK, "--deflate", "bare.h5", "-o", "other.h5")
    assert "--vectors" in said


def test_the_diagonal_adds_up_to_the_trace() -> None:
    exact = answer("trace", *LAST, "--method", "dense")
    ended = call("diag", *LAST, "--rel-err", "0.2")
    assert ended.code == ExitCode.DONE
    assert "layers.2" in ended.out
    with h5py.File("digits_mlp.diag.h5") as file:
        diagonal, stderr = (file[name][...] for name in ("diagonal", "diagonal_stderr"))
    assert diagonal.shape == stderr.shape == (330,)
    # Errors of entries are correlated, so that six norms bound their sum generously.
    apart = abs(float(diagonal.sum()) - exact["trace"])
    assert apart <= 6 * np.sqrt(330) * float(np.linalg.norm(stderr))
    assert call("show", "digits_mlp.diag.h5").out == ended.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("trace", "a.pt", "--rel-err", "0"), "positive"),
        (("trace", "a.pt", "--confidence", "1.5"), "between 0 and 1"),
        (("trace", "a.pt", "--group", "x"), "--per-layer"),
        (("trace", "a.pt", "--per-layer", "--group", "("), "regular expression"),
        (("trace", "a.pt", "--method", "xtrace", "--frobenius"), "--frobenius"),
        (("trace", "a.pt", "--method", "hutch++", "--sharing", "per-batch"), "per-batch"),
        (("trace", "a.pt", "--method", "dense", "--deflate", "b.h5"), "exact"),
        (("trace", "a.pt", "--method", "xtrace", "--max-hvps", "3"), "--max-hvps 4"),
        (("diag", "a.pt", "--max-hvps", "1"), "greater than or equal to 2"),
        (("diag", "a.pt", "--rel-err", "nan"), "positive"),
    ],
)
def test_contradictions_are_judged_before_anything_is_opened(
    arguments: tuple[str, ...], said: str
) -> None:
    ended = call(*arguments)
    assert ended.code == ExitCode.USAGE
    assert said in ended.err
    assert len(ended.err.splitlines()) == 1
