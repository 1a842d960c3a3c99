"""The float64 products of a solve are those of H, whole or of a block, however batches are cut."""

from __future__ import annotations

import pytest
import torch

from curvtool.operators.base import NoReference
from curvtool.operators.hessian import HessianOperator
from curvtool.operators.reference import ReferenceHessian
from curvtool.problem.objective import Objective
from tests.conformance import LAWS, Law
from tests.objectives import CASES, dense_product
from tests.operators.test_hessian import EPS

NAMES = ("tanh", "cnn", "gpt", "masked-weighted", "weight-decay", "zero")


@pytest.mark.parametrize("way", ["retained-graph", "forward-over-reverse"])
@pytest.mark.parametrize("law", LAWS)
def test_a_reference_is_an_operator_like_any_other(law: Law, way: str) -> None:
    objective = CASES["weight-decay"].objective(batch_size=6)
    exact = HessianOperator(objective, way=way)
    law(ReferenceHessian(objective, way=way), dense_product(exact.matvec, exact.size))


@pytest.mark.parametrize("name", NAMES)
def test_float32_and_float64_problems_have_the_same_reference(name: str) -> None:
    double = CASES[name].objective(batch_size=6)
    exact = HessianOperator(double)
    H_PP = dense_product(exact.matvec, exact.size)
    reference = ReferenceHessian(double, way="retained-graph")
    rows = torch.eye(exact.size, dtype=torch.float64)
    # Sums over examples in another order: batches are halved.
    assert _apart(reference.matmat(rows), H_PP) <= 1e3 * EPS
    # Of a float32 problem it has the digits that weights and data came with.
    given = [double.batch(i) for i in double.active]
    single = double.of_batches(given, dtype=torch.float32)
    assert _apart(ReferenceHessian(single, way="retained-graph").matmat(rows), H_PP) <= 1e3 * EPS


@pytest.mark.parametrize("way", ["retained-graph", "forward-over-reverse"])
def test_a_block_is_that_of_the_whole(way: str) -> None:
    objective = CASES["cnn"].objective(batch_size=6)
    whole = ReferenceHessian(objective, way=way)
    H_PP = whole.matmat(torch.eye(whole.size, dtype=torch.float64))
    layout = objective.layout
    for place in range(len(layout.sizes)):
        at = torch.arange(layout.offsets[place], layout.offsets[place] + layout.sizes[place])
        block = ReferenceHessian(objective, way=way, places=[place])
        rows = torch.eye(block.size, dtype=torch.float64)
        assert float((block.matmat(rows) - H_PP[at][:, at]).norm()) <= 1e3 * EPS * float(
            H_PP.norm()
        )


def test_a_model_that_does_not_cast_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = CASES["tanh"].objective()

    def refused(self: Objective, *args: object, **kwargs: object) -> Objective:
        raise RuntimeError("expected scalar type Float but found Double")

    monkeypatch.setattr(Objective, "sample", refused)
    with pytest.raises(NoReference, match="expected scalar type"):
        ReferenceHessian(objective, way="retained-graph").prepared()


def test_memory_that_runs_out_halves_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = CASES["tanh"].objective(batch_size=23)
    reference = ReferenceHessian(objective, way="retained-graph")
    exact = HessianOperator(objective)
    rows = torch.eye(exact.size, dtype=torch.float64)
    real, most = Objective.batch_gradient, 6

    def narrow(self: Objective, index: int) -> tuple[torch.Tensor, ...]:
        if self is not objective and self.examples(index) > most:
            raise MemoryError("no room")
        return real(self, index)

    H_PP = dense_product(exact.matvec, exact.size)
    monkeypatch.setattr(Objective, "batch_gradient", narrow)
    assert _apart(reference.matmat(rows), H_PP) <= 1e3 * EPS
    most = 0
    with pytest.raises(NoReference, match="memory ran out"):
        reference.matmat(rows)


def _apart(found: torch.Tensor, truth: torch.Tensor) -> float:
    return float((found - truth).norm()) / (float(truth.norm()) or 1.0)
