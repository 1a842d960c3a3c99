"""Losses over classes: cross_entropy (of logits) and nll (of log-probabilities).

Letters: M predictions, C classes; N, V, D as in `chunked.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from curvtool.errors import InputError
from curvtool.problem.losses.chunked import most_likely, summed_cross_entropy
from curvtool.problem.losses.chunks import targets_of
from curvtool.problem.losses.class_weights import ClassWeights
from curvtool.problem.losses.head import Head
from curvtool.problem.losses.labels import (
    flattened,
    require_label,
    require_log_probabilities,
    require_range,
    require_shares,
    shares,
)
from curvtool.problem.losses.parts import Formula, HeadFormula
from curvtool.problem.scores import Score

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
    """Cross-entropy of logits against class indices, or against shares of the classes.

    Args:
        label_smoothing: in [0, 1).
        ignore_index: targets with this value weigh nothing.
        class_weights: a weight a class; the mean divides by the summed weights of the labels (with
            shares, as torch has it, by the predictions).
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
    return named_cross_entropy(
        "cross_entropy",
        label_smoothing=label_smoothing,
        ignore_index=ignore_index,
        class_weights=class_weights,
        class_axis=class_axis,
        head=head,
        chunk_tokens=chunk_tokens,
    )


def named_cross_entropy(
    name: str,
    *,
    label_smoothing: float,
    ignore_index: int,
    class_weights: list[float] | None = None,
    class_axis: str,
    head: str | None,
    chunk_tokens: int | None,
) -> Formula | HeadFormula:
    """`cross_entropy` under the name that messages give it.

    Args:
        name: of the loss.
        label_smoothing: as in `cross_entropy`, like all that follows.
        ignore_index: likewise.
        class_weights: likewise.
        class_axis: likewise.
        head: likewise.
        chunk_tokens: likewise.

    Returns:
        The formula.

    Raises:
        InputError: for a value out of its range.
    """
    if not 0 <= label_smoothing < 1:
        raise InputError(
            f"{name} expected label_smoothing in [0, 1); got {label_smoothing}. Set it as "
            f"in training, or leave it out."
        )

    table = _checked(name, ignore_index, class_weights, class_axis)

    def total(logits_MC: Tensor, labels: Tensor) -> Tensor:
        if labels.ndim == 2:
            q_MC = labels * (1 - label_smoothing) + label_smoothing / labels.shape[-1]
            weights_C = table.like(logits_MC)
            return -(
                logits_MC.log_softmax(-1) * (q_MC if weights_C is None else q_MC * weights_C)
            ).sum()
        return F.cross_entropy(
            logits_MC,
            labels,
            table.like(logits_MC),
            ignore_index=ignore_index,
            reduction="sum",
            label_smoothing=label_smoothing,
        )

    def each(logits_MC: Tensor, labels: Tensor) -> Tensor:
        if labels.ndim == 2:
            q_MC = labels * (1 - label_smoothing) + label_smoothing / labels.shape[-1]
            weights_C = table.like(logits_MC)
            q_MC = q_MC if weights_C is None else q_MC * weights_C
            return -(logits_MC.log_softmax(-1) * q_MC).sum(-1)
        return F.cross_entropy(
            logits_MC,
            labels,
            table.like(logits_MC),
            ignore_index=ignore_index,
            reduction="none",
            label_smoothing=label_smoothing,
        )

    if head is None and chunk_tokens is None:
        return _over_classes(name, total, ignore_index, table, class_axis, soft=True, each=each)
    chunk = _chunk_of(name, head, chunk_tokens, class_axis)

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
            name,
            total_of_hidden,
            ignore_index,
            table,
            "last",
            classes=classes,
            predicted=predicted,
        )

    return HeadFormula(Head(str(head), loss=name), given)


def _chunk_of(name: str, head: object, chunk_tokens: object, class_axis: str) -> int:
    """Tokens in a chunk, when what belongs together is given together."""
    if not isinstance(head, str):
        raise InputError(
            f"{name} expected head as the name of the model's last linear layer; got "
            f'{head!r}. Write for example head = "head"; chunk_tokens belongs to it.'
        )
    chunk = CHUNK_TOKENS if chunk_tokens is None else chunk_tokens
    if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
        raise InputError(
            f"{name} expected chunk_tokens as a whole number of at least 1; got {chunk!r}. "
            f"Write for example chunk_tokens = {CHUNK_TOKENS}, or leave it out."
        )
    if class_axis == "first":
        raise InputError(
            f"{name} expected the classes last where head is given, as a linear layer has "
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

    def each(log_probs: Tensor, labels: Tensor) -> Tensor:
        weights = table.like(log_probs)
        return F.nll_loss(log_probs, labels, weights, ignore_index=ignore_index, reduction="none")

    return _over_classes("nll", total, ignore_index, table, class_axis, each=each)


def _checked(
    name: str, ignore_index: object, class_weights: list[float] | None, class_axis: str
) -> ClassWeights:
    if class_axis not in {"auto", "first", "last"}:
        raise InputError(
            f'{name} expected class_axis to be "auto", "first" or "last"; got {class_axis!r}. '
            f'"last" is (batch, position, class), "first" is (batch, class, position).'
        )
    require_label(name, ignore_index)
    return ClassWeights(name, class_weights)


def _over_classes(
    name: str,
    total: Callable[[Tensor, Tensor], Tensor],
    ignore_index: int,
    table: ClassWeights,
    class_axis: str,
    *,
    classes: int | None = None,
    predicted: Callable[[Tensor], Tensor] | None = None,
    soft: bool = False,
    each: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Formula:
    """The formula of a sum; `classes` and `predicted` where the outputs are not the classes'."""
    # Targets that may be shares are those of two dimensions, once prepared.

    def prepare(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        if (
            soft
            and targets.is_floating_point()
            and targets.shape == outputs.shape != (len(outputs),)
        ):
            flat = shares(name, outputs, targets, class_axis)
        else:
            flat = flattened(name, outputs, targets, class_axis)
        table.require_length(classes or flat[0].shape[-1])
        return flat

    def weight(outputs: Tensor, labels: Tensor) -> float:
        if labels.ndim == 2:
            return float(len(labels))
        counted = labels[labels != ignore_index]
        return table.summed(counted, classes or outputs.shape[-1])

    def score(outputs: Tensor, labels: Tensor) -> Score:
        if labels.ndim == 2:
            return _score_of_shares(name, outputs, labels)
        counted = labels != ignore_index
        require_range(name, classes or outputs.shape[-1], labels[counted], ignore_index)
        if name == "nll" and outputs.numel():
            require_log_probabilities(outputs[counted])
        best = predicted(outputs) if predicted else outputs.argmax(-1)
        right = (best == labels) & counted
        return Score(int(right.sum()), int(counted.sum()))

    def terms(outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        assert each is not None
        if labels.ndim == 2:
            return each(outputs, labels), outputs.new_ones(len(labels))
        return each(outputs, labels), table.of_each(labels, ignore_index)

    return Formula(prepare, total, weight, score, each=None if each is None else terms)


def _score_of_shares(name: str, outputs: Tensor, q_MC: Tensor) -> Score:
    """Right predictions where every target is one class; of true shares none is right or wrong."""
    require_shares(name, q_MC)
    if not q_MC.numel() or not bool((q_MC.amax(-1) == 1).all()):
        return Score()
    right = outputs.argmax(-1) == q_MC.argmax(-1)
    return Score(int(torch.count_nonzero(right)), len(q_MC))
