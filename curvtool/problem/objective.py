"""The function whose curvature is asked for: a weighted dataset mean over flat parameters.

Letters: P parameters, B batches.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from curvtool.errors import InputError
from curvtool.problem.batch import Batch, BatchValues, Loss
from curvtool.problem.parameters import ParameterLayout, lay_out
from curvtool.problem.twice import AttentionSeen, protect_statistics, twice_differentiable


@final
@dataclass(frozen=True, eq=False)
class Evaluation:
    """The objective and its gradient at the checkpoint.

    Attributes:
        loss: the dataset mean, weight decay included.
        gradient_P: its gradient, shape (P,).
        batch_weights: each batch's share of the mean before division, shape (B,).
        accuracy: share of right predictions, None where the loss has no classes.
        uses_attention: whether the model called fused attention (now on the math kernel).
    """

    loss: float
    gradient_P: Tensor
    batch_weights: tuple[float, ...]
    accuracy: float | None
    uses_attention: bool


@final
class Objective:
    """Weighted mean of a loss over batches: sum_b w_b loss_b / sum_b w_b (+ W/2 |theta|^2).

    The batches' weights are read in the first `evaluate`, which costs one gradient and one
    vector of P numbers; the model stands in eval mode unless `train_mode`.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: Loss,
        batches: Sequence[Batch],
        *,
        device: torch.device,
        dtype: torch.dtype,
        patterns: Sequence[str] = (),
        weight_decay: float = 0.0,
        train_mode: bool = False,
        keep_data_on_device: bool = True,
    ) -> None:
        self.module = module.to(device=device, dtype=dtype).train(train_mode)
        self.loss = loss
        self.device = device
        self.dtype = dtype
        self.patterns = tuple(patterns)
        self.weight_decay = weight_decay
        self.train_mode = train_mode
        self.layout: ParameterLayout
        self.layout, self.parameters, self.notes = lay_out(self.module, patterns)
        coupled = protect_statistics(self.module)
        if coupled:
            self.notes.append(
                f"BatchNorm in train mode ({coupled[0]}{', ...' if len(coupled) > 1 else ''}) "
                "couples the examples of a batch: the batch size is part of this H."
            )
        self._batches = tuple(
            _moved(b, device, dtype) if keep_data_on_device else b for b in batches
        )
        self._resident = keep_data_on_device
        self._weights: tuple[float, ...] | None = None

    @property
    def size(self) -> int:
        """P: the number of differentiated parameters."""
        return self.layout.size

    @property
    def num_batches(self) -> int:
        """B: the number of batches."""
        return len(self._batches)

    @property
    def num_examples(self) -> int:
        """Examples in all batches."""
        return sum(b.examples for b in self._batches)

    @property
    def weights(self) -> tuple[float, ...]:
        """Weights of the batches, shape (B,); costs one gradient when not known yet."""
        if self._weights is None:
            self.evaluate()
        assert self._weights is not None
        return self._weights

    @property
    def total_weight(self) -> float:
        """Denominator of the dataset mean."""
        return sum(self.weights)

    @property
    def active(self) -> tuple[int, ...]:
        """Indices of the batches whose weight is not zero."""
        return tuple(i for i, w in enumerate(self.weights) if w > 0)

    def batch(self, index: int) -> Batch:
        """Batch `index` on the device, floating-point tensors in the objective's dtype."""
        batch = self._batches[index]
        return batch if self._resident else _moved(batch, self.device, self.dtype)

    def examples(self, index: int) -> int:
        """Number of examples of batch `index`."""
        return self._batches[index].examples

    def batch_loss(self, index: int) -> Tensor:
        """The batch's term of the dataset mean, w_b loss_b / sum_b w_b: a scalar with graph."""
        share = self.weights[index] / self.total_weight
        with twice_differentiable():
            return self.loss(self.module, self.batch(index)).mean * share

    def batch_loss_at(self, index: int, parameters: Sequence[Tensor]) -> Tensor:
        """`batch_loss` with other tensors in the place of the parameters, in the layout's order."""
        names = [f"module.{name}" for name in self.layout.names]
        share = self.weights[index] / self.total_weight
        with twice_differentiable():
            mean = functional_call(
                _BatchMean(self.module, self.loss),
                dict(zip(names, parameters, strict=True)),
                (self.batch(index),),
            )
        return mean * share

    def theta(self) -> Tensor:
        """A copy of the parameters as one vector, shape (P,)."""
        return self.layout.join([p.detach() for p in self.parameters])

    def evaluate(self) -> Evaluation:
        """Loss, gradient and score of the whole dataset; labels are validated on the way.

        Returns:
            The evaluation. Costs one gradient over the dataset.

        Raises:
            InputError: when the loss or its gradient is not finite, a label is out of range, or
                no batch has weight.
        """
        gradient_P = torch.zeros(self.size, dtype=self.dtype, device=self.device)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        weights: list[float] = []
        correct = counted = 0
        attention = AttentionSeen()
        for index in range(self.num_batches):
            with twice_differentiable(), attention:
                value = self.loss(self.module, self.batch(index), score=True)
            weights.append(value.weight)
            if value.weight <= 0:
                continue
            gradient = self._gradient(value.mean)
            gradient_P.add_(gradient, alpha=value.weight)
            total += value.mean.detach().to(torch.float64) * value.weight
            if value.correct is not None and value.counted is not None:
                correct, counted = correct + value.correct, counted + value.counted
        denominator = sum(weights)
        if denominator <= 0:
            raise InputError(
                "No example has weight in this loss: every target is masked or weighted zero, so "
                "there is no mean to differentiate. Check ignore_index, masks and class weights."
            )
        self._weights = tuple(weights)
        gradient_P /= denominator
        loss = float(total) / denominator
        if self.weight_decay:
            theta_P = self.theta()
            gradient_P.add_(theta_P, alpha=self.weight_decay)
            loss += 0.5 * self.weight_decay * float(theta_P.double().square().sum())
        if not (torch.isfinite(gradient_P).all() and torch.isfinite(torch.tensor(loss))):
            raise InputError(
                f"The loss at the checkpoint is {loss:g} and its gradient is not finite: curvature "
                "has no meaning there. Check the data's normalisation, or try --dtype float64."
            )
        return Evaluation(
            loss=loss,
            gradient_P=gradient_P,
            batch_weights=self._weights,
            accuracy=correct / counted if counted else None,
            uses_attention=attention.seen,
        )

    def _gradient(self, loss: Tensor) -> Tensor:
        if not loss.requires_grad:
            raise InputError(
                "The loss does not depend on the differentiated parameters: it came back without a "
                "graph. Check that the model is not called under no_grad and that --params names "
                "parameters the loss reaches."
            )
        gradients = torch.autograd.grad(loss, self.parameters, materialize_grads=True)
        return self.layout.join(gradients)

    def gradient_at(self, theta_P: Tensor) -> Tensor:
        """Gradient of the dataset mean at other parameters, shape (P,).

        The module is left alone: writing into its parameters would invalidate every graph that is
        kept of it.
        """
        gradient_P = theta_P * self.weight_decay
        for index in self.active:
            pieces = [t.clone().requires_grad_() for t in self.layout.split(theta_P)]
            loss = self.batch_loss_at(index, pieces)
            gradients = torch.autograd.grad(loss, pieces, materialize_grads=True)
            gradient_P += self.layout.join(gradients)
        return gradient_P

    def sample(self, examples: int, *, dtype: torch.dtype | None = None) -> Objective:
        """A copy of the model on the first examples of the first batch that has weight.

        Args:
            examples: at most so many.
            dtype: of the copy; the objective's own by default.

        Returns:
            An objective of one batch that shares nothing with this one.
        """
        first = next(self._batches[i] for i in self.active)
        return Objective(
            copy.deepcopy(self.module),
            self.loss,
            [_first_examples(first, examples)],
            device=self.device,
            dtype=dtype or self.dtype,
            patterns=self.patterns,
            weight_decay=self.weight_decay,
            train_mode=self.train_mode,
        )


class _BatchMean(nn.Module):
    """The loss as a module, so that its parameters can be replaced for one call."""

    def __init__(self, module: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.module = module
        self._loss = loss

    def forward(self, batch: Batch) -> Tensor:
        return self._loss(self.module, batch).mean


def _moved(batch: Batch, device: torch.device, dtype: torch.dtype) -> Batch:
    def move(t: Tensor) -> Tensor:
        return t.to(device=device, dtype=dtype if t.is_floating_point() else t.dtype)

    return Batch(_mapped(batch.values, move), batch.examples)


def _first_examples(batch: Batch, most: int) -> Batch:
    if batch.examples <= most:
        return batch

    def cut(t: Tensor) -> Tensor:
        return t[:most] if t.dim() and t.shape[0] == batch.examples else t

    return Batch(_mapped(batch.values, cut), most)


def _mapped(values: BatchValues, change: object) -> BatchValues:
    assert callable(change)
    if isinstance(values, Mapping):
        return {name: change(t) if isinstance(t, Tensor) else t for name, t in values.items()}
    return tuple(change(t) if isinstance(t, Tensor) else t for t in values)
