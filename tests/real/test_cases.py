"""Trained models and data that others published, from the user's seat.

    python scripts/fetch_real.py DIR && CURVTOOL_REAL=DIR pytest -m real

Held against plain torch and SciPy: each model is as good as its authors say, and the leading
eigenvalues are those of an independent product.
"""

from __future__ import annotations

import importlib.util
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from curvtool.problem.data import make_batches
from curvtool.problem.data.examples import InMemory, Source
from tests.cli.calls import call
from tests.real.cases import CASES, Case, Values

pytestmark = pytest.mark.real
AT_MOST = 300  # products of a trace
FOR_WHOLE = 500  # examples at a time


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture
def root(case: Case) -> Path:
    folder = os.environ.get("CURVTOOL_REAL")
    if not folder:
        pytest.skip("CURVTOOL_REAL names no folder of real models (scripts/fetch_real.py DIR)")
    place = Path(folder).resolve()
    if not (place / case.package).is_dir():
        pytest.skip(f"no {case.package} in {place}: scripts/fetch_real.py {place} {case.folder}")
    for module in case.needs:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{case.name} needs a package that is not installed: {module}")
    return place


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_it_is_as_good_as_its_authors_say(case: Case, root: Path) -> None:
    # Wrong preprocessing loads just as well, and is silently another problem.
    model, data = case.model(root), case.data(root)
    starts = range(0, len(data[0]), FOR_WHOLE)
    parts = [tuple(t[start : start + FOR_WHOLE] for t in data) for start in starts]
    with torch.no_grad():
        scores = [(case.score(model, part), len(part[0])) for part in parts]
    score = sum(s * n for s, n in scores) / sum(n for _, n in scores)
    known, apart = case.score_of_all
    assert score == pytest.approx(known, abs=apart)


def test_the_leading_eigenvalues_are_those_of_an_independent_product(
    case: Case, root: Path
) -> None:
    told = asked(case, root, "spectrum", case.examples, "-k", "10")
    assert told["met_tolerance"] + told["stopped_at_floor"] == 10
    assert told["completeness"]["probability"] >= 0.999  # a probe was made
    model, values = case.model(root), chosen(case, root, case.examples)
    mean = case.loss(model, values)
    assert told["problem"]["num_examples"] == case.examples
    # Sums of float32 in another order.
    assert told["problem"]["loss_value"] == pytest.approx(float(mean.detach()), rel=1e-4)
    accuracy = told["problem"]["accuracy"]
    if accuracy is not None:
        assert accuracy == pytest.approx(case.score(model, values), abs=1e-6)
    product = DoubleBackward(model, partial(case.loss, model, values))
    # Errors of eigenvalues are squares of those of vectors: far below the 1e-3 that is asked.
    theirs = eigsh(
        LinearOperator((product.size,) * 2, matvec=product, dtype=np.float32),
        k=5,
        tol=1e-3,
        v0=np.random.default_rng(0).standard_normal(product.size).astype(np.float32),
        return_eigenvectors=False,
    )
    largest = sorted(theirs, key=abs, reverse=True)
    assert told["eigenvalues"][:5] == pytest.approx(largest, rel=1e-3)


def test_the_trace_is_known_to_2_percent_or_said_not_to_be(case: Case, root: Path) -> None:
    words = ("--rel-err", "0.02", "--max-hvps", str(AT_MOST))
    told = asked(case, root, "trace", case.examples_of_trace, *words, exits=(0, 3))
    low, high = told["interval"]
    assert low < told["trace"] < high
    assert told["hvps"] <= AT_MOST
    narrow = (high - low) / 2 <= 0.02 * abs(told["trace"])
    assert narrow == (told["exit"] == 0) == (told["outcome"] == "converged")


def test_a_check_foresees_what_a_solve_keeps(case: Case, root: Path) -> None:
    told = asked(case, root, "check", case.examples, "-k", "10")
    assert told["passed"]
    assert [c["name"] for c in told["preflight"]["checks"] if c["passed"] is None] == []
    plan = told["plan"]
    assert plan["forecast"]["bytes"] >= plan["bytes_kept"] + plan["bytes_basis"] > 0
    assert plan["forecast"]["seconds"] > plan["forecast"]["seconds_per_product"] > 0


def asked(
    case: Case,
    root: Path,
    command: str,
    examples: int,
    *more: str,
    exits: tuple[int, ...] = (0,),
) -> dict[str, Any]:
    words = [command, *case.arguments(root), "--max-examples", str(examples), *more]
    ended = call(*words, "--json", "-q")
    assert ended.code in exits, ended.err
    told: dict[str, Any] = json.loads(ended.out)
    return told | {"exit": ended.code}


def chosen(case: Case, root: Path, examples: int) -> Values:
    """The examples of `--max-examples`, in one batch."""
    made = make_batches(
        Source(case.name, InMemory(case.data(root))), batch_size=examples, max_examples=examples
    )
    [batch] = made.batches
    return batch.moved(torch.device("cpu"), torch.float32).tensors


class DoubleBackward:
    """v -> H v by differentiating (gradient . v) again, in plain torch."""

    def __init__(self, model: nn.Module, loss: Any) -> None:
        with sdpa_kernel(SDPBackend.MATH):
            self._parameters = [p for p in model.parameters() if p.requires_grad]
            gradient = torch.autograd.grad(
                loss(), self._parameters, create_graph=True, materialize_grads=True
            )
        self._gradient = torch.cat([g.flatten() for g in gradient])
        self.size = len(self._gradient)

    def __call__(self, v: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        along: Tensor = self._gradient @ torch.from_numpy(np.asarray(v, np.float32).ravel())
        found = torch.autograd.grad(
            along, self._parameters, retain_graph=True, materialize_grads=True
        )
        return torch.cat([piece.flatten() for piece in found]).numpy()
