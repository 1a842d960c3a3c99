"""H as a sum of its batches' terms, and what happens to it when memory runs out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from curvtool.operators.hessian import HessianOperator
from curvtool.operators.ways.reverse import graph_bytes
from tests.objectives import CASES, batches, hook, labels, normal
from tests.operators.test_hessian import EPS, WAYS, apart, objective_of


class Shortage:
    """Lets so many calls through, then memory has run out for some, then there is enough."""

    def __init__(self, *, good: int, bad: int) -> None:
        self.good, self.bad = good, bad
        self.real = torch.autograd.grad

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.good -= 1
        if self.good < 0 and self.bad > 0:
            self.bad -= 1
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return self.real(*args, **kwargs)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("good", "bad"), [(0, 1), (3, 1), (3, 2), (5, 3)])
def test_when_memory_runs_out_something_is_given_up_and_the_product_is_the_same(
    way: str, good: int, bad: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES["tanh"]
    v_P = normal(case.objective().size)
    expected = HessianOperator(case.objective(), way=way).matvec(v_P)
    objective = case.objective()
    objective.evaluate()
    told: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(torch.autograd, "grad", Shortage(good=good, bad=bad))
        operator = HessianOperator(objective, way=way, tell=told.append)
        found = operator.matvec(v_P)
    # Other batches, another order of a sum of 23 terms.
    assert apart(found, expected) <= 100 * EPS
    assert operator.adjustments == told
    assert len(told) == bad
    assert all("Memory ran out" in sentence for sentence in told)
    assert torch.equal(operator.matvec(v_P), found)


def test_what_is_kept_is_halved_first_and_then_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = CASES["tanh"].objective(batch_size=6)
    operator = HessianOperator(objective)
    assert len(operator.kept) == 4
    sizes = []
    for _ in range(5):
        with monkeypatch.context() as patch:
            patch.setattr(torch.autograd, "grad", Shortage(good=0, bad=1))
            operator.matvec(normal(objective.size))
        sizes.append((len(operator.kept), objective.num_batches))
    assert sizes == [(2, 4), (1, 4), (0, 4), (0, 8), (0, 16)]


def test_a_loss_that_couples_its_examples_is_not_divided() -> None:
    def coupled(model: nn.Module, values: Any) -> Tensor:
        outputs: Tensor = model(values[0])
        return outputs.var()

    cut = batches((normal(9, 4), labels(3, 9)), 4)
    objective = objective_of(lambda: nn.Linear(4, 3), hook(coupled), cut)
    assert not objective.halve_batches()
    assert objective.num_batches == 3


@pytest.mark.parametrize("way", ["retained-graph", "linearized", "forward-over-reverse"])
@pytest.mark.parametrize("name", ["tanh", "weight-decay", "masked-weighted"])
def test_h_is_the_sum_of_its_terms_and_the_shift(way: str, name: str) -> None:
    objective = CASES[name].objective(batch_size=6)
    room = None if way != "retained-graph" else 2 * graph_bytes(objective, objective.active[0])
    operator = HessianOperator(objective, way=way, graph_memory=room)  # some kept, some rebuilt
    v_P = normal(operator.size)
    parts = [operator.term(i, v_P) for i in range(operator.num_terms)]
    whole_P = torch.stack(parts).sum(0) + operator.shift * v_P
    assert apart(whole_P, operator.matvec(v_P)) <= 100 * EPS
    singly = [
        HessianOperator(objective, way="reverse-over-reverse")._rebuilt(
            index, objective.layout.split(v_P)
        )
        for index in objective.active
    ]
    for part_P, alone in zip(parts, singly, strict=True):
        assert apart(part_P, objective.layout.join(alone)) <= 1e3 * EPS


def test_a_term_stays_what_it_is_when_batches_are_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = CASES["masked-weighted"].objective(batch_size=6)
    operator = HessianOperator(objective, way="reverse-over-reverse")
    v_P = normal(operator.size)
    terms = range(operator.num_terms)
    before = [operator.term(i, v_P) for i in terms]
    with monkeypatch.context() as patch:
        patch.setattr(torch.autograd, "grad", Shortage(good=1, bad=2))
        during = [operator.term(i, v_P) for i in terms]
    assert len(operator.adjustments) == 2
    assert range(operator.num_terms) == terms
    for found in (during, [operator.term(i, v_P) for i in terms]):
        for a_P, b_P in zip(found, before, strict=True):
            assert apart(a_P, b_P) <= 100 * EPS
