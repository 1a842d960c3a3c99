"""Where a loss has kinks, rounding decides on which side of one an example stands.

A ReLU's input within a rounding of zero makes the Hessian another one, in a term of few ranks: 5e-5
of a product over 1,437 digits, from a single unit of a single example. Few examples cannot tell
whether there is one among all, so that the product is held against float64 over the whole dataset.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from curvtool.operators.hessian import HessianOperator
from curvtool.operators.measure import graph_operations
from curvtool.problem.objective import Objective

# Nodes of the autograd graph of functions whose first derivative jumps or whose second one does.
_KINKED = re.compile(
    r"relu|threshold|hardtanh|hardswish|hardsigmoid|shrink|abs|clamp|max|min|sort|topk|median|sign"
    r"|smoothl1|huber|elu",
    re.IGNORECASE,
)
_SMOOTH = re.compile(r"softmax|gelu|selu", re.IGNORECASE)


def has_kinks(objective: Objective) -> bool:
    """Whether the first batch's loss is made of functions that are not smooth."""
    loss = objective.batch_loss(objective.active[0])
    return any(
        _KINKED.search(name) and not _SMOOTH.search(name) for name in graph_operations([loss])
    )


def noise_over_all(
    objective: Objective, operator: HessianOperator, direction_P: Tensor, *, way: str
) -> float | None:
    """Relative distance of a product to the same in float64, over the whole dataset.

    Args:
        objective: in single precision.
        operator: its Hessian, as it will be used.
        direction_P: not zero; the gradient lies near the leading eigenvectors.
        way: that was checked; it makes the product in float64.

    Returns:
        The distance; None where it cannot differ by a kink. What float64 cannot do comes through.
        Costs one product, and a product and a gradient in float64: about ten gradients.
    """
    if objective.dtype == torch.float64 or not has_kinks(objective):
        return None
    double = objective.sample(None, dtype=torch.float64)
    exact_P = HessianOperator(double, way=way, graph_memory=0).matvec(direction_P.double())
    size = float(exact_P.norm())
    apart = float((operator.matvec(direction_P).double() - exact_P).norm())
    return apart / size if size else None
