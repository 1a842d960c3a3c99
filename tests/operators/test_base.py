"""Wrappers of operators; that they multiply rightly is in `test_conformance.py`."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from curvtool.operators.base import BudgetExhausted, Counted, FunctionOperator, Shifted


def _operator() -> FunctionOperator:
    return FunctionOperator(lambda v: 2 * v, 4)


@given(budget=st.one_of(st.none(), st.integers(0, 5)), wanted=st.integers(0, 8))
def test_products_are_counted_and_none_is_made_beyond_the_budget(
    budget: int | None, wanted: int
) -> None:
    inner = Counted(_operator())
    counted = Counted(inner, budget=budget)
    made = 0
    for _ in range(wanted):
        try:
            counted.matvec(torch.ones(4, dtype=torch.float64))
        except BudgetExhausted:
            break
        made += 1
    assert counted.calls == inner.calls == made == min(wanted, wanted if budget is None else budget)
    assert counted.left == (float("inf") if budget is None else budget - made)


def test_the_end_of_a_budget_is_no_error_of_ours_in_disguise() -> None:
    counted = Counted(_operator(), budget=0)
    with pytest.raises(BudgetExhausted):
        counted.matvec(torch.ones(4, dtype=torch.float64))
    assert not issubclass(BudgetExhausted, RuntimeError)


def test_wrappers_take_size_type_and_device_from_inside() -> None:
    inner = FunctionOperator(lambda v: v, 7, dtype=torch.float32, device=torch.device("cpu"))
    for wrapper in (Shifted(inner, by=1.0), Counted(inner)):
        assert (wrapper.size, wrapper.dtype, wrapper.device) == (
            7,
            torch.float32,
            torch.device("cpu"),
        )
