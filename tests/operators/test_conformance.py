"""Every operator obeys every law of `tests/conformance.py`."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import pytest
import torch
from torch import Tensor

from curvtool.operators.adapters import as_linear_operator
from curvtool.operators.base import Counted, FunctionOperator, Shifted, SymmetricOperator
from curvtool.operators.hessian import HessianOperator, graph_bytes
from tests.conformance import LAWS, Law
from tests.objectives import CASES, normal, truth

Made = tuple[SymmetricOperator, Tensor]


def _retained(name: str) -> HessianOperator:
    operator = HessianOperator(CASES[name].objective())
    assert operator.kept == operator.objective.active
    return operator


def _mixed(name: str) -> HessianOperator:
    """One batch or two keep their graphs, the others are rebuilt."""
    objective = CASES[name].objective()
    first = graph_bytes(objective, objective.active[0])
    operator = HessianOperator(objective, graph_memory=int(1.5 * first))
    if first:  # a linear loss has nothing to keep
        assert 0 < len(operator.kept) < len(objective.active)
    return operator


def _rebuilt(name: str) -> HessianOperator:
    operator = HessianOperator(CASES[name].objective(), way="reverse-over-reverse")
    assert operator.kept == ()
    return operator


def _single(name: str) -> HessianOperator:
    return HessianOperator(CASES[name].objective(dtype=torch.float32))


WAYS: dict[str, Callable[[str], HessianOperator]] = {
    "retained": _retained,
    "mixed": _mixed,
    "rebuilt": _rebuilt,
    "float32": _single,
}


def _of_case(way: str, name: str) -> Callable[[], Made]:
    return lambda: (WAYS[way](name), truth(name))


def _through_scipy() -> Made:
    linear = as_linear_operator(_retained("tanh"))

    def product(v_P: Tensor) -> Tensor:
        return torch.tensor(linear.matvec(v_P.numpy(force=True)))

    return FunctionOperator(product, linear.shape[0]), truth("tanh")


def _matrix() -> Made:
    root = normal(9, 9)
    A_PP = root + root.T
    return FunctionOperator(lambda v: A_PP @ v, 9), A_PP


WRAPPERS: dict[str, Callable[[], Made]] = {
    "function": _matrix,
    "identity": lambda: (
        FunctionOperator(lambda v: v, 9),
        torch.eye(9, dtype=torch.float64),
    ),
    "shifted": lambda: (
        Shifted(_retained("tanh"), by=-0.7, scale=-2.0),
        -2 * truth("tanh") - 0.7 * torch.eye(len(truth("tanh")), dtype=torch.float64),
    ),
    "counted": lambda: (Counted(_mixed("gpt"), budget=100), truth("gpt")),
    "scipy": _through_scipy,
}

OPERATORS = {
    **{f"{way}-{name}": _of_case(way, name) for way in WAYS for name in CASES},
    **WRAPPERS,
}


@lru_cache
def made(name: str) -> Made:
    return OPERATORS[name]()


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_every_operator_obeys_every_law(name: str, law: Law) -> None:
    law(*made(name))
