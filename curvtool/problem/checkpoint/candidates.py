"""Where in a loaded file weights may be: every dict of named tensors, found without trusting it.

What a hostile file holds may refer to itself, or to one part from many places: each mapping is
visited once, and the places are counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from curvtool.errors import InputError
from curvtool.problem.checkpoint.content import Candidate
from curvtool.problem.wording import kind_of, listed

# Places where the weights of the trained model commonly are, the likeliest first.
WRAPPERS = ("state_dict", "model", "model_state_dict", "model_state", "module")
_AVERAGES = ("ema", "swa", "average", "averaged", "shadow", "polyak")
_NO_WEIGHTS = ("optim", "lr_scheduler", "scheduler", "scaler", "rng", "callbacks", "loops")
_MOST_PLACES = 10_000
_MOST_DEPTH = 16
# Tensors of a file may share memory (tied weights) or repeat it (an expanded mask); what unfolds
# beyond this many times the file's size is no network.
_MOST_UNFOLDED = 16


def find_candidates(payload: object, path: Path) -> tuple[Candidate, ...]:
    """Find every dict of named tensors in what a checkpoint holds.

    Args:
        payload: what the format's reader gave, without curvtool's own entry.
        path: the file, for messages.

    Returns:
        The candidates, at least one: those in the common places first, then in the file's order.

    Raises:
        InputError: where there is none, or where the contents unfold beyond measure.
    """
    if not isinstance(payload, Mapping):
        raise InputError(
            f"{path}: expected a state dict (names to tensors), bare or under "
            f"{quoted(WRAPPERS)}; got {kind_of(payload)}. Save it with "
            f'torch.save(model.state_dict(), "weights.pt").'
        )
    found = [
        Candidate(
            ".".join(place),
            _tensors(values),
            is_average=any(_is_average(name) for name in place),
            notes=_aside(values, place),
        )
        for place, values in _mappings(payload, path)
        if _tensors(values)
    ]
    if not found:
        raise InputError(_none_sentence(payload, path))
    return tuple(sorted(found, key=_rank))


def require_folded(candidate: Candidate, path: Path, size: int) -> None:
    """Refuse tensors that are far larger than the file: views that repeat a few numbers.

    Args:
        candidate: of the file.
        path: the file, for the message.
        size: bytes of all files that were read.

    Raises:
        InputError: where they are.
    """
    strided = [t for t in candidate.tensors.values() if t.layout is torch.strided]
    unfolded = sum(t.numel() * t.element_size() for t in strided if not t.is_meta)
    if unfolded > _MOST_UNFOLDED * size + 2**20:
        raise InputError(
            f"{path}: expected tensors of about the file's size; those under {candidate.where} "
            f"unfold to {unfolded:,} bytes from {size:,}. No training writes such a file; get the "
            f"checkpoint again from where it comes from."
        )


def quoted(words: tuple[str, ...] | list[str]) -> str:
    """The first words, each in quotation marks."""
    return ", ".join(f'"{word}"' for word in words[:6])


def _mappings(
    payload: Mapping[object, object], path: Path
) -> Iterator[tuple[tuple[str, ...], Mapping[object, object]]]:
    """Each mapping with string keys and the way to it, outer ones first; an optimizer's not."""
    seen = {id(payload)}
    waiting: list[tuple[tuple[str, ...], Mapping[object, object]]] = [((), payload)]
    while waiting:
        place, values = waiting.pop(0)
        yield place, values
        for key, value in values.items():
            if not isinstance(value, Mapping) or id(value) in seen or not isinstance(key, str):
                continue
            if len(place) >= _MOST_DEPTH or key.lower().startswith(_NO_WEIGHTS):
                continue
            seen.add(id(value))
            if len(seen) > _MOST_PLACES:
                raise InputError(
                    f"{path}: expected a few dicts of tensors; the file holds more than "
                    f"{_MOST_PLACES:,} dicts in one another. Save the weights alone: "
                    f'torch.save(model.state_dict(), "weights.pt").'
                )
            waiting.append(((*place, key), value))


def _is_average(name: str) -> bool:
    words = name.lower().replace(".", "_").replace("-", "_").split("_")
    return any(word in _AVERAGES for word in words)


def _rank(candidate: Candidate) -> tuple[bool, int]:
    known = candidate.key in WRAPPERS
    place = WRAPPERS.index(candidate.key) if known else len(WRAPPERS)
    return candidate.is_average, -1 if candidate.key == "" else place


def _tensors(values: Mapping[object, object]) -> dict[str, Tensor]:
    return {str(key): value for key, value in values.items() if isinstance(value, Tensor)}


def _aside(values: Mapping[object, object], place: tuple[str, ...]) -> tuple[str, ...]:
    aside = [
        str(key)
        for key, value in values.items()
        if not isinstance(value, Tensor) and not (not place and isinstance(value, Mapping))
    ]
    if not aside:
        return ()
    return (f"entries of the state dict that are no tensors were left aside: {listed(aside)}",)


def _none_sentence(payload: Mapping[object, object], path: Path) -> str:
    holds = listed((f'"{key}" ({kind_of(value)})' for key, value in payload.items()), most=6)
    return (
        f"{path}: expected a state dict, bare or under {quoted(WRAPPERS)}; got no tensors at all: "
        f"the file holds {holds or 'an empty dict'}. Save the weights with "
        f'torch.save(model.state_dict(), "weights.pt").'
    )
