"""Losses over values: mse, huber, and bce of logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from curvtool.errors import InputError
from curvtool.problem.losses.parts import Formula
from curvtool.problem.scores import Score, fit_of


def mse() -> Formula:
    """Mean of the squared differences over every element of the output.

    Returns:
        The formula.
    """
    return Formula(
        prepare=lambda outputs, targets: (outputs, _same_shape("mse", outputs, targets)),
        # Not F.mse_loss, whose mean has no forward-mode derivative.
        total=lambda outputs, targets: (outputs - targets).square().sum(),
        weight=_elements,
        score=_errors,
        each=lambda outputs, targets: _terms((outputs - targets).square()),
    )


def huber(*, delta: float = 1.0) -> Formula:
    """Half the squared difference up to `delta`, from there on its slope; mean over every element.

    Args:
        delta: where the square ends.

    Returns:
        The formula.

    Raises:
        InputError: for a delta that is no positive number.
    """
    is_number = isinstance(delta, int | float) and not isinstance(delta, bool)
    if not (is_number and 0 < delta < float("inf")):
        raise InputError(
            f"huber expected delta as a positive number; got {delta!r}. Write for example "
            f"delta = 1.0, as in training."
        )

    def losses(outputs: Tensor, targets: Tensor) -> Tensor:
        # Not F.huber_loss, whose gradient has no forward-mode derivative.
        distance = (outputs - targets).abs()
        inner = distance.clamp(max=delta)
        return inner * (distance - 0.5 * inner)

    return Formula(
        prepare=lambda outputs, targets: (outputs, _same_shape("huber", outputs, targets)),
        total=lambda outputs, targets: losses(outputs, targets).sum(),
        weight=_elements,
        score=_errors,
        each=lambda outputs, targets: _terms(losses(outputs, targets)),
    )


def bce(*, pos_weight: float | list[float] | None = None) -> Formula:
    """Binary cross-entropy of logits, the mean over every element of the output.

    Args:
        pos_weight: factor on the positive term, one number or one for each output.

    Returns:
        The formula.

    Raises:
        InputError: for a factor that is no positive number.
    """
    factors = pos_weight if isinstance(pos_weight, list) else [pos_weight]
    numbers = [v for v in factors if isinstance(v, int | float) and not isinstance(v, bool)]
    if pos_weight is not None and (len(numbers) < len(factors) or min(numbers, default=0) <= 0):
        raise InputError(
            f"bce expected pos_weight as a positive number or a list of them; got {pos_weight!r}. "
            f"Write for example pos_weight = 2.5."
        )

    def losses(outputs: Tensor, targets: Tensor, reduction: str) -> Tensor:
        factor = None
        if pos_weight is not None:
            factor = torch.tensor(pos_weight, dtype=outputs.dtype, device=outputs.device)
            if factor.ndim and factor.shape[0] != outputs.shape[-1]:
                raise InputError(
                    f"bce expected one pos_weight, or {outputs.shape[-1]}: one for each output of "
                    f"the model; got {factor.shape[0]}. Correct kwargs under [loss]."
                )
        return F.binary_cross_entropy_with_logits(
            outputs, targets, pos_weight=factor, reduction=reduction
        )

    return Formula(
        prepare=lambda outputs, targets: (outputs, _same_shape("bce", outputs, targets)),
        total=lambda outputs, targets: losses(outputs, targets, "sum"),
        weight=_elements,
        score=_score_bce,
        each=lambda outputs, targets: _terms(losses(outputs, targets, "none")),
    )


def _terms(losses: Tensor) -> tuple[Tensor, Tensor]:
    """Every element counts 1."""
    return losses, torch.ones_like(losses)


def _same_shape(name: str, outputs: Tensor, targets: Tensor) -> Tensor:
    """The targets in the outputs' type; never broadcast, which would pair all with all."""
    if outputs.shape != targets.shape:
        out, want = tuple(outputs.shape), tuple(targets.shape)
        hint = "Check that model and data belong together."
        if out == (*want, 1):
            hint = "Give the targets a last dimension of 1 (y[:, None]), or squeeze the output."
        elif want == (*out, 1):
            hint = "Remove the targets' last dimension (y.squeeze(1))."
        raise InputError(
            f"{name} expected outputs and targets of one shape; got outputs {out} and targets "
            f"{want}. {hint}"
        )
    return targets.to(outputs.dtype)


def _elements(outputs: Tensor, _targets: Tensor) -> float:
    return float(outputs.numel())


def _errors(outputs: Tensor, targets: Tensor) -> Score:
    return Score(fit=fit_of(outputs, targets))


def _score_bce(outputs: Tensor, targets: Tensor) -> Score:
    if not targets.numel():
        return Score()
    low, high = float(targets.min()), float(targets.max())
    if not (low >= 0 and high <= 1):
        offending = f"the smallest is {low:g}" if low < 0 else f"the largest is {high:g}"
        raise InputError(
            f"bce expected targets from 0 to 1; {offending}. Save classes as 0 and 1, or use "
            f"cross_entropy for more than two."
        )
    if not bool(((targets == 0) | (targets == 1)).all()):
        return Score()  # soft targets: there is no right prediction to count
    return Score(int(((outputs > 0) == (targets > 0.5)).sum()), targets.numel())
