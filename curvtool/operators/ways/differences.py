"""Central differences of the gradient: two gradients, no second derivative, and not exact."""

from __future__ import annotations

import torch
from torch import Tensor

from curvtool.operators.ways.base import Pieces
from curvtool.problem.objective import Objective

# Step relative to |theta| / |v|, by the cube root of eps where truncation and rounding balance;
# in float32 shorter, since ReLU kinks are crossed otherwise (26 % off at 5e-3 on a right net).
STEPS = {torch.float64: 1e-5, torch.float32: 1e-3}


def finite_difference(objective: Objective, index: int, v: Pieces) -> Pieces:
    """The batch's part of H v, inexact: (g(theta + h v) - g(theta - h v)) / 2 h.

    The parameters are replaced for the call and never written, so that nothing has to be
    restored, whatever happens. Cost: two gradients; memory of one.

    Args:
        objective: the objective.
        index: of the batch.
        v: the vector's pieces.

    Returns:
        The part's pieces.

    Raises:
        ValueError: for an objective in half precision, whose gradient differences drown in
            rounding; one made with `dtype=torch.float32` has float32 masters of the parameters.
    """
    return differences(objective, index, v, step=_step(objective))


def differences(objective: Objective, index: int, v: Pieces, *, step: float) -> Pieces:
    """The same with a step of `step` |theta| / |v|."""
    theta, length = _norm(objective.parameters), _norm(v)
    if not length:
        return [torch.zeros_like(piece) for piece in v]
    h = step * (theta or 1.0) / length
    ahead, behind = (
        objective.batch_gradient_at(
            index,
            [
                torch.add(p.detach(), piece, alpha=sign * h).requires_grad_()
                for p, piece in zip(objective.parameters, v, strict=True)
            ],
        )
        for sign in (1.0, -1.0)
    )
    return [(a - b) / (2 * h) for a, b in zip(ahead, behind, strict=True)]


def estimated_error(objective: Objective, index: int, v: Pieces) -> float:
    """Relative error of `finite_difference`, from a product with half the step.

    Truncation falls to a quarter and rounding doubles, so that the distance of the two is at least
    three quarters of the one and half of the other. Costs four gradients.

    Args:
        objective: the objective.
        index: of the batch.
        v: the vector's pieces.

    Returns:
        The estimate; zero for a product that is zero.
    """
    step = _step(objective)
    whole, half = (differences(objective, index, v, step=s) for s in (step, step / 2))
    apart = _norm([a - b for a, b in zip(whole, half, strict=True)])
    size = max(_norm(whole), _norm(half))
    return 2 * apart / size if size else 0.0


def _step(objective: Objective) -> float:
    if objective.dtype not in STEPS:
        raise ValueError(
            f"Finite differences need parameters in float32 or float64, not {objective.dtype}: "
            "make the objective with dtype=torch.float32."
        )
    return STEPS[objective.dtype]


def _norm(pieces: Pieces) -> float:
    squares: Tensor = torch.stack([p.detach().double().square().sum() for p in pieces]).sum()
    return float(squares.sqrt())
