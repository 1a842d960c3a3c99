"""torch.distributed.checkpoint: tensors as saved and resharded, and no pickle of it ever runs."""

from __future__ import annotations

import os
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from curvtool.errors import InputError
from curvtool.problem.checkpoint import read_checkpoint
from tests.problem.formats.folders import (
    WEIGHTS,
    Hostile,
    metadata,
    net,
    same,
    write_distributed,
    write_metadata,
)
from tests.problem.sentences import refusal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_distributed(tmp_path / "dcp", {"model": WEIGHTS, "epoch": 3})


def test_nested_dicts_come_back_and_an_optimizer_is_not_read(tmp_path: Path) -> None:
    module = net()
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    content = {
        "model": WEIGHTS,
        "optim": optimizer.state_dict(),
        "ema": {key: value + 1 for key, value in WEIGHTS.items()},
    }
    folder = write_distributed(tmp_path / "dcp", content)
    checkpoint = read_checkpoint(folder)
    assert [(c.key, c.is_average) for c in checkpoint.candidates] == [
        ("model", False),
        ("ema", True),
    ]
    assert same(checkpoint.tensors)
    assert [path.name for path in checkpoint.files] == [".metadata", "__0_0.distcp"]


def test_a_bare_state_dict(tmp_path: Path) -> None:
    folder = write_distributed(tmp_path / "dcp", WEIGHTS)
    checkpoint = read_checkpoint(folder)
    assert checkpoint.where == "the top level"
    assert same(checkpoint.tensors)


def test_pieces_of_several_processes_are_put_together(folder: Path) -> None:
    # A row of 0.weight in a file of its own, as a second process would have written it.
    described = metadata(folder)
    key = next(k for k in described.storage_data if k.fqn == "model.0.weight")
    entry = described.state_dict_metadata["model.0.weight"]
    chunk = entry.chunks[0]
    described.storage_data.pop(key)
    infos = []
    for rank, rows in enumerate((slice(0, 3), slice(3, 4))):
        path = folder / f"__{rank + 1}_0.distcp"
        torch.save(WEIGHTS["0.weight"][rows].clone(), path)
        offset = torch.Size([rows.start, 0])
        info = type(next(iter(described.storage_data.values())))(path.name, 0, path.stat().st_size)
        described.storage_data[type(key)(key.fqn, offset)] = info
        infos.append(type(chunk)(offset, torch.Size([rows.stop - rows.start, 3])))
    entry.chunks[:] = infos
    write_metadata(folder, described)
    assert same(read_checkpoint(folder).tensors)
    described.storage_data.popitem()
    write_metadata(folder, described)
    refusal(lambda: read_checkpoint(folder), came="missing of model.0.weight", remedy="Copy")


@pytest.mark.parametrize("protocol", range(6))
def test_a_metadata_that_executes_is_named_and_not_run(protocol: int, folder: Path) -> None:
    ran = folder / "ran"
    # The first two protocols ask for another function before any class.
    described = metadata(folder) if protocol >= 2 else None
    for content in (Hostile(ran), {"a": Hostile(ran)}, [described, Hostile(ran)]):
        (folder / ".metadata").write_bytes(pickle.dumps(content, protocol=protocol))
        refusal(lambda: read_checkpoint(folder), came="posix.system", remedy="Do not load")
    assert not ran.exists()


def test_a_hostile_piece_is_not_run(folder: Path) -> None:
    ran = folder / "ran"
    data = folder / "__0_0.distcp"
    torch.save(Hostile(ran), data)
    described = metadata(folder)
    for info in described.storage_data.values():
        info.offset, info.length = 0, data.stat().st_size
    write_metadata(folder, described)
    refusal(lambda: read_checkpoint(folder), came="damaged", remedy="Copy")
    with zipfile.ZipFile(data, "w") as archive:  # hashing it would overrun the stack
        archive.writestr("a/data.pkl", b"\x80\x02}N" + b"\x85" * 300_000 + b"Ns.")
    for info in described.storage_data.values():
        info.length = data.stat().st_size
    write_metadata(folder, described)
    refusal(lambda: read_checkpoint(folder), came="tuples 501 deep", remedy="Copy")
    data.write_bytes(pickle.dumps(Hostile(ran)) + bytes(1000))
    refusal(lambda: read_checkpoint(folder), came="damaged", remedy="Copy")
    assert not ran.exists()


