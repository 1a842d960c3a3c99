"""`key=value` of the command line, its value read as TOML reads one."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence

from curvtool.errors import UsageError


def parse_key_values(pairs: Sequence[str], *, option: str = "--model-kwargs") -> dict[str, object]:
    """Read `width=64 relu=true name="a b" sizes=[64,10] root=data` into a dict.

    Args:
        pairs: the words, each `key=value`; of a repeated key the last wins.
        option: the option that they came from, for messages.

    Returns:
        Values as TOML knows them: numbers, true and false, quoted strings, arrays, inline
        tables; any other text, and dates, stay strings.

    Raises:
        UsageError: for a word without `=`, a key that no Python argument can have, or a quote
            or bracket that is never closed.
    """
    values: dict[str, object] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        key = key.strip()
        if not equals or not key.isidentifier():
            raise UsageError(
                f"{option} expects key=value, with the name of an argument as key; got {pair!r}. "
                f"Write for example {option} width=64."
            )
        values[key] = _value(text.strip(), pair, option)
    return values


def _value(text: str, pair: str, option: str) -> object:
    if "\n" in text:
        return text
    try:
        value: object = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        if text[:1] in {'"', "'", "[", "{"}:
            raise UsageError(
                f"{option} expects a TOML value after the =; got {pair!r}, which is not closed or "
                f"not well formed. Write for example {option} 'sizes=[64, 10]' or 'name=\"a b\"', "
                f"in quotes that your shell keeps."
            ) from None
        return text
    return value if isinstance(value, bool | int | float | str | list | dict) else text
