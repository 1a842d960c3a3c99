"""How many vectors to send through one pass: measured, as it pays for small networks only."""

from __future__ import annotations

import torch

from curvtool.operators.hessian import HessianOperator
from curvtool.operators.measure import memory_use, seconds

# A larger block must save so much of a vector's time to be worth its memory.
WORTH = 0.9
MOST = 64
SHARE = 0.01


def choose_block(operator: HessianOperator, *, products: int, memory: int | None) -> int:
    """The block that multiplies a vector fastest; set on the operator, too.

    Args:
        operator: with what it keeps.
        products: of the solve: a hundredth of them is the largest block tried.
        memory: bytes that a pass may take; None for no limit.

    Returns:
        Vectors a pass, 1 where a block does not pay. Costs about twice as many products as the
        block that it finds, and at least four.
    """
    operator.block = 1
    most = min(MOST, int(SHARE * products))
    if most < 2 or not operator.multiplies_blocks:
        return 1
    V = torch.ones((most, operator.size), dtype=operator.dtype, device=operator.device)
    operator.matmat(V[:1])
    best = min(seconds(lambda: operator.matmat(V[:1]), operator.device) for _ in range(2))
    found, block = 1, 2
    while block <= most:
        operator.block = block
        rows = V[:block]
        use = memory_use(lambda rows=rows: operator.matmat(rows), operator.device)  # type: ignore[misc]
        if memory is not None and use.peak > memory:
            break
        each = seconds(lambda rows=rows: operator.matmat(rows), operator.device) / block  # type: ignore[misc]
        if each > WORTH * best:
            break
        best, found, block = each, block, 2 * block
    operator.block = found
    return found
