"""Whether weights are those of a built-in architecture: told by names and shapes, then built."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
from torch import Tensor

from curvtool.problem.inspection.guess import (
    TODO,
    ModelGuess,
    Told,
    meta_tensors,
    on_meta,
    rows_that_misfit,
)
from curvtool.problem.models import BUILTIN_MODELS
from curvtool.problem.models.parts import ACTIVATIONS

_Kwargs = dict[str, object]
_ACTIVATION = f"one of {', '.join(sorted(ACTIVATIONS))}"


def builtin_guess(tensors: Mapping[str, Tensor], told: Told) -> ModelGuess | None:
    """Name the built-in architecture that has exactly these tensors.

    Args:
        tensors: of the checkpoint.
        told: values beside them.

    Returns:
        The architecture with the arguments that its shapes tell; None where none fits.
    """
    for name, read in _READERS.items():
        named = _from(tensors, _FIRST[name])
        kwargs = None if named is None else read(named)
        if named is None or kwargs is None:
            continue
        stand_in = {key: _STAND_IN[key] if v == TODO else v for key, v in kwargs.items()}
        try:
            with on_meta():
                model = BUILTIN_MODELS[name](**stand_in)
        except (ValueError, TypeError):
            continue
        if rows_that_misfit(meta_tensors(model), named):
            continue
        return _guess(name, kwargs, told)
    return None


def _guess(name: str, kwargs: _Kwargs, told: Told) -> ModelGuess:
    why = [f"All names and shapes are those of the built-in {name} with these arguments."]
    todo: dict[str, str] = {}
    for key in [key for key, value in kwargs.items() if value == TODO]:
        found = told.value(*_ALIASES.get(key, (key,)))
        if found is not None and _VALID[key](found[0]):
            kwargs[key] = found[0]
            why.append(f"{key} is from {found[1]} in the checkpoint.")
        else:
            todo[key] = f"the weights do not tell it; {_CHOICES[key]}"
    loss = {"cnn": "cross_entropy", "gpt": "cross_entropy"}.get(name)
    return ModelGuess(name, kwargs, tuple(why), todo, loss=loss)


def _from(tensors: Mapping[str, Tensor], first: str) -> dict[str, Tensor] | None:
    """Tensors below the prefix that stands before a name, or None where the name is not there."""
    for key in tensors:
        if key == first or key.endswith(f".{first}"):
            prefix = key.removesuffix(first)
            return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
    return None


def _mlp(tensors: Mapping[str, Tensor]) -> _Kwargs | None:
    weights: list[Tensor] = []
    while (weight := tensors.get(f"layers.{len(weights)}.weight")) is not None:
        weights.append(weight)
    if any(w.ndim != 2 for w in weights) or any(
        b.shape[1] != a.shape[0] for a, b in pairwise(weights)
    ):
        return None
    sizes = [int(weights[0].shape[1]), *(int(w.shape[0]) for w in weights)]
    kwargs: _Kwargs = {"sizes": sizes}
    if len(weights) > 1:
        kwargs["activation"] = TODO
    if "layers.0.bias" not in tensors:
        kwargs["bias"] = False
    return kwargs


def _cnn(tensors: Mapping[str, Tensor]) -> _Kwargs | None:
    kernels: list[Tensor] = []
    while (kernel := tensors.get(f"blocks.{len(kernels)}.conv.weight")) is not None:
        kernels.append(kernel)
    head = tensors.get("head.weight")
    if head is None or any(k.ndim != 4 for k in kernels):
        return None
    norm = "none"
    if "blocks.0.norm.weight" in tensors:
        norm = "batch" if "blocks.0.norm.running_mean" in tensors else "group"
    kwargs: _Kwargs = {
        "in_channels": int(kernels[0].shape[1]),
        "channels": [int(k.shape[0]) for k in kernels],
        "classes": int(head.shape[0]),
        "kernel_size": int(kernels[0].shape[-1]),
        "norm": norm,
        "activation": TODO,
    }
    if norm == "group":
        kwargs["groups"] = TODO
    if len(kernels) > 1:
        kwargs["pool"] = TODO
    return kwargs


def _gpt(tensors: Mapping[str, Tensor]) -> _Kwargs | None:
    tokens, places = (tensors.get(f"{n}_embedding.weight") for n in ("token", "position"))
    expand = tensors.get("blocks.0.mlp.expand.weight")
    if tokens is None or places is None or expand is None or tokens.ndim != 2:
        return None
    layers = {m.group(1) for key in tensors if (m := re.match(r"blocks\.(\d+)\.", key))}
    width = int(tokens.shape[1])
    head = tensors.get("head.weight")
    return {
        "vocab_size": int(tokens.shape[0]),
        "context": int(places.shape[0]),
        "width": width,
        "layers": len(layers),
        "heads": TODO,
        "mlp_ratio": max(1, int(expand.shape[0]) // max(1, width)),
        "activation": TODO,
        "tied": head is None or (head.shape == tokens.shape and bool(torch.equal(head, tokens))),
        "bias": "final_norm.bias" in tensors,
    }


_READERS: dict[str, Callable[[Mapping[str, Tensor]], _Kwargs | None]] = {
    "mlp": _mlp,
    "cnn": _cnn,
    "gpt": _gpt,
}
_FIRST = {
    "mlp": "layers.0.weight",
    "cnn": "blocks.0.conv.weight",
    "gpt": "token_embedding.weight",
}
# No shape depends on these; what `group` norms take divides any number of channels.
_STAND_IN: _Kwargs = {"activation": "relu", "pool": "max", "groups": 1, "heads": 1}
_ALIASES = {
    "heads": ("heads", "n_heads", "n_head", "num_heads", "num_attention_heads"),
    "activation": ("activation", "act", "nonlinearity"),
}
_CHOICES = {
    "activation": _ACTIVATION,
    "pool": "one of max, avg, none",
    "groups": "a number that divides all channels",
    "heads": "a number that divides the width",
}


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


_VALID: dict[str, Callable[[object], bool]] = {
    "activation": lambda value: isinstance(value, str) and value in ACTIVATIONS,
    "pool": lambda value: value in {"max", "avg", "none"},
    "groups": _is_count,
    "heads": _is_count,
}
