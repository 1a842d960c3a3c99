"""Labels brought to the form of outputs over classes, and what is refused on the way.

Letters: M predictions, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from curvtool.errors import InputError


def require_label(name: str, ignore_index: object) -> None:
    """Refuse an `ignore_index` that is no whole number."""
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, int):
        raise InputError(
            f"{name} expected ignore_index as a whole number; got {ignore_index!r}. Give the label "
            f"that means 'none', or leave it out (-100)."
        )


def flattened(
    name: str, outputs: Tensor, targets: Tensor, class_axis: str
) -> tuple[Tensor, Tensor]:
    """Outputs as (M, C) and targets as (M,) of int64."""
    if targets.is_floating_point() or targets.is_complex():
        shares = ""
        if tuple(targets.shape[:-1]) == tuple(outputs.shape[:-1]) and targets.ndim > 1:
            shares = " Shares of classes are taken by cross_entropy without a head alone."
        raise InputError(
            f"{name} expected whole-number labels; the targets are "
            f"{str(targets.dtype).removeprefix('torch.')} of shape {tuple(targets.shape)}. Save "
            f"them as integers (y.astype(int64)), or use mse or bce for real targets.{shares}"
        )
    axis = _axis_of_classes(name, outputs, targets, class_axis)
    moved = outputs if axis == outputs.ndim - 1 else outputs.movedim(axis, -1)
    return moved.reshape(-1, outputs.shape[axis]), targets.reshape(-1).long()


def _axis_of_classes(name: str, outputs: Tensor, targets: Tensor, class_axis: str) -> int:
    out, want = tuple(outputs.shape), tuple(targets.shape)
    if outputs.ndim < 2:
        last = first = False
    else:
        last = want == out[:-1]
        first = want == (out[0], *out[2:])
    if class_axis == "last" and last:
        return outputs.ndim - 1
    if class_axis == "first" and first:
        return 1
    if class_axis == "auto" and last != first:
        return outputs.ndim - 1 if last else 1
    if class_axis == "auto" and last and outputs.ndim == 2:
        return 1
    if class_axis == "auto" and last:
        raise InputError(
            f"{name} expected to tell the class axis by shapes; outputs {out} and targets {want} "
            f'fit both ways. Say which it is: class_axis = "last" for (batch, position, class), '
            f'"first" for (batch, class, position), by --loss-kwargs or kwargs under [loss].'
        )
    hint = (
        " Squeeze the targets to (N,)."
        if want == (*out[:1], 1)
        else " Class indices are expected, not one-hot rows: use y.argmax(1)."
        if want == out and outputs.ndim > 1
        else " Check that model and data belong together."
    )
    raise InputError(
        f"{name} expected outputs (N, classes) with targets (N,), or with further dimensions "
        f"outputs (N, ..., classes) or (N, classes, ...) with targets (N, ...); got outputs {out} "
        f"and targets {want} (class_axis {class_axis}).{hint}"
    )


def shares(name: str, outputs: Tensor, targets: Tensor, class_axis: str) -> tuple[Tensor, Tensor]:
    """Outputs and soft targets of the same shape, both as (M, C), in the outputs' type.

    Args:
        name: of the loss, for messages.
        outputs: of two or more dimensions.
        targets: of the same shape.
        class_axis: where the classes are, of more than two dimensions.

    Returns:
        Both.

    Raises:
        InputError: where the class axis has to be told.
    """
    if outputs.ndim > 2 and class_axis == "auto":
        raise InputError(
            f"{name} expected to be told the class axis of soft targets of shape "
            f'{tuple(targets.shape)}; class_axis is auto. Say which it is: class_axis = "last" or '
            f'"first", by --loss-kwargs or kwargs under [loss].'
        )
    axis = 1 if class_axis == "first" else outputs.ndim - 1
    flat = [t.movedim(axis, -1).reshape(-1, outputs.shape[axis]) for t in (outputs, targets)]
    return flat[0], flat[1].to(outputs.dtype)


def require_shares(name: str, q_MC: Tensor) -> None:
    """Refuse soft targets that are not shares of a whole."""
    # Shares saved in half precision miss 1 by 1e-3 or so for each class.
    whole = q_MC.sum(-1)
    if not q_MC.numel() or (
        float(q_MC.min()) >= 0 and bool(((whole - 1).abs() <= 1e-3 * q_MC.shape[-1]).all())
    ):
        return
    worst = float(whole[(whole - 1).abs().argmax()])
    came = f"the smallest is {float(q_MC.min()):g}, and a row sums to {worst:g}"
    raise InputError(
        f"{name} expected soft targets that are shares of the classes, of at least 0 and with the "
        f"sum 1; {came}. Normalise them, or use mse or bce for other real targets."
    )


def require_range(name: str, classes: int, labels: Tensor, ignore_index: int) -> None:
    """Refuse labels for which the model has no output."""
    if not len(labels):
        return
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        offending = f"the smallest label is {low}" if low < 0 else f"the largest label is {high}"
        raise InputError(
            f"{name} expected labels from 0 to {classes - 1}, since the model has {classes} "
            f"outputs; {offending}. Number the classes from 0, check that the model has an output "
            f"for each, or set ignore_index (now {ignore_index}) if that label means 'none'."
        )


def require_log_probabilities(log_probs: Tensor) -> None:
    """Refuse outputs of `nll` whose exponentials do not sum to 1."""
    # Outputs in bfloat16 sum to 1 within 0.01; logits miss it by far.
    total = log_probs.double().logsumexp(-1) if len(log_probs) else torch.zeros(1)
    if bool((total.abs() > 0.05).any()):
        raise InputError(
            f"nll expected log-probabilities, whose exponentials sum to 1; those of the model sum "
            f"to {float(total[total.abs().argmax()].exp()):.3g}. Use cross_entropy for logits."
        )
