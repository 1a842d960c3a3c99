"""What the checks leave open where a derivative is a user's word.

A custom autograd function's second derivative may be wrong in a part of the loss that is small: by
less than a check allows, and by far more than an eigenvalue's bound. Every way to make products
believes it, in every dtype; only differences of the gradient do not, and these have an error of
their own. So what lies between both is taken for possible.

Letters: P parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from torch import Tensor

from curvtool.problem.objective import Objective

# Three random vectors all have less than a tenth of their expected share of a direction with
# probability 5e-4.
SHARE = 10.0


def left_open(
    objective: Objective,
    product: Callable[[Tensor], Tensor],
    directions: Iterable[Tensor],
    steps: Sequence[float],
) -> float:
    """Bound on the norm of the distance between a product's matrix and the Hessian.

    Args:
        objective: a few examples, in float64.
        product: that is to be judged.
        directions: random vectors, shape (P,); three make the bound hold with probability 99.9 %.
        steps: of central differences, relative to the parameters; the best of each vector counts.

    Returns:
        10 max |E v| sqrt(P) / |v| with E what product and differences part by: sqrt(P) |E v| / |v|
        is |E|_F on average. Costs two gradients for each vector and step.
    """
    theta_P = objective.theta()
    size = float(theta_P.norm()) or 1.0
    worst = 0.0
    for v_P in directions:
        length = float(v_P.norm())
        Hv_P = product(v_P)
        apart = math.inf
        for step in steps:
            h = step * size / length
            ahead_P, behind_P = (objective.gradient_at(theta_P + s * v_P) for s in (h, -h))
            apart = min(apart, float((Hv_P - (ahead_P - behind_P) / (2 * h)).norm()))
        worst = max(worst, apart / length)
    return SHARE * math.sqrt(len(theta_P)) * worst
