"""Plain values that a checkpoint holds beside its weights: config, arguments, hyper-parameters.

They are data for people to read. Nothing is built of them, and what a hostile file repeats or nests
without end is cut off.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

_STATES = ("optim", "lr_scheduler", "scheduler", "scaler", "rng", "callbacks", "loops")
_MOST_VALUES = 200
_MOST_VISITED = 10_000
_MOST_DEPTH = 6
_MOST_TEXT = 200
_MOST_ITEMS = 32

Plain = str | int | float | bool


def plain_values(payload: object) -> dict[str, Plain | list[Plain]]:
    """Numbers, words and short lists of them, by their dotted place.

    Args:
        payload: what a format's reader gave.

    Returns:
        In the file's order, at most 200; states of optimizers are left out, long texts and long
        lists too.
    """
    found: dict[str, Plain | list[Plain]] = {}
    for place, value in _values(payload):
        if len(found) == _MOST_VALUES:
            break
        found[place] = value
    return found


def _values(payload: object) -> Iterator[tuple[str, Plain | list[Plain]]]:
    waiting: list[tuple[tuple[str, ...], object]] = [((), payload)]
    visited = 0
    while waiting and visited < _MOST_VISITED:
        place, value = waiting.pop()
        visited += 1
        if _is_plain(value):
            yield ".".join(place), value  # type: ignore[misc]
        elif isinstance(value, list | tuple):
            if value and len(value) <= _MOST_ITEMS and all(_is_plain(item) for item in value):
                yield ".".join(place), list(value)
        elif isinstance(value, Mapping) and len(place) < _MOST_DEPTH:
            if any(isinstance(item, Tensor) for item in value.values()) and place:
                continue
            inner = [
                ((*place, key), item)
                for key, item in value.items()
                if isinstance(key, str) and not key.lower().startswith(_STATES)
            ]
            waiting += reversed(inner[:_MOST_VISITED])


def _is_plain(value: object) -> bool:
    return type(value) in {int, float, bool} or (type(value) is str and len(value) <= _MOST_TEXT)
