"""Diagonal blocks: rows and columns of the whole, by the products of the whole."""

from __future__ import annotations

import pytest
import torch

from curvtool.operators.hessian import HessianOperator
from curvtool.operators.restricted import RestrictedHessian
from curvtool.operators.ways.reverse import graph_bytes
from tests.conformance import LAWS
from tests.objectives import CASES, dense_product
from tests.operators.test_hessian import EPS

NAMES = ("tanh", "cnn", "gpt", "masked-weighted", "weight-decay", "zero")


@pytest.mark.parametrize("way", ["retained-graph", "reverse-over-reverse"])
@pytest.mark.parametrize("name", ["tanh", "weight-decay"])
def test_a_block_is_an_operator_like_any_other(
    name: str, way: str, subtests: pytest.Subtests
) -> None:
    objective = CASES[name].objective()
    whole = HessianOperator(objective, way=way)
    H_PP = dense_product(whole.matvec, whole.size)
    for places in ([0], [1], range(len(objective.layout.sizes))):
        at = _entries(whole, list(places))
        block = RestrictedHessian(whole, list(places))
        for law in LAWS:
            with subtests.test(f"{law.__name__} of {list(places)}"):
                law(block, H_PP[at][:, at])


@pytest.mark.parametrize("name", NAMES)
def test_kept_and_rebuilt_batches_make_one_block(name: str) -> None:
    # A batch costs a gpt 15 ms a product whatever its size: there one is kept and one rebuilt.
    objective = CASES[name].objective(batch_size=16 if name == "gpt" else 6)
    whole = HessianOperator(objective)
    H_PP = dense_product(whole.matvec, whole.size)
    first = graph_bytes(objective, objective.active[0])
    few = HessianOperator(objective, graph_memory=first)
    if first:  # a linear loss has nothing to keep
        assert 0 < len(few.kept) < len(objective.active)
    for place in range(len(objective.layout.sizes)):
        for operator in (whole, few):
            block = RestrictedHessian(operator, [place])
            at = _entries(whole, [place])
            found = dense_product(block.matvec, block.size)
            # Sums over examples in another order.
            size = float(H_PP.norm()) or 1.0
            assert float((found - H_PP[at][:, at]).norm()) <= 1e3 * EPS * size


def test_a_block_of_nothing_is_refused() -> None:
    whole = HessianOperator(CASES["tanh"].objective())
    for places in ([], [99], [-1]):
        with pytest.raises(ValueError, match="parameter tensors"):
            RestrictedHessian(whole, places)


def _entries(whole: HessianOperator, places: list[int]) -> torch.Tensor:
    layout = whole.objective.layout
    pieces = [torch.arange(layout.offsets[i], layout.offsets[i] + layout.sizes[i]) for i in places]
    return torch.cat(pieces)
