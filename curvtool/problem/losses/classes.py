"""Losses over classes: cross_entropy (of logits) and nll (of log-probabilities)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from curvtool.errors import InputError
from curvtool.problem.losses.chunked import most_likely, summed_cross_entropy
from curvtool.problem.losses.chunks import targets_of
from curvtool.problem.losses.head import Head
from curvtool.problem.losses.parts import Formula, HeadFormula

# Of 50 000 classes in float32, 0.2 GB for each of a pass's few tensors.
CHUNK_TOKENS = 1024


def cross_entropy(
    *,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    class_weights: list[float] | None = None,
    class_axis: str = "auto",
    head: str | None = None,
    chunk_tokens: int | None = None,
) -> Formula | HeadFormula:
    """Cross-entropy of logits against class indices.

    Args:
        label_smoothing: in [0, 1).
        ignore_index: targets with this value weigh nothing.
        class_weights: a weight a class; the mean divides by the summed weights of the labels.
        class_axis: where the classes are in an output of three or more dimensions: "last"
            (batch, position, class), "first" (batch, class, position), or "auto" to tell by the
            targets' shape.
        head: name of the model's last layer, a linear one: its logits are then made here, by chunks
            and again in every pass, and no graph keeps them (see `chunked.py`).
        chunk_tokens: predictions in a chunk; `CHUNK_TOKENS` where not given.

    Returns:
        The formula.

    Raises:
        InputError: for a value out of its range.
    """
    if not 0 <= label_smoothing < 1:
        raise InputError(
            f"cross_entropy expected label_smoothing in [0, 1); got {label_smoothing}. Set it as "
            f"in training, or leave it out."
        )

    table = _checked("cross_entropy", ignore_index, class_weights, class_axis)

    def total(logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(
            logits,
            labels,
            table.like(logits),
            ignore_index=ignore_index,
            reduction="sum",
            label_smoothing=label_smoothing,
        )

    if head is None and chunk_tokens is None:
        return _over_classes("cross_entropy", total, ignore_index, table, class_axis)
    chunk = _chunk_of(head, chunk_tokens, class_axis)

    def given(weight_VD: Tensor, bias_V: Tensor | None) -> Formula:
        classes = len(weight_VD)

        def total_of_hidden(hidden_ND: Tensor, labels_N: Tensor) -> Tensor:
            targets = targets_of(
                labels_N,
                classes=classes,
                dtype=hidden_ND.dtype,
                ignore_index=ignore_index,
                label_smoothing=label_smoothing,
                weights_V=table.like(hidden_ND),
            )
            return summed_cross_entropy(hidden_ND, weight_VD, bias_V, targets, chunk_tokens=chunk)

        def predicted(hidden_ND: Tensor) -> Tensor:
            bias = None if bias_V is None else bias_V.detach()
            return most_likely(hidden_ND, weight_VD.detach(), bias, chunk_tokens=chunk)

        return _over_classes(
            "cross_entropy",
            total_of_hidden,
            ignore_index,
            table,
            "last",
            classes=classes,
            predicted=predicted,
        )

    return HeadFormula(Head(str(head)), given)


def _chunk_of(head: object, chunk_tokens: object, class_axis: str) -> int:
    """Tokens in a chunk, when what belongs together is given together."""
    if not isinstance(head, str):
        raise InputError(
            f"cross_entropy expected head as the name of the model's last linear layer; got "
            f'{head!r}. Write for example head = "head"; chunk_tokens belongs to it.'
        )
    chunk = CHUNK_TOKENS if chunk_tokens is None else chunk_tokens
    if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
        raise InputError(
            f"cross_entropy expected chunk_tokens as a whole number of at least 1; got {chunk!r}. "
            f"Write for example chunk_tokens = {CHUNK_TOKENS}, or leave it out."
        )
    if class_axis == "first":
        raise InputError(
            f"cross_entropy expected the classes last where head is given, as a linear layer has "
            f'them; got class_axis = "first". Leave class_axis or head ({head!r}) out.'
        )
    return chunk


def nll(
    *,
    ignore_index: int = -100,
    class_weights: list[float] | None = None,
    class_axis: str = "auto",
) -> Formula:
    """Negative log-likelihood of log-probabilities (a model that ends in log_softmax).

    Args:
        ignore_index: as in `cross_entropy`.
        class_weights: as in `cross_entropy`.
        class_axis: as in `cross_entropy`.

    Returns:
        The formula.
    """
    table = _checked("nll", ignore_index, class_weights, class_axis)

    def total(log_probs: Tensor, labels: Tensor) -> Tensor:
        weights = table.like(log_probs)
        return F.nll_loss(log_probs, labels, weights, ignore_index=ignore_index, reduction="sum")

    return _over_classes("nll", total, ignore_index, table, class_axis)


def _checked(
    name: str, ignore_index: object, class_weights: list[float] | None, class_axis: str
) -> _ClassWeights:
    if class_axis not in {"auto", "first", "last"}:
        raise InputError(
            f'{name} expected class_axis to be "auto", "first" or "last"; got {class_axis!r}. '
            f'"last" is (batch, position, class), "first" is (batch, class, position).'
        )
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, int):
        raise InputError(
            f"{name} expected ignore_index as a whole number; got {ignore_index!r}. Give the label "
            f"that means 'none', or leave it out (-100)."
        )
    return _ClassWeights(name, class_weights)


def _over_classes(
    name: str,
    total: Callable[[Tensor, Tensor], Tensor],
    ignore_index: int,
    table: _ClassWeights,
    class_axis: str,
    *,
    classes: int | None = None,
    predicted: Callable[[Tensor], Tensor] | None = None,
) -> Formula:
    """The formula of a sum; `classes` and `predicted` where the outputs are not the classes'."""

    def prepare(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        flat = _flattened(name, outputs, targets, class_axis)
        table.require_length(classes or flat[0].shape[-1])
        return flat

    def weight(outputs: Tensor, labels: Tensor) -> float:
        counted = labels[labels != ignore_index]
        return table.summed(counted, classes or outputs.shape[-1])

    def score(outputs: Tensor, labels: Tensor) -> tuple[int, int]:
        counted = labels != ignore_index
        _require_range(name, classes or outputs.shape[-1], labels[counted], ignore_index)
        if name == "nll" and outputs.numel():
            _require_log_probabilities(outputs[counted])
        best = predicted(outputs) if predicted else outputs.argmax(-1)
        right = (best == labels) & counted
        return int(right.sum()), int(counted.sum())

    return Formula(prepare=prepare, total=total, weight=weight, score=score)


class _ClassWeights:
    """The weights as a tensor like the outputs, made once for each device and type."""

    def __init__(self, name: str, values: list[float] | None) -> None:
        self._name, self._values = name, values
        self._made: dict[tuple[torch.device, torch.dtype], Tensor] = {}
        numbers = values is None or (
            isinstance(values, list)
            and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        )
        if not numbers or min(values or [0]) < 0 or not all(v < float("inf") for v in values or []):
            raise InputError(
                f"{name} expected class_weights as a list of numbers of at least 0, one a class; "
                f"got {values!r}. Write for example class_weights = [1.0, 2.5]."
            )

    def require_length(self, classes: int) -> None:
        if self._values is not None and len(self._values) != classes:
            raise InputError(
                f"{self._name} expected {classes} class_weights, one for each output of the "
                f"model; got {len(self._values)}. Correct kwargs under [loss]."
            )

    def summed(self, labels: Tensor, classes: int) -> float:
        """Weights of labels, none of them masked; zero where one is out of range."""
        if self._values is None:
            return float(len(labels))
        if not len(labels) or not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            return 0.0
        # In float64, so that no division of the data into batches shows.
        table = torch.tensor(self._values, dtype=torch.float64, device=labels.device)
        return float(table[labels].sum())

    def like(self, outputs: Tensor) -> Tensor | None:
        if self._values is None:
            return None
        key = (outputs.device, outputs.dtype)
        if key not in self._made:
            self._made[key] = torch.tensor(self._values, dtype=outputs.dtype, device=outputs.device)
        return self._made[key]


def _flattened(
    name: str, outputs: Tensor, targets: Tensor, class_axis: str
) -> tuple[Tensor, Tensor]:
    """Outputs as (predictions, classes) and targets as (predictions,) of int64."""
    if targets.is_floating_point() or targets.is_complex():
        raise InputError(
            f"{name} expected whole-number labels; the targets are "
            f"{str(targets.dtype).removeprefix('torch.')}. Save them as integers "
            f"(y.astype(int64)), or use mse or bce for real targets."
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


def _require_range(name: str, classes: int, labels: Tensor, ignore_index: int) -> None:
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


def _require_log_probabilities(log_probs: Tensor) -> None:
    # Outputs in bfloat16 sum to 1 within 0.01; logits miss it by far.
    total = log_probs.double().logsumexp(-1) if len(log_probs) else torch.zeros(1)
    if bool((total.abs() > 0.05).any()):
        raise InputError(
            f"nll expected log-probabilities, whose exponentials sum to 1; those of the model sum "
            f"to {float(total[total.abs().argmax()].exp()):.3g}. Use cross_entropy for logits."
        )
