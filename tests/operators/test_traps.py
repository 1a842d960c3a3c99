"""The right product or a refusal, never a wrong number: every trap, made in two ways.

One is that of the retained graph, whose derivatives most runs take; the other is forward over
reverse, whose derivatives are others of torch. The other ways are made of the same derivatives, and
`test_conformance.py` holds all ways equal: a few traps of every sort do for them.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from curvtool.errors import PreflightError
from curvtool.operators.hessian import HessianOperator
from curvtool.operators.preflight import preflight
from curvtool.operators.ways.registry import WAYS
from curvtool.problem.objective import Objective
from tests.objectives import batches, seeded
from tests.operators.traps import (
    CROSS_ENTROPY,
    SEQUENCES,
    TARGETS,
    TRAPS,
    Mean,
    Trap,
    around,
    differences,
)

# Which letter of a trap is a way's; of the others only the law is asked. (`double-vjp` differs from
# its nesting where a derivative along zero is 0/0, and differences need no second derivative.)
NESTING = {
    "retained-graph": 0,
    "reverse-over-reverse": 0,
    "forward-over-reverse": 1,
    "linearized": 1,
    "reverse-over-forward": 2,
}
OF_ALL_TRAPS = ("retained-graph", "forward-over-reverse")
# A compilation takes 10 s, and tracing forward mode 1 s: their derivatives are those of the
# retained graph and of forward over reverse, recorded. (`linearized` was right on the whole table.)
OF_A_FEW = [name for name in WAYS if name not in {"compiled", "linearized", *OF_ALL_TRAPS}]
# What is right in all nestings, in two, in one, and in none.
A_FEW = (
    *("sdpa masked", "lstm", "weight norm", "cross_entropy"),
    *("layer_norm", "encoder layer", "huber"),
    *("cdist", "old function"),
    *("once_differentiable", "embedding with padding", "sdpa on a fused kernel"),
)
IN_DOUBLE = (
    *("lstm", "layer_norm", "weight norm", "torch._weight_norm", "gradient in forward", "mse"),
    *("cdist", "logcumsumexp", "scatter_reduce prod", "once_differentiable", "old function"),
)
TRACED = ("layer_norm", "weight norm", "mse sum", "conv2d", "embedding", "checkpoint", "huber")


def outcome(trap: Trap, way: str, dtype: torch.dtype) -> tuple[HessianOperator, float] | str:
    """The operator with its noise, or the sentence that refuses it."""
    try:
        objective = trap.objective(dtype)
        checked = WAYS[way].checked_as or way
        result = preflight(objective, way=checked, seed=0, exact=WAYS[way].exact)
        return HessianOperator(objective, way=way), result.noise
    except PreflightError as error:  # exit code 5
        return str(error)


def hold(name: str, way: str, dtype: torch.dtype) -> None:
    """The law."""
    expected = TRAPS[name].expected
    found = outcome(TRAPS[name], way, dtype)
    if isinstance(found, str):
        assert found.endswith(".")
        assert way not in NESTING or expected[NESTING[way]] == "-", found
        return
    assert way not in NESTING or expected[NESTING[way]] == "+", "not refused"
    operator, noise = found
    if WAYS[way].exact:
        # Networks this small round by some ten eps, an order more where a layer cancels, and
        # logcumsumexp in float64 by 6,000 or 13,000, as the vector has it.
        assert noise <= 2e4 * torch.finfo(dtype).eps
    V_2P, HV_2P = differences(name)
    for v_P, Hv_P in zip(V_2P, HV_2P, strict=True):
        off = operator.matvec(v_P.to(dtype)).double() - Hv_P
        # The noise is of three vectors, another may have some times as much; our differences
        # are off by h^2 = 1e-10 of third derivatives and by eps / h = 2e-11 of the gradient.
        assert float(off.norm()) <= (10 * noise + 1e-7) * float(Hv_P.norm())


@pytest.mark.filterwarnings("ignore:.*torch.utils.checkpoint:UserWarning")
@pytest.mark.parametrize("way", OF_ALL_TRAPS)
@pytest.mark.parametrize("name", TRAPS)
def test_the_right_product_or_a_refusal(name: str, way: str) -> None:
    hold(name, way, torch.float32)


@pytest.mark.parametrize("way", OF_A_FEW)
@pytest.mark.parametrize("name", A_FEW)
def test_the_same_in_the_other_ways(name: str, way: str) -> None:
    hold(name, way, torch.float32)


def test_the_few_are_of_every_sort() -> None:
    assert {TRAPS[name].expected for name in A_FEW} == {t.expected for t in TRAPS.values()}


@pytest.mark.parametrize("name", TRACED)
def test_the_same_where_forward_mode_is_traced(name: str) -> None:
    hold(name, "linearized", torch.float32)


@pytest.mark.parametrize("name", IN_DOUBLE)
def test_the_same_in_double_precision(name: str) -> None:
    hold(name, "reverse-over-reverse", torch.float64)


ON_A_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@ON_A_GPU
def test_recurrent_layers_do_without_cudnn() -> None:
    objective = Objective(
        seeded(lambda: Mean(nn.LSTM(4, 2, batch_first=True), 2)),
        CROSS_ENTROPY,
        batches((SEQUENCES, TARGETS), 9),
        device=torch.device("cuda"),
        dtype=torch.float32,
    )
    result = preflight(objective, way="retained-graph", seed=0)
    assert all(check.passed for check in result.checks)


@ON_A_GPU
def test_flex_attention_is_refused_or_right() -> None:
    from torch.nn.attention.flex_attention import flex_attention

    trap = around("   ", lambda x: flex_attention(x, x, x.tanh()), (1, 16, 16), 256)
    for way in (*OF_ALL_TRAPS, *OF_A_FEW):
        outcome(trap, way, torch.float32)
