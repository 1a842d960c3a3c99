"""Tables: columns by name, number, range and pattern; header and separator found in the text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.problem.data.making import read, spec, tensors
from tests.problem.sentences import refusal

NAMED = "a,b,c,y\n1,2,3,0\n4,5,6,1\n"
BARE = "1,2,3,0\n4,5,6,1\n"


def of(folder: Path, text: str, **parts: Any) -> list[torch.Tensor]:
    (folder / "d.csv").write_text(text)
    return tensors(read(spec(folder, "csv:d.csv", **parts)))


@pytest.mark.parametrize("text", [NAMED, BARE])
@pytest.mark.parametrize(
    ("inputs", "columns"),
    [
        (None, [0, 1, 2]),
        (("0",), [0]),
        (("2", "0"), [2, 0]),
        (("-2",), [2]),
        (("0:2",), [0, 1]),
        (("1:3",), [1, 2]),
        ((":3",), [0, 1, 2]),
    ],
)
def test_columns_by_number(
    text: str, inputs: tuple[str, ...] | None, columns: list[int], tmp_path: Path
) -> None:
    x, y = of(tmp_path, text, inputs=inputs, targets="-1")
    assert x.tolist() == torch.tensor([[1, 2, 3], [4, 5, 6]])[:, columns].tolist()
    assert y.tolist() == [0, 1]


def test_columns_by_name_and_pattern(tmp_path: Path) -> None:
    assert of(tmp_path, NAMED)[0].shape == (2, 3)  # y is the target where it is there
    x, y = of(tmp_path, NAMED, inputs=("[ac]",), targets="b")
    assert x.tolist() == [[1, 3], [4, 6]]
    assert y.tolist() == [2, 5]
    numbered = "3,2,y\n10,20,0\n"  # a name wins over a number
    assert of(tmp_path, numbered, inputs=("2",))[0].tolist() == [[20]]


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|", " "])
def test_the_separator_is_found(delimiter: str, tmp_path: Path) -> None:
    x, y = of(tmp_path, NAMED.replace(",", delimiter))
    assert (x.tolist(), y.tolist()) == ([[1, 2, 3], [4, 5, 6]], [0, 1])


def test_types_are_those_of_the_text(tmp_path: Path) -> None:
    x, y = of(tmp_path, 'a,y\n"1",2.5\n3,4\n')
    assert (x.dtype, y.dtype) == (torch.int64, torch.float64)
    assert of(tmp_path, "a,y\n9007199254740993,1\n")[0].item() == 2**53 + 1  # not by way of floats
    windows = "a,y\r\n1,2\r\n"
    assert of(tmp_path, windows)[1].tolist() == [2]


@pytest.mark.parametrize(
    ("text", "parts", "came", "remedy"),
    [
        (BARE, {}, "0 to 3", "targets=3"),
        (NAMED.replace("y", "label"), {}, "a, b, c, label", "targets=label"),
        (NAMED, {"targets": "z"}, "'z' (targets)", "a, b, c, y"),
        (NAMED, {"inputs": ("d",)}, "'d' (inputs)", "Correct inputs"),
        (NAMED, {"targets": "[ab]"}, "is 2", "Correct targets"),
        (NAMED, {"targets": "4"}, "'4' (targets)", "Correct targets"),
        ("y\n1\n", {}, "none beside the target", "Correct inputs"),
        ("a,y\nred,1\n", {}, "could not convert string 'red'", "name the columns to use"),
        ("a,y\n1,2\n3\n", {}, "column", "Leave such columns and lines out"),
        ("a,y\n,2\n", {}, "could not convert string ''", "Leave such columns"),
        ("a,y\nnan,2\n", {}, "1 NaN or infinite", "Clean"),
        ("a,y\n", {}, "the dataset is empty", "Check its path"),
        ("\n", {}, "first line is empty", "Check the file"),
        ("", {}, "the file is empty (0 bytes)", "write it again"),
        (NAMED, {"kwargs": {"headers": True}}, "got headers", 'Did you mean "header"?'),
        (NAMED, {"kwargs": {"delimiter": "::"}}, "'::'", "Correct --data-kwargs"),
        (NAMED, {"weights": "w"}, "'w' (weights)", "Correct weights"),
        ("x,w,y\n1,-1,0\n", {"weights": "w"}, "'w' holds -1", "weight 0"),
    ],
)
def test_tables_that_cannot_be_used(
    text: str, parts: dict[str, Any], came: str, remedy: str, tmp_path: Path
) -> None:
    refusal(lambda: of(tmp_path, text, **parts), came=came, remedy=remedy)
