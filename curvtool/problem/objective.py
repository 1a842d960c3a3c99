"""The function whose curvature is asked for: a weighted dataset mean over flat parameters.

Letters: P parameters, B batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from curvtool.errors import InputError
from curvtool.problem.batch import Batch, Loss, LossValue
from curvtool.problem.calling import Calling, gradients
from curvtool.problem.copying import copied, has_float64
from curvtool.problem.coupling import coupling_notes
from curvtool.problem.cures import cured
from curvtool.problem.derivatives import missing_derivatives_named
from curvtool.problem.parameters import ParameterLayout, lay_out, unreached_note
from curvtool.problem.residency import Residency
from curvtool.problem.scores import Score
from curvtool.problem.stored import AnyBatch
from curvtool.problem.telling import telling_part
from curvtool.problem.twice import AttentionSeen, prepare_modules, twice_differentiable

_Result = TypeVar("_Result")


@final
@dataclass(frozen=True, eq=False)
class Evaluation:
    """The objective and its gradient at the checkpoint.

    Attributes:
        loss: the dataset mean, weight decay included.
        gradient_P: its gradient, shape (P,).
        batch_weights: each batch's share of the mean before division, shape (B,).
        score: right predictions, or the errors of real ones, where the loss counts them.
        uses_attention: whether the model called fused attention (now on the math kernel).
    """

    loss: float
    gradient_P: Tensor
    batch_weights: tuple[float, ...]
    score: Score
    uses_attention: bool


@final
class Objective:
    """Weighted mean of a loss over batches: sum_b w_b loss_b / sum_b w_b (+ W/2 |theta|^2).

    The batches' weights are read in the first `evaluate`, which costs one gradient and one
    vector of P numbers; the model stands in eval mode unless `train_mode`.

    Attributes:
        halvings: how often the batches were divided in two.
        places: of each batch among those of a dataset of which these are a part.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: Loss,
        batches: Sequence[AnyBatch],
        *,
        device: torch.device,
        dtype: torch.dtype,
        patterns: Sequence[str] = (),
        weight_decay: float = 0.0,
        train_mode: bool = False,
        keep_data_on_device: bool = True,
        places: Sequence[int] | None = None,
    ) -> None:
        self.places = tuple(range(len(batches)) if places is None else places)
        # Digits of the weights that float32 does not hold: for float64 twins.
        self._exact = copied(module) if dtype != torch.float64 and has_float64(module) else None
        self.module = cured(module).to(device=device, dtype=dtype).train(train_mode)
        self.loss = loss
        self.device = device
        self.dtype = dtype
        self.patterns = tuple(patterns)
        self.weight_decay = weight_decay
        self.train_mode = train_mode
        self.couples = train_mode or loss.couples  # whether batches may be no means over examples
        self.layout: ParameterLayout
        self.layout, self.parameters, self.notes = lay_out(self.module, patterns)
        self.notes += coupling_notes(loss, prepare_modules(self.module), batches)
        self._data = Residency(batches, device=device, dtype=dtype, keep=keep_data_on_device)
        self._weights: tuple[float, ...] | None = None
        self._total_weight = 0.0
        self._loss = 0.0
        self._twice = partial(twice_differentiable, dtype=dtype)
        self.halvings = 0

    @property
    def size(self) -> int:
        """P: the number of differentiated parameters."""
        return self.layout.size

    @property
    def num_batches(self) -> int:
        """B: the number of batches."""
        return len(self._data)

    @property
    def num_examples(self) -> int:
        """Examples in all batches."""
        return sum(b.examples for b in self._data.batches)

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
        if self._weights is None:
            self.evaluate()
        return self._total_weight

    @property
    def active(self) -> tuple[int, ...]:
        """Indices of the batches whose weight is not zero."""
        return tuple(i for i, w in enumerate(self.weights) if w > 0)

    @property
    def terms(self) -> tuple[tuple[int, ...], ...]:
        """Active batches by the batch of which they are parts: one each until they are halved."""
        parts: dict[int, list[int]] = {}
        for index in self.active:
            parts.setdefault(self._data.origins[index], []).append(index)
        return tuple(map(tuple, parts.values()))

    @property
    def batches_of_terms(self) -> tuple[int, ...]:
        """For each term the place of its batch in the dataset."""
        return tuple(self.places[self._data.origins[parts[0]]] for parts in self.terms)

    def batch(self, index: int) -> Batch:
        """Batch `index` on the device, floating-point tensors in the objective's dtype."""
        return self._data.batch(index)

    def examples(self, index: int) -> int:
        """Number of examples of batch `index`."""
        return self._data.batches[index].examples

    def share(self, index: int) -> float:
        """w_b / sum_b w_b: the batch's share of the dataset mean."""
        return self.weights[index] / self.total_weight

    def batch_loss(self, index: int) -> Tensor:
        """The batch's term of the dataset mean, w_b loss_b / sum_b w_b: a scalar with graph."""
        return self._forward(index) * self.share(index)

    def batch_gradient(self, index: int) -> tuple[Tensor, ...]:
        """Gradient of `batch_loss` with its graph, one tensor for each of the layout's.

        Returns:
            The tensors; one that does not depend on the parameters has no graph.

        Raises:
            PreflightError: where torch cannot differentiate the loss.
        """
        with self.missing_derivatives_named(index), self._twice():
            return gradients(self.batch_loss(index), self.parameters, create_graph=True)

    def batch_gradient_at(
        self, index: int, parameters: Sequence[Tensor], *, create_graph: bool = False
    ) -> tuple[Tensor, ...]:
        """`batch_gradient` with other tensors in the parameters' place, in the layout's order."""

        def gradient() -> tuple[Tensor, ...]:
            # Within the call, since activation checkpointing runs the model again on the way back.
            return gradients(self.batch_loss(index), parameters, create_graph=create_graph)

        return self.with_parameters(parameters, gradient)

    def batch_loss_at(self, index: int, parameters: Sequence[Tensor]) -> Tensor:
        """`batch_loss` with other tensors in the parameters' place, in the layout's order."""
        return self.with_parameters(parameters, partial(self.batch_loss, index))

    def with_parameters(self, parameters: Sequence[Tensor], run: Callable[[], _Result]) -> _Result:
        """Call `run` while other tensors stand in the parameters' place; no memory is written."""
        self.weights  # noqa: B018  # known before, since evaluating is not to be differentiated
        names = [f"module.{name}" for name in self.layout.names]
        replaced = dict(zip(names, parameters, strict=True))
        with self._twice():
            result: _Result = functional_call(Calling(self.module, run), replaced, ())
        return result

    def shapes(self, index: int) -> tuple[torch.Size, ...]:
        """Shapes of a batch's tensors: batches alike in these cost alike."""
        return self._data.batches[index].shapes

    def missing_derivatives_named(self, index: int) -> AbstractContextManager[None]:
        """Turn torch's errors about derivatives of a batch's loss into a `PreflightError`."""
        return missing_derivatives_named(self.module, lambda: self.batch_loss(index))

    def resident_tensors(self, index: int) -> tuple[Tensor, ...]:
        """What a batch's graph may refer to and that stays without it: the model's, the data."""
        own = (*self.module.parameters(), *self.module.buffers())
        return (*own, *self.batch(index).tensors) if self._data.stays(index) else own

    def theta(self) -> Tensor:
        """A copy of the parameters as one vector, shape (P,)."""
        return self.layout.join([p.detach() for p in self.parameters])

    def evaluate(self) -> Evaluation:
        """Loss, gradient and score of the whole dataset, as the loss's code has it.

        Labels are validated on the way.

        Returns:
            The evaluation. Costs one gradient over the dataset.

        Raises:
            InputError: when the loss or its gradient is not finite, a label is out of range, no
                batch has weight, or the loss depends on no parameter.
            PreflightError: where torch cannot differentiate the loss.
        """
        gradient_P = torch.zeros(self.size, dtype=self.dtype, device=self.device)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        weights: list[float] = []
        score = Score()
        attention = AttentionSeen()
        reached = [False] * len(self.parameters)
        for index in range(self.num_batches):
            with self._twice(rewritten=False):
                with attention:
                    value = self.loss(self.module, self.batch(index), score=True)
                weights.append(value.weight)
                if value.weight <= 0:
                    continue
                if value.mean.requires_grad:
                    with missing_derivatives_named(self.module, partial(self._forward, index)):
                        found = torch.autograd.grad(value.mean, self.parameters, allow_unused=True)
                    reached = [r or g is not None for r, g in zip(reached, found, strict=True)]
                    gradient_P.add_(self._joined(found), alpha=value.weight)
            total += value.mean.detach().to(torch.float64) * value.weight
            score = score.joined(value.score)
        denominator = sum(weights)
        if denominator <= 0:
            raise InputError(
                "No example has weight in this loss: every target is masked or weighted zero, so "
                "there is no mean to differentiate. Check ignore_index, masks and class weights."
            )
        self._note_unreached(reached)
        self._weights, self._total_weight = tuple(weights), denominator
        gradient_P /= denominator
        loss = self._loss = float(total) / denominator
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
            score=score,
            uses_attention=attention.seen,
        )

    def _forward(self, index: int) -> Tensor:
        return self._value(self.batch(index)).mean

    def _value(self, batch: Batch) -> LossValue:
        with self._twice():
            return self.loss(self.module, batch)

    def _joined(self, gradients: Sequence[Tensor | None]) -> Tensor:
        return self.layout.join([
            torch.zeros_like(p) if g is None else g
            for p, g in zip(self.parameters, gradients, strict=True)
        ])

    def _note_unreached(self, reached: Sequence[bool]) -> None:
        """Say once which parameters the loss does not depend on; their rows of H are zero."""
        if not any(reached):
            raise InputError(
                "The loss does not depend on the differentiated parameters: it came back without a "
                "graph. Check that the model is not called under no_grad and that --params names "
                "parameters the loss reaches."
            )
        names = [name for name, r in zip(self.layout.names, reached, strict=True) if not r]
        note = unreached_note(names)
        if names and note not in self.notes:
            self.notes.append(note)

    def gradient_at(self, theta_P: Tensor) -> Tensor:
        """Gradient of the dataset mean at other parameters, shape (P,)."""
        # The module is left alone: writing into its parameters would invalidate every graph that
        # is kept of it.
        gradient_P = theta_P * self.weight_decay
        for index in self.active:
            pieces = [t.clone().requires_grad_() for t in self.layout.split(theta_P)]
            gradient_P += self.layout.join(self.batch_gradient_at(index, pieces))
        return gradient_P

    def halve_batches(self) -> bool:
        """Divide every batch in two, so that a product needs half the memory; H stays the same.

        Returns:
            False, and nothing changed, where no batch can be divided, or where the loss couples a
            batch's examples, so that its halves are another loss. Costs two forward passes.
        """
        halved = self._data.halved()
        if halved is None:
            return False
        weights, total = self._weighed(halved)
        whole_weights, whole_total = self._weighed(self._data)
        # Sums round by eps of their size for every example or so.
        allowed = 1e3 * torch.finfo(self.dtype).eps
        weight, whole_weight = sum(weights), sum(whole_weights)
        if (
            abs(total - whole_total) > allowed * (abs(total) + abs(whole_total))
            or abs(weight - whole_weight) > allowed * whole_weight
        ):
            return False
        self._data = halved
        self.halvings += 1
        if self._weights is not None:
            self._weights = tuple(weights)
        return True

    def weigh(self) -> None:
        """Read the batches' weights by forward passes alone, a third of `evaluate`."""
        weights, _ = self._weighed(self._data)
        self._weights, self._total_weight = tuple(weights), sum(weights)

    def _weighed(self, data: Residency) -> tuple[list[float], float]:
        """Weights of batches, and the weighted sum of their losses."""
        weights, total = [], 0.0
        for index in range(len(data)):
            with self._twice(), torch.no_grad():
                value = self.loss(self.module, data.batch(index))
            weights.append(value.weight)
            total += value.weight * float(value.mean) if value.weight > 0 else 0.0
        return weights, total

    def sample(self, examples: int | None, *, dtype: torch.dtype | None = None) -> Objective:
        """The objective on a few examples of the first batch that it depends on.

        Args:
            examples: at most so many; None for all batches, in the digits that they came with.
            dtype: of the sample; the objective's own by default.

        Returns:
            An objective of one batch, or all. In another dtype it has a copy of the model.
        """
        if examples:
            return self.of_batches([self._few(examples)], dtype=dtype)
        origins = sorted({self._data.origins[i] for i in self.active})
        given = [self._data.given[i] for i in origins]
        return self.of_batches(given, dtype=dtype, keep_data_on_device=False)

    def of_batches(
        self,
        batches: Sequence[AnyBatch],
        *,
        dtype: torch.dtype | None = None,
        keep_data_on_device: bool = True,
    ) -> Objective:
        """The same objective over other batches; in another dtype it has a copy of the model."""
        dtype = dtype or self.dtype
        return Objective(
            self.module if dtype == self.dtype else copied(self._exact or self.module),
            self.loss,
            batches,
            device=self.device,
            dtype=dtype,
            patterns=self.patterns,
            weight_decay=self.weight_decay,
            train_mode=self.train_mode,
            keep_data_on_device=keep_data_on_device,
        )

    def _few(self, most: int) -> Batch:
        """The first examples that the mean depends on, and that are not fitted all too well."""
        first = (self.batch(index) for index in self.active)
        part = telling_part(first, self._value, most=most, size=self._loss)
        return self.batch(self.active[0]) if part is None else part