def test_values_that_are_no_tensors_are_never_opened(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    folder = write_distributed(tmp_path / "dcp", {"model": WEIGHTS, "config": Hostile(ran)})
    ran.unlink(missing_ok=True)
    assert same(read_checkpoint(folder).tensors)
    assert not ran.exists()


BIAS = "model.0.bias"


@pytest.mark.parametrize(
    ("of", "attribute", "value"),
    [
        ("whole", "state_dict_metadata", None),
        ("whole", "storage_data", {}),
        ("whole", "storage_data", {1: 2}),
        ("piece", "length", 2**40),
        ("piece", "length", -1),
        ("piece", "offset", -5),
        ("piece", "offset", 7),
        ("piece", "transform_descriptors", ["zstd"]),
        ("tensor", "size", torch.Size([2**40])),
        ("tensor", "size", torch.Size([5])),
        ("tensor", "size", (-4,)),
        ("properties", "dtype", torch.int8),
    ],
)
def test_descriptions_that_cannot_be(of: str, attribute: str, value: Any, folder: Path) -> None:
    described = metadata(folder)
    spoilt = {
        "whole": [described],
        "piece": list(described.storage_data.values()),
        "tensor": [described.state_dict_metadata[BIAS]],
        "properties": [described.state_dict_metadata[BIAS].properties],
    }[of]
    for part in spoilt:
        setattr(part, attribute, value)
    write_metadata(folder, described)
    refusal(lambda: read_checkpoint(folder), came="", remedy="Copy the whole folder")


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "..", "sub/x"])
def test_data_files_lie_in_the_folder(name: str, folder: Path) -> None:
    described = metadata(folder)
    for info in described.storage_data.values():
        info.relative_path = name
    write_metadata(folder, described)
    refusal(lambda: read_checkpoint(folder), came="leads out of the folder", remedy="Do not use")


def test_a_link_to_elsewhere_is_refused(folder: Path) -> None:
    outside = folder.parent / "outside"
    (folder / "__0_0.distcp").rename(outside)
    os.symlink(outside, folder / "__0_0.distcp")
    refusal(lambda: read_checkpoint(folder), came="symbolic link", remedy="Put the file itself")


def test_only_an_optimizer(tmp_path: Path) -> None:
    folder = write_distributed(tmp_path / "dcp", {"optimizer": {"m": torch.ones(3)}})
    refusal(lambda: read_checkpoint(folder), came="states of an optimizer", remedy="Save the model")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04",
        b"\x80\x05\x96\xff\xff\xff\xff\x0f\0\0\0.",  # BYTEARRAY8 of 64 GiB
        b"\x80\x04r\xff\xff\xff\x7f.",  # LONG_BINPUT: C's unpickler reserves 32 GiB for it
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # BINBYTES8 of 8 EiB
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",  # FRAME likewise
        b"\x80\x02\x82\x01.",  # EXT1
        b"N.",
        b"(" * 100_000 + b".",
        b"]" + b"\x85" * 1000 + b".",
        b"c__builtin__\neval\n(S'1'\ntR.",
        b"cos\nsystem\n.",
        b"ctorch\nload\n.",
        b"ctorch.distributed.checkpoint.metadata\npickle\n.",
    ],
)
def test_pickles_that_are_no_description(content: bytes, folder: Path) -> None:
    (folder / ".metadata").write_bytes(content)
    refusal(lambda: read_checkpoint(folder), came="", remedy="torch")


def test_flipped_bits_of_the_metadata(folder: Path) -> None:
    whole, draw = (folder / ".metadata").read_bytes(), random.Random(0)
    refused: list[str] = []
    for _ in range(300):
        content = bytearray(whole)
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        (folder / ".metadata").write_bytes(content)
        try:
            read_checkpoint(folder)
        except InputError as error:
            refused.append(str(error))
    assert 0 < len(refused) < 300
    assert all("expected" in sentence for sentence in refused)


def test_the_weights_fit_the_module(folder: Path) -> None:
    module: nn.Module = net()
    module.load_state_dict(dict(read_checkpoint(folder).tensors))
    assert same(module.state_dict())
