"""Losses of language models: causal_lm (the next token) and masked_lm (those left out).

Both are cross-entropies whose mean is over tokens, so that a batch weighs its counted targets.
Letters: N examples, T tokens of an example.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from curvtool.errors import InputError
from curvtool.problem.losses.classes import named_cross_entropy
from curvtool.problem.losses.parts import Formula, HeadFormula
from curvtool.problem.losses.taking import Taken
from curvtool.problem.wording import shape_of

# As tokenizers call it: 1 where there is a token, 0 where there is padding.
USUAL_MASK = "attention_mask"


@dataclass(frozen=True)
class TokenFormula:
    """A cross-entropy over tokens, and how its labels come of a batch.

    Attributes:
        formula: of logits and labels.
        labels: of a batch taken apart; with True, labels that cannot be meant are refused.
        target: whether the batch has to have a target; None where it may.
    """

    formula: Formula | HeadFormula
    labels: Callable[[Taken, bool], Tensor]
    target: bool | None


def causal_lm(
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    mask: str | None = USUAL_MASK,
    head: str | None = None,
    chunk_tokens: int | None = None,
) -> TokenFormula:
    """Cross-entropy of the logits at each token against the token after it.

    Labels stand where their tokens stand, as transformers have it, and are shifted here; a batch
    without any is its own labels. (Targets that are shifted already belong to `cross_entropy`.)

    Args:
        ignore_index: labels with this value weigh nothing.
        label_smoothing: in [0, 1).
        mask: entry of dict batches, 0 at tokens that are no targets; read where it is there.
        head: as in `cross_entropy`.
        chunk_tokens: as in `cross_entropy`.

    Returns:
        The formula.
    """

    def labels(taken: Taken, check: bool) -> Tensor:
        tokens_NT = _tokens(taken, "causal_lm")
        labels_NT = tokens_NT if taken.target is None else taken.target
        if labels_NT.ndim != 2 or labels_NT.is_floating_point():
            raise InputError(
                f"causal_lm expected labels as whole numbers of shape (examples, tokens); got "
                f"{shape_of(labels_NT)}. Give the tokens themselves, or no target."
            )
        if check and taken.target is not None:
            _require_unshifted(tokens_NT, labels_NT, ignore_index)
        attended = taken.others.get(mask) if mask is not None else None
        if attended is not None:
            if attended.shape != labels_NT.shape:
                raise InputError(
                    f"causal_lm expected {mask} to be of the labels' shape "
                    f"{tuple(labels_NT.shape)}; got {shape_of(attended)}. Name the entry that "
                    f"marks padding: --loss-kwargs mask=NAME."
                )
            labels_NT = labels_NT.masked_fill(attended == 0, ignore_index)
        # As many labels as logits, for those may be flattened already: the last predicts nothing.
        last_N1 = torch.full_like(labels_NT[:, :1], ignore_index)
        return torch.cat([labels_NT[:, 1:], last_N1], dim=1)

    formula = named_cross_entropy(
        "causal_lm",
        label_smoothing=label_smoothing,
        ignore_index=ignore_index,
        class_axis="last",
        head=head,
        chunk_tokens=chunk_tokens,
    )
    return TokenFormula(formula, labels, target=None)


def masked_lm(
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    head: str | None = None,
    chunk_tokens: int | None = None,
) -> TokenFormula:
    """Cross-entropy of the logits at the masked tokens against what was there.

    Args:
        ignore_index: the label of all other tokens.
        label_smoothing: in [0, 1).
        head: as in `cross_entropy`.
        chunk_tokens: as in `cross_entropy`.

    Returns:
        The formula.
    """

    def labels(taken: Taken, check: bool) -> Tensor:
        assert taken.target is not None
        tokens = _tokens(taken, "masked_lm")
        if check and taken.target.shape == tokens.shape and bool((taken.target == tokens).all()):
            raise InputError(
                f"masked_lm expected labels of {ignore_index} at all tokens but the masked ones; "
                f"the labels are the input itself, so that nothing is left to predict. Mask tokens "
                f"of the input, and set the labels of all others to {ignore_index}."
            )
        return taken.target

    formula = named_cross_entropy(
        "masked_lm",
        label_smoothing=label_smoothing,
        ignore_index=ignore_index,
        class_axis="last",
        head=head,
        chunk_tokens=chunk_tokens,
    )
    return TokenFormula(formula, labels, target=True)


def _tokens(taken: Taken, name: str) -> Tensor:
    """The first input of two dimensions and whole numbers, else the first."""
    named = taken.named.get("input_ids")
    tokens = taken.inputs[0] if named is None else named
    if tokens.ndim < 2 or tokens.is_floating_point():
        raise InputError(
            f"{name} expected tokens as the first input, whole numbers of shape (examples, "
            f"tokens); got {shape_of(tokens)}. Correct the data, or inputs under [data]."
        )
    return tokens


def _require_unshifted(tokens_NT: Tensor, labels_NT: Tensor, ignore_index: int) -> None:
    """Refuse labels that are the next tokens already: shifted again, they would be silly."""
    if labels_NT.shape != tokens_NT.shape or labels_NT.shape[1] < 2:
        return
    now = (labels_NT == tokens_NT)[labels_NT != ignore_index]
    here_NT = labels_NT[:, :-1]
    ahead = (here_NT == tokens_NT[:, 1:])[here_NT != ignore_index]
    if len(ahead) and bool(ahead.all()) and not bool(now.all()):
        raise InputError(
            "causal_lm expected labels at the places of their tokens, which it shifts itself; "
            "the targets are shifted by one already. Use --loss cross_entropy with them, or leave "
            "the targets out."
        )
