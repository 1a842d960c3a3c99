"""Small pieces of sentences that every message of this room is made of."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping

from torch import Tensor


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """' Did you mean "mlp"?' where a choice is near to `word`, else the empty string."""
    by_lower = {choice.lower(): choice for choice in reversed(list(choices))}
    near = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.6)
    return f' Did you mean "{by_lower[near[0]]}"?' if near else ""


def listed(words: Iterable[str], *, most: int = 12) -> str:
    """'a, b and 3 more', with at most `most` words spelled out."""
    all_words = list(words)
    rest = len(all_words) - most
    shown = ", ".join(all_words[:most])
    return f"{shown} and {rest} more" if rest > 0 else shown


def shape_of(tensor: Tensor) -> str:
    """'float32 of shape (64, 10)'."""
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"


def kind_of(value: object) -> str:
    """The type of `value` as a reader of Python knows it, with the shape of a tensor."""
    if isinstance(value, Tensor):
        return f"a tensor, {shape_of(value)}"
    kind = type(value)
    name = kind.__qualname__
    if kind.__module__ != "builtins":
        name = f"{kind.__module__}.{name}"
    if isinstance(value, list | tuple | dict):
        return f"{name} of {len(value)}"
    return name


def first_line(error: BaseException, *, most: int = 300) -> str:
    """The first line of what `error` says, or its type where it says nothing."""
    text = str(error).strip()
    line = text.splitlines()[0] if text else type(error).__name__
    return line if len(line) <= most else line[: most - 3] + "..."


def misfit_of_kwargs(
    function: Callable[..., object], kwargs: Mapping[str, object], *, positional: int = 0
) -> str | None:
    """A sentence on why `function` cannot be called with `kwargs`, or None where it can be.

    Args:
        function: the builder or hook.
        kwargs: what it is to be called with.
        positional: how many of its arguments come before and are given otherwise.

    Returns:
        The argument that is unknown or missing, with the nearest known one.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())[positional:]
    except (TypeError, ValueError):  # some functions written in C show no signature
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        known = None
    else:
        known = [p.name for p in parameters if p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY}]
    for name in kwargs:
        if known is not None and name not in known:
            takes = f"it takes {listed(known)}" if known else "it takes none"
            return f'it has no argument "{name}"; {takes}.{did_you_mean(name, known)}'
    for p in parameters:
        needed = p.default is p.empty and p.kind not in {p.VAR_KEYWORD, p.VAR_POSITIONAL}
        if needed and p.name not in kwargs:
            return f'its argument "{p.name}" is missing.'
    return None


def in_bytes(number: int) -> str:
    """Bytes in the largest unit that they fill: a small limit is not 0.00 GiB."""
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if number >= 2**power:
            return f"{number / 2**power:.1f} {unit}"
    return f"{number:,} B"
