"""Checkpoint files by content: those that are read, and a sentence for each that is not."""

from __future__ import annotations

import io
import os
import pickle
import random
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from curvtool.errors import InputError
from curvtool.problem.checkpoint import file_sha256, read_checkpoint
from curvtool.problem.save import save_checkpoint
from tests.problem.sentences import refusal

WEIGHTS = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(2)}


def saved(path: Path, content: Any, *, legacy: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("wrap", "where"),
    [
        (lambda w: w, "the top level"),
        (lambda w: {"state_dict": w, "epoch": 3, "optimizer": {"lr": 0.1}}, '"state_dict"'),
        (lambda w: {"model": w, "args": [1, "a", None]}, '"model"'),
        (lambda w: {"model_state_dict": w}, '"model_state_dict"'),
        (lambda w: {"model_state": w}, '"model_state"'),
        (lambda w: {"model": "resnet", "state_dict": w}, '"state_dict"'),
    ],
)
def test_weights_are_found_by_content(
    wrap: Callable[[dict[str, Tensor]], Any], where: str, legacy: bool, tmp_path: Path
) -> None:
    path = saved(tmp_path / "any.name", wrap(WEIGHTS), legacy=legacy)
    checkpoint = read_checkpoint(path)
    assert checkpoint.where == where
    assert checkpoint.problem is None
    assert all(torch.equal(checkpoint.tensors[key], WEIGHTS[key]) for key in WEIGHTS)


@pytest.mark.parametrize("legacy", [False, True])
def test_files_saved_on_a_gpu_load_anywhere(
    legacy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.serialization, "location_tag", lambda _: "cuda:3")
    path = saved(tmp_path / "c.pt", WEIGHTS, legacy=legacy)
    assert b"cuda:3" in path.read_bytes()
    tensors = read_checkpoint(path).tensors
    assert {str(t.device) for t in tensors.values()} == {"cpu"}
    assert torch.equal(tensors["bias"], WEIGHTS["bias"])


def test_a_zip_file_is_read_whatever_its_suffix(tmp_path: Path) -> None:
    path = saved(tmp_path / "weights.safetensors", WEIGHTS)
    assert torch.equal(read_checkpoint(path).tensors["bias"], WEIGHTS["bias"])


def test_entries_that_are_no_tensors_are_noted(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(saved(tmp_path / "c.pt", {**WEIGHTS, "epoch": 7}))
    assert any("epoch" in note for note in checkpoint.candidates[0].notes)


def test_the_embedded_problem_is_handed_on(tmp_path: Path) -> None:
    problem = {"loss": {"name": "mse"}}
    save_checkpoint(tmp_path / "c.pt", WEIGHTS, problem=problem)
    assert read_checkpoint(tmp_path / "c.pt").problem == problem


@pytest.mark.parametrize(
    ("own", "came", "remedy"),
    [
        (3, "int", "save_checkpoint"),
        ({"problem": {}}, "dict", "save_checkpoint"),
        ({"schema": "curvtool-checkpoint/9", "problem": {}}, "/9", "Update curvtool"),
        ({"schema": "curvtool-checkpoint/1", "problme": {}}, "problme", '"problem"?'),
    ],
)
def test_an_embedded_problem_of_another_form(
    own: Any, came: str, remedy: str, tmp_path: Path
) -> None:
    path = saved(tmp_path / "c.pt", {"model": WEIGHTS, "curvtool": own})
    refusal(lambda: read_checkpoint(path), came=came, remedy=remedy)


@pytest.mark.parametrize(
    ("content", "came", "remedy"),
    [
        ({}, "an empty dict", "torch.save(model.state_dict()"),
        ({"epoch": 3, "name": "x"}, '"epoch" (int)', "torch.save(model.state_dict()"),
        (torch.ones(3), "a tensor", "torch.save(model.state_dict()"),
        ([1, 2], "list of 2", "torch.save(model.state_dict()"),
        ({"optimizer": WEIGHTS}, '"optimizer"', "torch.save(model.state_dict()"),
    ],
)
def test_no_state_dict(content: Any, came: str, remedy: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "c.pt", content)
    refusal(lambda: read_checkpoint(path), came=came, remedy=remedy)


def hdf5() -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["x"] = 1
    return buffer.getvalue()


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.ones(3))
    return buffer.getvalue()


