"""safetensors: whole files by content, damaged and hostile ones by a sentence."""

from __future__ import annotations

import json
import random
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from curvtool.errors import InputError
from curvtool.problem.checkpoint import read_checkpoint
from tests.problem.formats.folders import WEIGHTS, same
from tests.problem.sentences import refusal


def written(path: Path, header: Any, data: bytes = b"", *, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt", "weights"])
def test_read_whatever_the_name(name: str, tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / name, metadata={"format": "pt"})
    checkpoint = read_checkpoint(tmp_path / name)
    assert same(checkpoint.tensors)
    assert checkpoint.where == "the top level"
    assert checkpoint.files == (tmp_path / name,)


def test_kinds_of_numbers_are_kept(tmp_path: Path) -> None:
    kinds = [torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.bool]
    tensors = {str(kind): torch.ones(3, dtype=kind) for kind in kinds}
    save_file(tensors, tmp_path / "w")
    assert same(read_checkpoint(tmp_path / "w").tensors, tensors)


def test_every_truncation_is_a_sentence(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    for length in range(9, len(whole)):
        (tmp_path / "cut").write_bytes(whole[:length])
        refusal(lambda: read_checkpoint(tmp_path / "cut"), came="truncated", remedy="Copy")


def test_flipped_bits_are_a_sentence_or_other_numbers(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "whole")
    whole, draw = (tmp_path / "whole").read_bytes(), random.Random(0)
    refused: list[str] = []
    for _ in range(400):
        content = bytearray(whole)
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        (tmp_path / "c").write_bytes(content)
        try:
            read_checkpoint(tmp_path / "c")
        except InputError as error:
            refused.append(str(error))
    assert 0 < len(refused) < 400
    assert all("expected" in sentence for sentence in refused)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]},
        {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]},
        {"dtype": "F32", "shape": [1], "data_offsets": [2**63, 2**63 + 4]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]},
        {"dtype": "EVIL", "shape": [1], "data_offsets": [0, 4]},
        {"dtype": "F32"},
        7,
    ],
    ids=lambda entry: str(entry)[:40],
)
def test_headers_that_claim_what_is_not_there(entry: Any, tmp_path: Path) -> None:
    path = written(tmp_path / "w", {"a": entry}, bytes(4))
    refusal(lambda: read_checkpoint(path), came="damaged", remedy="Copy")


def test_tensors_that_share_bytes_are_refused(tmp_path: Path) -> None:
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    path = written(tmp_path / "w", {f"a{i}": entry for i in range(100)}, bytes(4))
    refusal(lambda: read_checkpoint(path), came="damaged", remedy="Copy")


@pytest.mark.parametrize("length", [2**31, 2**63, 10**9])
def test_a_header_longer_than_the_file_is_not_believed(length: int, tmp_path: Path) -> None:
    path = written(tmp_path / "w", {}, length=length)
    refusal(lambda: read_checkpoint(path), came="", remedy=".")


def test_a_header_nested_without_end(tmp_path: Path) -> None:
    path = written(tmp_path / "w", b'{"a":' * 100_000 + b"}" * 100_000)
    refusal(lambda: read_checkpoint(path), came="damaged", remedy="Copy")


def test_the_library_is_named_where_it_is_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(WEIGHTS, tmp_path / "w")
    monkeypatch.setitem(sys.modules, "safetensors", None)  # which cannot be imported then
    refusal(
        lambda: read_checkpoint(tmp_path / "w"),
        came="not installed",
        remedy="pip install 'curvtool[safetensors]'",
    )
