r"""JSON text in attributes: strict, and the same values come back.

JSON has no NaN and no infinities, and Python's default writes words for them that other
readers refuse. Here they become `{"$float": "nan"}`, which nothing else can become: a key that
starts with `$` gets a second one. Text is ASCII, since HDF5 ends strings at a NUL and file
names may hold bytes that are no UTF-8; `\u` escapes carry both.
"""

from __future__ import annotations

import datetime
import enum
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

_FLOAT = "$float"


def dumps(value: Any) -> str:
    """Write `value` as strict ASCII JSON.

    Args:
        value: of numbers, strings, booleans, None, mappings with string keys, sequences, numpy
            numbers and arrays, paths, dates and enums. Tuples and arrays come back as lists;
            paths and dates as strings, enums as their values.

    Returns:
        One line of JSON.

    Raises:
        TypeError: for anything else, and for keys that are not strings.
    """
    return json.dumps(_encoded(value), allow_nan=False)


def loads(text: str) -> Any:
    """Read what `dumps` wrote.

    Args:
        text: strict JSON.

    Returns:
        The value, non-finite numbers included.

    Raises:
        ValueError: for text that is no strict JSON.
    """
    return _decoded(json.loads(text, parse_constant=_refuse_constant))


def _encoded(value: Any) -> Any:
    if isinstance(value, enum.Enum):  # before int: an IntEnum is both
        return _encoded(value.value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {_FLOAT: repr(float(value))}
    if isinstance(value, np.generic):
        return _encoded(value.item())
    if isinstance(value, np.ndarray):
        return _encoded(value.tolist())
    if isinstance(value, (PurePath, datetime.date, datetime.time)):  # TOML knows dates
        return str(value)
    if isinstance(value, Mapping):
        return {_escaped(key): _encoded(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [_encoded(item) for item in value]
    raise TypeError(
        f"storage needs values that JSON can hold; {type(value).__name__} is none; convert it first"
    )


def _escaped(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"storage needs string keys for JSON; {key!r} is none; convert it first")
    return "$" + key if key.startswith("$") else key


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if isinstance(value, dict):
        if value.keys() == {_FLOAT}:
            return float(value[_FLOAT])
        return {
            key[1:] if key.startswith("$$") else key: _decoded(item) for key, item in value.items()
        }
    return value


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")
