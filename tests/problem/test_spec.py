"""Problem specs: what is written down, checked before anything is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curvtool.errors import UsageError
from curvtool.problem.key_values import parse_key_values
from curvtool.problem.spec import Origin, parse_spec, read_toml
from tests.problem.sentences import refusal

HERE = Origin("lab.toml", Path(), trusted=True)


@pytest.mark.parametrize(
    ("content", "came", "remedy"),
    [
        ({"modell": {}}, "[modell]", 'Did you mean "model"?'),
        ({"model": {"biuld": "mlp"}}, '"biuld"', 'Did you mean "build"?'),
        ({"data": {"source": "npz:a", "batchsize": 3}}, '"batchsize"', '"batch_size"?'),
        ({"data": {"batch_size": 0}}, "got 0", "at least 1"),
        ({"data": {"batch_size": True}}, "got True", "whole number"),
        ({"data": {"inputs": []}}, "got []", "a list of them"),
        ({"model": {"build": 3}}, "got 3", "a string"),
        ({"model": {"kwargs": [1]}}, "got [1]", "a table"),
        ({"loss": "mse"}, "got str", "[loss] on a line of its own"),
        ([1], "list of 1", "[model], [data], [loss]"),
    ],
)
def test_a_spec_says_only_what_a_problem_has(content: Any, came: str, remedy: str) -> None:
    assert "lab.toml" in refusal(lambda: parse_spec(content, HERE), came=came, remedy=remedy)


def test_none_counts_as_absent() -> None:
    source = parse_spec({"data": {"source": "npz:a", "batch_size": None}}, HERE)
    assert source.sections == {"data": {"source": "npz:a"}}


@pytest.mark.parametrize(
    ("content", "came"),
    [(b"[model\nbuild = 1", "Expected ']'"), (b"\xff\xfe", "utf-8"), (b"a = " + b"[" * 5000, "")],
)
def test_a_file_that_is_no_toml(content: bytes, came: str, tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    path.write_bytes(content)
    refusal(lambda: read_toml(path, HERE), came=came, remedy="Correct the file")


def test_a_problem_file_that_is_not_there(tmp_path: Path) -> None:
    refusal(lambda: read_toml(tmp_path / "no.toml", HERE), came="there is no", remedy="create")
    refusal(lambda: read_toml(tmp_path, HERE), came="cannot be read", remedy="permissions")


def test_key_values_are_toml_values() -> None:
    words = ["a=1", "b=1.5", "c=true", "d='x y'", "e=[1, 2]", "f=plain text", "g=", "h={k = 1}"]
    expected = {"a": 1, "b": 1.5, "c": True, "d": "x y", "e": [1, 2], "f": "plain text", "g": ""}
    assert parse_key_values(words) == expected | {"h": {"k": 1}}


def test_key_values_keep_what_only_looks_like_toml() -> None:
    words = ["day=2020-01-01", "two=1\nx = 2", "sum=a=b", "v=1", "v=2"]
    expected = {"day": "2020-01-01", "two": "1\nx = 2", "sum": "a=b", "v": 2}
    assert parse_key_values(words) == expected


@pytest.mark.parametrize("word", ["width", "=3", "a-b=3", "a='x", "a=[1, 2", 'a="x" y'])
def test_key_values_that_are_none(word: str) -> None:
    with pytest.raises(UsageError, match=r"--model-kwargs expects .*; got .*Write for example"):
        parse_key_values([word])


@settings(deadline=None)
@given(st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.floats(allow_nan=False))
def test_key_values_round_trip_numbers(value: object) -> None:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    assert parse_key_values([f"key={text}"]) == {"key": value}
