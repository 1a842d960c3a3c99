"""A formula with a weight for each example, or for each of its predictions.

The mean is sum_i w_i loss_i / sum_i w_i d_i over predictions, d_i what a prediction adds to the
denominator without weights: so an example of weight 2 counts as if it were there twice.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from curvtool.errors import InputError
from curvtool.problem.losses.formula import Formula
from curvtool.problem.scores import Score


def weighted(formula: Formula, weights: Tensor, name: str) -> Formula:
    """The formula of a batch with weights.

    Args:
        formula: without weights.
        weights: shape (N,), or (N, ...) with an entry a prediction, in the order of the targets.
        name: of the loss, for messages.

    Returns:
        The formula, of prepared outputs and targets.

    Raises:
        InputError: for a loss that has no terms to weigh, or weights of another shape.
    """
    if name == "causal_lm" and weights.ndim > 1:
        raise InputError(
            f"{name} expected a weight for each example, since its targets are shifted; got "
            f"weights of shape {tuple(weights.shape)}. Mark padding by --loss-kwargs mask=NAME."
        )
    each = formula.each
    if each is None:
        raise InputError(
            f"{name} expected no weights with head or chunk_tokens, which sum up by chunks; the "
            f"data have some. Leave head out, or weights."
        )

    def total(outputs: Tensor, targets: Tensor) -> Tensor:
        losses, _ = each(outputs, targets)
        # Not by their factor zero alone: what is masked may hold infinity.
        terms = losses * _spread(weights, losses, name)
        return terms.where(_spread(weights, losses, name) > 0, 0).sum()

    def weight(outputs: Tensor, targets: Tensor) -> float:
        with torch.no_grad():
            losses, shares = each(outputs, targets)
        return float((shares.double() * _spread(weights, losses, name).double()).sum())

    def score(outputs: Tensor, targets: Tensor) -> Score:
        formula.score(outputs, targets)  # of all, since it validates too
        with torch.no_grad():
            losses, _ = each(outputs, targets)
        counted = _spread(weights, losses, name) > 0
        return formula.score(outputs[counted], targets[counted])

    return replace(formula, total=total, weight=weight, score=score)


def _spread(weights: Tensor, losses: Tensor, name: str) -> Tensor:
    """Weights in the shape of the losses: an example's goes to all of its predictions."""
    count = losses.numel()
    if not weights.numel() or count % weights.numel():
        raise InputError(
            f"{name} expected a weight for each example or each prediction; got weights of shape "
            f"{tuple(weights.shape)} for {count} predictions. Correct weights under [data]."
        )
    spread = weights.reshape(-1).repeat_interleave(count // weights.numel())
    return spread.reshape(losses.shape).to(losses.dtype)
