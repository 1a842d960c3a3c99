"""What was differentiated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ParameterEntry:
    """One parameter tensor inside the flat vector: elements offset .. offset + size."""

    name: str
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True, kw_only=True)
class ProblemSummary:
    """What was differentiated, and its value at the checkpoint.

    Attributes:
        checkpoint: path as the user gave it.
        model: e.g. `cnn` or `models.py:build`.
        data: e.g. `npz:digits.npz`.
        loss: e.g. `cross_entropy`.
        num_parameters: P, the size of the flat vector.
        num_examples: examples in the mean.
        num_batches: batches they came in.
        total_weight: denominator of the dataset mean (examples, tokens, ...).
        loss_value: the dataset mean at the checkpoint.
        gradient_norm: 2-norm of its gradient.
        accuracy: share of right predictions in 0..1, None where the loss has no classes.
        rmse: root of the mean squared error of real predictions, None where there are none.
        target_std: standard deviation of their targets, the RMSE of a constant prediction.
        notes: sentences the reader must know (attention on the math kernel, frozen tensors, ...).
    """

    checkpoint: str
    model: str
    data: str
    loss: str
    num_parameters: int
    num_examples: int
    num_batches: int
    total_weight: float
    loss_value: float
    gradient_norm: float
    accuracy: float | None = None
    rmse: float | None = None
    target_std: float | None = None
    weight_decay: float = 0.0
    train_mode: bool = False
    notes: Sequence[str] = ()
