"""The contrastive loss within a batch (InfoNCE, CLIP): each example against all others of it.

It is no mean over examples: with other batches it is another function, and has another Hessian.

Letters: N examples of a batch, D width of an embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from curvtool.errors import InputError
from curvtool.problem.batch import NOTHING, Batch, LossValue
from curvtool.problem.losses.calling import called
from curvtool.problem.losses.outputs import chosen_output, tensors_of
from curvtool.problem.losses.parts import require_finite
from curvtool.problem.losses.taking import Setting, taken_apart
from curvtool.problem.scores import Score
from curvtool.problem.wording import did_you_mean, listed, shape_of


@dataclass(frozen=True)
class Contrast:
    """How two embeddings of the same examples are compared.

    Attributes:
        temperature: what similarities are divided by.
        scale: name of a parameter whose exponential they are multiplied by, instead.
        symmetric: whether rows and columns both are asked, or rows alone.
        normalize: whether embeddings are brought to length 1 first.
        outputs: the two of them, by the names of the model's outputs.
    """

    temperature: float | None
    scale: str | None
    symmetric: bool
    normalize: bool
    outputs: tuple[str, str] | None


def contrastive(
    *,
    temperature: float | None = None,
    scale: str | None = None,
    symmetric: bool = True,
    normalize: bool = True,
    outputs: list[str] | None = None,
) -> Contrast:
    """Cross-entropy of similarities of two embeddings, each example its own class.

    The model is called with all entries of a batch and returns both embeddings.

    Args:
        temperature: similarities are divided by it.
        scale: name of a parameter (or buffer) of the model, e.g. "logit_scale": similarities are
            multiplied by its exponential. Without both, the model's third output is the factor.
        symmetric: the mean of both directions; else from the first to the second alone.
        normalize: embeddings are divided by their norms.
        outputs: names of the two among the model's outputs; by default the only two of shape
            (N, D).

    Returns:
        The settings.

    Raises:
        InputError: for values that cannot be.
    """
    is_number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
    if temperature is not None and not (is_number and 0 < temperature < float("inf")):
        raise InputError(
            f"contrastive expected temperature as a positive number; got {temperature!r}. Write "
            f"for example temperature = 0.07, as in training."
        )
    if temperature is not None and scale is not None:
        raise InputError(
            f"contrastive expected temperature or scale; got both ({temperature} and {scale!r}). "
            f"Leave one out."
        )
    two = isinstance(outputs, list) and len(outputs) == 2 and len({*map(str, outputs)}) == 2
    if outputs is not None and not two:
        raise InputError(
            f"contrastive expected outputs as a list of two names; got {outputs!r}. Write for "
            f'example outputs = ["image_embeds", "text_embeds"].'
        )
    pair = None if outputs is None else (str(outputs[0]), str(outputs[1]))
    return Contrast(temperature, scale, symmetric, normalize, pair)


@dataclass(frozen=True, eq=False)
class ContrastiveLoss:
    """A `Loss` of two embeddings; its weight is the batch's examples."""

    name: str
    contrast: Contrast
    setting: Setting
    couples: bool = True

    def __call__(self, model: nn.Module, batch: Batch, *, score: bool = False) -> LossValue:
        """The batch's mean loss.

        Args:
            model: run once.
            batch: all its entries are inputs, but for a named target.
            score: explain what does not fit, and count examples that are nearest to themselves.

        Returns:
            Mean, weight and the counts.

        Raises:
            InputError: for outputs that are no two embeddings.
        """
        taken = taken_apart(batch, model, loss=self.name, setting=self.setting, target=False)
        returned = called(model, taken, self.setting, explain=score)
        first_ND, second_ND = self._embeddings(returned)
        factor = self._factor(model, returned)
        if self.contrast.normalize:
            first_ND, second_ND = (_unit_rows(t) for t in (first_ND, second_ND))
        similar_NN = factor * (first_ND @ second_ND.T)
        own_N = torch.arange(len(similar_NN), device=similar_NN.device)
        mean = F.cross_entropy(similar_NN, own_N)
        if self.contrast.symmetric:
            mean = (mean + F.cross_entropy(similar_NN.T, own_N)) / 2
        weight = float(len(own_N))
        counts = NOTHING
        if score:
            require_finite(self.name, mean, similar_NN, weight)
            counts = Score(int((similar_NN.argmax(1) == own_N).sum()), len(own_N))
        return LossValue(mean, weight, counts)

    def _embeddings(self, returned: object) -> tuple[Tensor, Tensor]:
        names = self.contrast.outputs
        there = tensors_of(returned)
        if names is None:
            flat = [name for name, t in there.items() if t.ndim == 2 and not _is_square(t, there)]
            if len(flat) != 2:
                shown = listed(f"{name} ({shape_of(t)})" for name, t in there.items())
                raise InputError(
                    f"{self.name} expected {self.setting.model} to return two embeddings of shape "
                    f"(examples, width); among {shown or 'its outputs'} there are {len(flat)}. "
                    f'Name them: --loss-kwargs \'outputs=["first", "second"]\'.'
                )
            names = (flat[0], flat[1])
        pair = [
            chosen_output(returned, name, loss=self.name, model=self.setting.model)
            for name in names
        ]
        if pair[0].ndim != 2 or pair[0].shape != pair[1].shape:
            raise InputError(
                f"{self.name} expected two embeddings of one shape (examples, width); got "
                f"{names[0]} of {shape_of(pair[0])} and {names[1]} of {shape_of(pair[1])}. Name "
                f'others: --loss-kwargs \'outputs=["first", "second"]\'.'
            )
        return pair[0], pair[1]

    def _factor(self, model: nn.Module, returned: object) -> Tensor | float:
        c = self.contrast
        if c.temperature is not None:
            return 1 / c.temperature
        if c.scale is None:
            single = [t for t in tensors_of(returned).values() if t.numel() == 1 and t.ndim < 2]
            if len(single) == 1:
                return single[0].reshape(())
            raise InputError(
                f"{self.name} expected to be told what similarities are divided by; neither a "
                f"temperature nor a scale is given, and {self.setting.model} returns no number. "
                f'Write temperature = 0.07 or scale = "logit_scale" in kwargs under [loss].'
            )
        scales = {name: t for name, t in _numbers_of(model) if t.numel() == 1}
        if c.scale not in scales:
            raise InputError(
                f"{self.name} expected a parameter {c.scale!r} that is one number; the model has "
                f"{listed(scales) or 'none'}.{did_you_mean(c.scale, scales)} Correct scale in "
                f"kwargs under [loss]."
            )
        return scales[c.scale].exp().reshape(())


def _is_square(t: Tensor, there: dict[str, Tensor]) -> bool:
    """Whether it may be the similarities themselves, beside embeddings."""
    wide = [other for other in there.values() if other.ndim == 2]
    return len(wide) > 2 and t.shape[0] == t.shape[1]


def _unit_rows(t_ND: Tensor) -> Tensor:
    norms_N1: Tensor = torch.linalg.vector_norm(t_ND, dim=-1, keepdim=True)
    return t_ND / norms_N1


def _numbers_of(model: nn.Module) -> list[tuple[str, Tensor]]:
    return [*model.named_parameters(), *model.named_buffers()]