def zipped(**members: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "came", "remedy"),
    [
        (b"", "empty", "Copy or save it again"),
        (b"\x89PNG\r\n\x1a\n" + b"0" * 50, "PNG picture", "Give the checkpoint"),
        (hdf5(), "HDF5 file", "curvtool show"),
        (npz(), "NumPy archive with x.npy", "--data npz:"),
        (b"epoch,loss\n1,0.5\n", "a text file, which begins 'epoch,loss", "Name the checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer", "git lfs pull"),
        (b"<!doctype html><html>", "HTML page", "download the file itself"),
        (b"\x1f\x8b\x08" + b"0" * 20, "gzip", "Unpack it"),
        (b"\x90\0\0\0\0\0\0\0{" + b" " * 40, "safetensors file that is truncated", "Copy"),
        (bytes(range(128, 256)), "no format known here", "copied whole"),
        (b"PK\x05\x06" + b"\0" * 18, "nothing in it", "Give the checkpoint"),
        (zipped(word__document="x"), "another program", "unpacked"),
        (zipped(a__data="x", a__archive_format="pt2"), "torch.export", "--trust"),
        (pickle.dumps({"a": 1}), "plain pickle", "never opened"),
    ],
)
def test_foreign_files(content: bytes, came: str, remedy: str, tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    path.write_bytes(content)
    sentence = refusal(lambda: read_checkpoint(path), came=came, remedy=remedy)
    assert "torch.save" in sentence


@pytest.mark.filterwarnings("ignore:.torch.jit.*. is deprecated")
def test_a_torchscript_program_is_refused_as_code(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    torch.jit.save(torch.jit.script(nn.Linear(2, 1)), str(path))
    sentence = refusal(lambda: read_checkpoint(path), came="TorchScript", remedy="torch.jit.load")
    assert "--trust" in sentence


def test_no_file_a_folder_a_pipe(tmp_path: Path) -> None:
    saved(tmp_path / "digits.pt", WEIGHTS)
    missing = tmp_path / "digit.pt"
    refusal(lambda: read_checkpoint(missing), came="no such file", remedy='mean "digits.pt"?')
    nowhere = tmp_path / "no" / "c.pt"
    refusal(lambda: read_checkpoint(nowhere), came="no such file", remedy="Check the path")
    refusal(lambda: read_checkpoint(tmp_path), came="a folder", remedy="digits.pt")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".metadata").touch()
    refusal(lambda: read_checkpoint(tmp_path / "empty"), came="damaged", remedy="dcp_to_torch")
    (tmp_path / "empty" / ".metadata").rename(tmp_path / "empty" / "config.json")
    refusal(
        lambda: read_checkpoint(tmp_path / "empty"), came="no weights", remedy="Get the weights"
    )
    os.mkfifo(tmp_path / "pipe")
    refusal(lambda: read_checkpoint(tmp_path / "pipe"), came="pipe", remedy="to a file")
    long = tmp_path / ("x" * 300)
    refusal(lambda: read_checkpoint(long), came="", remedy="Check the path")


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "c.pt", WEIGHTS)

    def denied(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    refusal(lambda: read_checkpoint(path), came="Permission denied", remedy="permissions")


@pytest.mark.parametrize("legacy", [False, True])
def test_every_truncation_is_a_sentence(legacy: bool, tmp_path: Path) -> None:
    path = saved(tmp_path / "whole.pt", WEIGHTS, legacy=legacy)
    whole = path.read_bytes()
    cut = tmp_path / "cut.pt"
    for length in {1, 5, 9, *range(20, len(whole), 37), len(whole) - 1}:
        cut.write_bytes(whole[:length])
        sentence = refusal(lambda: read_checkpoint(cut), came="", remedy=".")
        if length > 200:
            assert "truncated" in sentence or "damaged" in sentence
            assert "Copy" in sentence


@pytest.mark.parametrize("legacy", [False, True])
def test_flipped_bits_are_a_sentence_or_other_numbers(legacy: bool, tmp_path: Path) -> None:
    whole = saved(tmp_path / "whole.pt", WEIGHTS, legacy=legacy).read_bytes()
    path, generator = tmp_path / "c.pt", random.Random(0)
    refused = []
    for _ in range(400):
        content = bytearray(whole)
        content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        path.write_bytes(content)
        try:
            read_checkpoint(path)
        except InputError as error:
            refused.append(str(error))
    assert 0 < len(refused) < 400
    assert all("expected" in sentence for sentence in refused)
    # Torch's own advice would be to switch the protection off.
    assert not any("weights_only" in sentence for sentence in refused)


def test_packed_again_is_refused_before_it_unfolds(tmp_path: Path) -> None:
    path = saved(tmp_path / "c.pt", {"weight": torch.zeros(100_000)})
    packed = tmp_path / "packed.pt"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    refusal(lambda: read_checkpoint(packed), came="packed again", remedy="torch.save")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_later_pickle_protocol_is_told_apart_from_damage(legacy: bool, tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    torch.save(WEIGHTS, path, pickle_protocol=4, _use_new_zipfile_serialization=not legacy)
    refusal(lambda: read_checkpoint(path), came="pickle_protocol", remedy="without that argument")


class Hostile:
    """Unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self._path}'",)


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("legacy", [False, True])
def test_hostile_pickles_name_their_code_and_never_run_it(
    legacy: bool, protocol: int, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    path = tmp_path / "c.pt"
    torch.save(
        {"model": WEIGHTS, "extra": Hostile(ran)},
        path,
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=not legacy,
    )
    refusal(lambda: read_checkpoint(path), came="posix.system", remedy="model.state_dict()")
    assert not ran.exists()
    path.write_bytes(pickle.dumps(Hostile(ran), protocol=protocol))
    refusal(lambda: read_checkpoint(path), came="plain pickle", remedy="model.state_dict()")
    assert not ran.exists()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.filterwarnings("ignore:.*[Cc]ouldn't retrieve source")
def test_whole_modules_and_arguments_name_their_classes(legacy: bool, tmp_path: Path) -> None:
    path = saved(tmp_path / "c.pt", nn.Sequential(nn.Linear(2, 1)), legacy=legacy)
    sentence = refusal(lambda: read_checkpoint(path), came="Linear", remedy="state_dict()")
    assert "never" not in sentence
    assert "Nothing of it was executed" in sentence
    path = saved(path, {"model": WEIGHTS, "args": Namespace(lr=0.1)}, legacy=legacy)
    sentence = refusal(lambda: read_checkpoint(path), came="Namespace", remedy="state_dict()")
    assert "_rebuild_tensor" not in sentence


def test_the_hash_is_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c"
    path.write_bytes(b"abc")
    assert file_sha256(path).startswith("ba7816bf8f01cfea414140de5dae2223b00361a3")
