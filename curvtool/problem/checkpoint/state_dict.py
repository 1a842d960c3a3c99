"""Where in a loaded file the weights are, and the prefixes that wrappers put on their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from curvtool.errors import InputError
from curvtool.problem.wording import kind_of, listed

WRAPPERS = ("state_dict", "model", "model_state_dict", "model_state")
PREFIXES = ("module.", "_orig_mod.", "model.")


def find_state_dict(payload: object, path: Path) -> tuple[dict[str, Tensor], str, list[str]]:
    """Find the one dict of named tensors in what a checkpoint holds.

    Args:
        payload: what torch.load gave, without curvtool's own entry.
        path: the file, for messages.

    Returns:
        The tensors; where they were, for people; notes on what was left aside.

    Raises:
        InputError: where there is none, or more than one.
    """
    if not isinstance(payload, Mapping):
        raise InputError(
            f"{path}: expected a state dict (names to tensors), bare or under "
            f"{_quoted(WRAPPERS)}; got {kind_of(payload)}. Save it with "
            f'torch.save(model.state_dict(), "weights.pt").'
        )
    found = {
        key: value
        for key, value in payload.items()
        if key in WRAPPERS and isinstance(value, Mapping) and _tensors(value)
    }
    if any(isinstance(value, Tensor) for value in payload.values()):
        found["the top level"] = payload
    if len(found) > 1:
        described = listed(
            f'"{key}" ({len(_tensors(value))} tensors)' for key, value in found.items()
        )
        raise InputError(
            f"{path}: expected one state dict; got {len(found)}: {described}. Save the one you "
            f'mean alone: torch.save(checkpoint["{next(iter(found))}"], "weights.pt").'
        )
    if not found:
        raise InputError(_none_sentence(payload, path))
    where, values = next(iter(found.items()))
    aside = [str(key) for key, value in values.items() if not isinstance(value, Tensor)]
    notes = [f"entries of the state dict that are no tensors were left aside: {listed(aside)}"]
    where = where if where == "the top level" else f'"{where}"'
    return _tensors(values), where, notes if aside else []


def unprefixed(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The tensors as named, then without each prefix that all of them bear, stacked ones too.

    Args:
        tensors: names to tensors.

    Yields:
        What was taken off, and the tensors under the names that are left.
    """
    taken, named = "", dict(tensors)
    while named:
        yield taken, named
        prefix = next((p for p in PREFIXES if all(key.startswith(p) for key in named)), None)
        if prefix is None:
            return
        taken += prefix
        named = {key.removeprefix(prefix): value for key, value in named.items()}


def _tensors(values: Mapping[object, object]) -> dict[str, Tensor]:
    return {str(key): value for key, value in values.items() if isinstance(value, Tensor)}


def _none_sentence(payload: Mapping[object, object], path: Path) -> str:
    expected = f"{path}: expected a state dict, bare or under {_quoted(WRAPPERS)}"
    elsewhere = [
        str(key) for key, value in payload.items() if isinstance(value, Mapping) and _tensors(value)
    ]
    if elsewhere:
        return (
            f"{expected}; got tensors only under {_quoted(elsewhere)}. If they are the weights, "
            f'save them alone: torch.save(checkpoint["{elsewhere[0]}"], "weights.pt").'
        )
    holds = listed((f'"{key}" ({kind_of(value)})' for key, value in payload.items()), most=6)
    return (
        f"{expected}; got no tensors at all: the file holds {holds or 'an empty dict'}. Save the "
        f'weights with torch.save(model.state_dict(), "weights.pt").'
    )


def _quoted(words: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f'"{word}"' for word in words[:6])
