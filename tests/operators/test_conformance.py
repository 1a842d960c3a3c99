"""Every operator obeys every law of `tests/conformance.py`."""

from __future__ import annotations

from collections.abc import Callable, Collection

import pytest
import torch
from torch import Tensor

from curvtool.operators.adapters import as_linear_operator
from curvtool.operators.base import Counted, FunctionOperator, Shifted, SymmetricOperator
from curvtool.operators.hessian import HessianOperator
from curvtool.operators.ways.registry import WAYS
from curvtool.operators.ways.reverse import graph_bytes
from curvtool.operators.ways.traced import traced_forward
from curvtool.operators.workers import Workers
from tests.conformance import LAWS
from tests.objectives import CASES, normal, truth

Made = tuple[SymmetricOperator, Tensor]


def _mixed(name: str) -> HessianOperator:
    """One batch or two keep their graphs, the others are rebuilt."""
    objective = CASES[name].objective()
    first = graph_bytes(objective, objective.active[0])
    operator = HessianOperator(objective, graph_memory=int(1.5 * first))
    if first:  # a linear loss has nothing to keep
        assert 0 < len(operator.kept) < len(objective.active)
    return operator


def _single(name: str) -> HessianOperator:
    return HessianOperator(CASES[name].objective(dtype=torch.float32))


def _by(way: str) -> Callable[[str], HessianOperator]:
    def make(name: str) -> HessianOperator:
        operator = HessianOperator(CASES[name].objective(), way=way)
        assert bool(operator.kept) == WAYS[way].keeps
        return operator

    return make


def _mixed_linearized(name: str) -> HessianOperator:
    objective = CASES[name].objective()
    first = traced_forward(objective, objective.active[0]).bytes
    operator = HessianOperator(objective, way="linearized", graph_memory=first)
    assert operator.way_of_rest == "forward-over-reverse"
    return operator


def _halved(name: str) -> HessianOperator:
    """Batches divided after the operator has run out of memory."""
    objective = CASES[name].objective(batch_size=5)
    assert objective.halve_batches()
    return HessianOperator(objective, graph_memory=0)


def _shared(name: str) -> HessianOperator:
    """Batches made by two threads at once, the last one of an odd number by the caller."""
    operator = HessianOperator(CASES[name].objective())
    assert operator.concurrent
    operator.workers = Workers(2, operator.dtype)
    return operator


# Their forward derivatives of LayerNorm are not differentiable: silently wrong.
WITH_LAYER_NORM = {"gpt", "tied"}
EXACT = [name for name, way in WAYS.items() if way.exact]
MADE: dict[str, tuple[Callable[[str], HessianOperator], Collection[str]]] = {
    **{way: (_by(way), CASES.keys()) for way in EXACT if way != "compiled"},
    # Tracing takes a second a batch.
    "linearized": (_by("linearized"), ("tanh", "cnn", "dict", "constant-batches", "zero")),
    "reverse-over-forward": (_by("reverse-over-forward"), CASES.keys() - WITH_LAYER_NORM),
    # A compilation takes seconds; the ragged last batch runs uncompiled beside it.
    "compiled": (_by("compiled"), ("tanh", "masked-weighted")),
    "mixed": (_mixed, CASES.keys()),
    "mixed-linearized": (_mixed_linearized, ("tanh",)),
    "halved": (_halved, CASES.keys() - {"constant-batches"}),
    "float32": (_single, CASES.keys()),
    "shared": (_shared, CASES.keys()),
}


def _of_case(way: str, name: str) -> Callable[[], Made]:
    return lambda: (MADE[way][0](name), truth(name))


def _through_scipy() -> Made:
    linear = as_linear_operator(_by("retained-graph")("tanh"))

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
        Shifted(_by("retained-graph")("tanh"), by=-0.7, scale=-2.0),
        -2 * truth("tanh") - 0.7 * torch.eye(len(truth("tanh")), dtype=torch.float64),
    ),
    "counted": lambda: (Counted(_mixed("gpt"), budget=100), truth("gpt")),
    "scipy": _through_scipy,
}

OPERATORS = {
    **{
        f"{way}-{name}": _of_case(way, name)
        for way, (_, names) in MADE.items()
        for name in sorted(names)
    },
    **WRAPPERS,
}


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_obeys_every_law(name: str, subtests: pytest.Subtests) -> None:
    operator, A_PP = OPERATORS[name]()
    for law in LAWS:
        with subtests.test(law.__name__):
            law(operator, A_PP)
