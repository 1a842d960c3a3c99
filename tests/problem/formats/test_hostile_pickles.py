"""Files of torch.save made to exhaust the process: a sentence each, and bounded memory."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from curvtool.problem.checkpoint import read_checkpoint
from tests.problem.sentences import refusal

HUGE = b"\x8a\x06\0\0\0\0\0\x01"  # 2**40 as LONG1


def with_pickle(path: Path, pickled: bytes, data: bytes = bytes(16)) -> Path:
    """A zip file of torch.save with a pickle of our own."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/version", "3\n")
        archive.writestr("a/byteorder", "little")
        archive.writestr("a/data/0", data)
    return path


def changed(path: Path, old: bytes, new: bytes, *, legacy: bool) -> Path:
    """A file with four numbers, and `old` in its pickle replaced."""
    torch.save({"a": torch.ones(4)}, path, _use_new_zipfile_serialization=not legacy)
    if legacy:
        content = path.read_bytes()
        assert old in content
        path.write_bytes(content.replace(old, new))
        return path
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
        pickled = archive.read(name)
    assert old in pickled
    return with_pickle(path, pickled.replace(old, new))


@pytest.mark.parametrize("legacy", [False, True])
def test_views_beyond_their_storage(legacy: bool, tmp_path: Path) -> None:
    path = changed(tmp_path / "c.pt", b"K\x04\x85q", HUGE + b"\x85q", legacy=legacy)
    refusal(lambda: read_checkpoint(path), came="damaged", remedy="Copy the file again")


def test_storages_that_are_not_there(tmp_path: Path) -> None:
    path = changed(tmp_path / "c.pt", b"K\x04Nt", HUGE + b"Nt", legacy=True)
    refusal(lambda: read_checkpoint(path), came="damaged", remedy="Copy the file again")


@pytest.mark.parametrize("step", [b"\x85", b"\x85q\0", b"N\x86", b"NN\x87"])
def test_tuples_without_end_do_not_end_the_process(step: bytes, tmp_path: Path) -> None:
    # As a key: hashing it overran the stack, and the process ended by a signal.
    path = with_pickle(tmp_path / "c.pt", b"\x80\x02}N" + step * 300_000 + b"Ns.")
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from curvtool.errors import InputError\n"
        "from curvtool.problem.checkpoint import read_checkpoint\n"
        "try: read_checkpoint(Path(sys.argv[1]))\n"
        "except InputError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "tuples 501 deep in one another" in done.stdout


def test_dicts_without_end(tmp_path: Path) -> None:
    depth = 50_000
    pickled = b"\x80\x02" + b"}X\1\0\0\0a" * depth + b"}" + b"s" * depth + b"."
    path = with_pickle(tmp_path / "c.pt", pickled)
    refusal(lambda: read_checkpoint(path), came="no tensors at all", remedy="state_dict()")


def test_names_that_lead_out_of_the_archive_lead_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    torch.save({"a": torch.ones(4)}, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../outside", "x")
        archive.writestr("/etc/outside", "x")
    before = {p for p in tmp_path.parent.rglob("*")}
    refusal(lambda: read_checkpoint(path), came="not in a subdirectory", remedy="Copy the file")
    assert {p for p in tmp_path.parent.rglob("*")} == before


def test_a_bomb_is_refused_before_it_unfolds(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        archive.writestr("a/data/0", bytes(2**27))
    refusal(lambda: read_checkpoint(path), came="packed again", remedy="torch.save")


def test_records_that_overlap_are_refused(tmp_path: Path) -> None:
    path = with_pickle(tmp_path / "c.pt", b"\x80\x02}.", bytes(4096))
    with zipfile.ZipFile(path, "a") as archive:
        for copy in range(3):
            again = zipfile.ZipInfo(f"a/data/{copy + 1}")
            place = archive.getinfo("a/data/0")
            again.header_offset, again.CRC = place.header_offset, place.CRC
            again.file_size = again.compress_size = place.file_size
            archive.filelist.append(again)
        archive.comment = b"written anew"
    refusal(lambda: read_checkpoint(path), came="overlap", remedy="torch.save")
