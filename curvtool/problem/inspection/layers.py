"""What the first and the last layer say of inputs and outputs; in the file's order, so a guess."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

_RECURRENT = re.compile(r"(^|\.)weight_ih_l0$")
_EMBEDDING = re.compile(r"(^|[._])(wte|tok|token|word|embed|emb|vocab)\w*[._]", re.IGNORECASE)
_POSITION = re.compile(r"(pos|wpe|type)", re.IGNORECASE)
_IMAGES = {3: "(N, {0}, L)", 4: "(N, {0}, H, W)", 5: "(N, {0}, T, H, W)"}


@dataclass(frozen=True)
class Ends:
    """Both ends of a model.

    Attributes:
        inputs: a sentence, or empty.
        outputs: numbers that the last layer gives, where that is a layer.
        tokens: the size of the vocabulary, where the first layer is an embedding.
        last: the name of the last layer's weight.
    """

    inputs: str
    outputs: int | None
    tokens: int | None = None
    last: str = ""


def ends_of(tensors: Mapping[str, Tensor]) -> Ends:
    """Guess what goes in and what comes out.

    Args:
        tensors: of the checkpoint, in its order.

    Returns:
        The guess.
    """
    layers = {name: t for name, t in tensors.items() if t.ndim >= 2 and _is_weight(name)}
    if not layers:
        return Ends("", None)
    inputs, tokens = _inputs(layers, tensors)
    last = [name for name, t in layers.items() if "weight_hh" not in name and t.ndim in {2, 4}]
    name = last[-1] if last else ""
    return Ends(inputs, int(layers[name].shape[0]) if name else None, tokens, name)


def _is_weight(name: str) -> bool:
    return name.endswith(("weight", "weight_v", "kernel", "original1", "weight_orig")) or bool(
        _RECURRENT.search(name)
    )


def _bias(name: str) -> str:
    """Of a linear layer; an embedding has none."""
    return name.removesuffix("weight") + "bias"


def _inputs(layers: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> tuple[str, int | None]:
    for name, t in layers.items():
        if _POSITION.search(name):
            continue
        if _RECURRENT.search(name):
            return f"sequences of {t.shape[1]} numbers, by {name}", None
        if t.ndim in _IMAGES:
            shape = _IMAGES[t.ndim].format(t.shape[1])
            return f"inputs of shape {shape}, by {name}", None
        if t.ndim == 2 and _EMBEDDING.search(name) and _bias(name) not in tensors:
            return f"whole numbers from 0 to {t.shape[0] - 1}, by {name}", int(t.shape[0])
        if t.ndim == 2:
            return f"{t.shape[1]} numbers an example, by {name}", None
    return "", None
