from __future__ import annotations

import datetime
import enum
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curvtool.storage import strictjson

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def same(left: Any, right: Any) -> bool:
    """Equality where nan equals nan, and 1, 1.0 and True differ."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return left == right or (math.isnan(left) and math.isnan(right))
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return bool(left == right)


@given(VALUES)
def test_values_come_back(value: Any) -> None:
    assert same(strictjson.loads(strictjson.dumps(value)), value)


@given(VALUES)
def test_the_text_is_strict_ascii_json_on_one_line(value: Any) -> None:
    text = strictjson.dumps(value)
    json.loads(text, parse_constant=pytest.fail)
    assert text.isascii()
    assert text.isprintable()


@pytest.mark.parametrize("value", [{"$float": "nan"}, {"$$float": 1}, {"$": {"$float": 2}}, "NaN"])
def test_values_that_look_like_our_marks_come_back(value: Any) -> None:
    assert strictjson.loads(strictjson.dumps(value)) == value


def test_a_file_name_that_is_no_utf8_comes_back() -> None:
    name = b"caf\xe9.pt".decode("utf-8", "surrogateescape")
    assert strictjson.loads(strictjson.dumps(name)) == name


class Colour(enum.IntEnum):
    RED = 3


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ((1, (2,)), [1, [2]]),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.arange(3), [0, 1, 2]),
        (Path("a/b"), "a/b"),
        (Colour.RED, 3),
        (datetime.date(2026, 1, 31), "2026-01-31"),
    ],
)
def test_related_types_become_plain_ones(value: Any, read: Any) -> None:
    assert same(strictjson.loads(strictjson.dumps(value)), read)


@pytest.mark.parametrize("value", [b"bytes", {1: 2}, {"x": {3, 4}}, object()])
def test_other_types_are_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"storage needs .*; .*; convert it first"):
        strictjson.dumps(value)


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "{"])
def test_text_that_is_not_strict_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"JSON|Expecting"):
        strictjson.loads(text)
