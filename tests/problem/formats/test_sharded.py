"""Weights in several files: by the index or the folder, and nothing outside of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from curvtool.problem.checkpoint import files_sha256, read_checkpoint
from tests.problem.formats.folders import WEIGHTS, Hostile, same, write_index, write_sharded
from tests.problem.sentences import refusal


@pytest.mark.parametrize("safe", [True, False])
def test_index_or_folder_give_the_same(safe: bool, tmp_path: Path) -> None:
    index = write_sharded(tmp_path / "net", safe=safe)
    by_index, by_folder = read_checkpoint(index), read_checkpoint(tmp_path / "net")
    assert same(by_index.tensors)
    assert same(by_folder.tensors)
    assert by_index.files == by_folder.files
    shards = sorted(p.name for p in index.parent.iterdir() if p != index)
    assert [path.name for path in by_index.files] == [index.name, *shards]


def test_the_config_beside_the_weights_is_part_of_the_digest(tmp_path: Path) -> None:
    write_sharded(tmp_path / "net")
    (tmp_path / "net" / "config.json").write_text("{}")
    before = files_sha256(read_checkpoint(tmp_path / "net").files)
    (tmp_path / "net" / "README").write_text("not read")
    assert files_sha256(read_checkpoint(tmp_path / "net").files) == before
    (tmp_path / "net" / "config.json").write_text('{"a": 1}')
    assert files_sha256(read_checkpoint(tmp_path / "net").files) != before


def test_one_file_of_a_folder(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "some.safetensors")
    assert same(read_checkpoint(tmp_path).tensors)
    save_file(WEIGHTS, tmp_path / "other.safetensors")
    refusal(lambda: read_checkpoint(tmp_path), came="other.safetensors", remedy="Name one file")
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    assert read_checkpoint(tmp_path).files == (tmp_path / "model.safetensors",)


def test_an_index_is_recognised_by_its_content(tmp_path: Path) -> None:
    index = write_sharded(tmp_path)
    other = index.rename(tmp_path / "places.txt")
    assert same(read_checkpoint(other).tensors)


@pytest.mark.parametrize(
    "name",
    [
        "../outside",
        "/etc/passwd",
        "a/../../outside",
        "..",
        ".",
        "",
        "a\\b",
        "sub/w",
        "a\0b",
        3,
        None,
    ],
)
def test_an_index_that_leads_elsewhere_is_refused(name: Any, tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "outside")
    folder = tmp_path / "net"
    (folder / "sub").mkdir(parents=True)
    save_file(WEIGHTS, folder / "sub" / "w")
    index = write_index(folder / "model.safetensors.index.json", dict.fromkeys(WEIGHTS, name))
    refusal(lambda: read_checkpoint(index), came="leads out of the folder", remedy="Do not use")


def test_links_stay_in_the_folder_or_in_their_cache(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "outside")
    folder = tmp_path / "net"
    index = write_sharded(folder)
    shard = folder / "model-00001-of-00002.safetensors"
    inside = shard.rename(folder / "real")
    shard.symlink_to("real")
    assert same(read_checkpoint(index).tensors)
    inside.rename(tmp_path / "outside")
    shard.unlink()
    shard.symlink_to(tmp_path / "outside")
    refusal(lambda: read_checkpoint(index), came="symbolic link", remedy="Put the file itself")
    (folder / "model.safetensors").symlink_to(tmp_path / "outside")
    refusal(lambda: read_checkpoint(folder), came="symbolic link", remedy="Put the file itself")

    cache = tmp_path / "models--a--b"
    (cache / "blobs").mkdir(parents=True)
    (cache / "snapshots" / "1f").mkdir(parents=True)
    save_file(WEIGHTS, cache / "blobs" / "77aa")
    os.symlink("../../blobs/77aa", cache / "snapshots" / "1f" / "model.safetensors")
    assert same(read_checkpoint(cache / "snapshots" / "1f").tensors)


def test_what_index_and_files_do_not_agree_on(tmp_path: Path) -> None:
    index = write_sharded(tmp_path)
    places = json.loads(index.read_text())["weight_map"]
    write_index(index, places | {"3.weight": "model-00001-of-00002.safetensors"})
    refusal(lambda: read_checkpoint(index), came="1 are missing (3.weight)", remedy="Copy")
    write_index(index, {key: places[key] for key in places if key != "0.bias"})
    refusal(lambda: read_checkpoint(index), came="unlisted (0.bias)", remedy="Copy")
    write_index(index, places | {"0.bias": "model-00002-of-00001.safetensors"})
    refusal(lambda: read_checkpoint(index), came="there is none", remedy="Did you mean")


@pytest.mark.parametrize(
    ("text", "came"),
    [
        ('{"weight_map": []}', "list of 0"),
        ('{"weight_map": {}}', "dict of 0"),
        ("{", "it is not"),
        ('{"weight_map":' + "[" * 100_000, "it is not"),
        ('{"weight_map": {"a": "x"', "it is not"),
    ],
)
def test_an_index_of_another_form(text: str, came: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(text)
    refusal(lambda: read_checkpoint(path), came=came, remedy=".")


def test_a_hostile_shard_names_its_code_and_never_runs_it(tmp_path: Path) -> None:
    index = write_sharded(tmp_path / "net", safe=False)
    shard = tmp_path / "net" / "pytorch_model-00001-of-00002.bin"
    torch.save({**WEIGHTS, "x": Hostile(tmp_path / "ran")}, shard)
    refusal(lambda: read_checkpoint(index), came="posix.system", remedy="state_dict()")
    shard.write_bytes(index.read_bytes())
    refusal(lambda: read_checkpoint(index), came="index of shards", remedy="Copy the whole folder")
    assert not (tmp_path / "ran").exists()
