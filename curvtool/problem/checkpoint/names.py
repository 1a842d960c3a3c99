"""Names of tensors as the model has them: what wrappers put before and into them, taken off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

# Of torch.compile, FSDP and activation checkpointing, wherever they wrapped a part of the model.
_INFIXES = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
# Of torch.optim.swa_utils.AveragedModel, beside the averaged model.
_COUNTED = "n_averaged"
# TensorFlow's names of what torch calls weight and bias, in old files of transformers.
_OLD = ((".LayerNorm.gamma", ".LayerNorm.weight"), (".LayerNorm.beta", ".LayerNorm.bias"))

Variant = tuple[str, dict[str, Tensor]]


def best_variant(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> Variant:
    """The tensors under the names that have most in common with the model's.

    Args:
        expected: the model's tensors by name.
        tensors: the file's.

    Returns:
        What was taken off, and the tensors; as in the file where nothing is better.
    """
    variants = list(_variants(tensors)) or [("", {})]
    return max(variants, key=lambda variant: len(expected.keys() & variant[1].keys()))


def _variants(tensors: Mapping[str, Tensor]) -> Iterator[Variant]:
    yield from _unprefixed(tensors)
    for taken, named in _unprefixed(tensors):
        inner = {_bare(key): value for key, value in named.items()}
        if len(inner) == len(named) and inner.keys() != named.keys():
            yield taken, inner


def _unprefixed(tensors: Mapping[str, Tensor]) -> Iterator[Variant]:
    """The tensors as named, then without each prefix that all of them bear, one after another."""
    taken, named = "", dict(tensors)
    while named:
        yield taken, named
        if _COUNTED in named and len(named) > 1:
            named = {key: value for key, value in named.items() if key != _COUNTED}
        first, dot, _ = next(iter(named)).partition(".")
        prefix = first + dot
        if not dot or not all(key.startswith(prefix) for key in named):
            return
        taken += prefix
        named = {key.removeprefix(prefix): value for key, value in named.items()}


def _bare(name: str) -> str:
    for infix in _INFIXES:
        name = name.replace(infix, "")
    for old, new in _OLD:
        name = name.removesuffix(old) + new if name.endswith(old) else name
    return name
