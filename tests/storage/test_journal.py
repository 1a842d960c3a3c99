"""Whatever happens to a journal, what is read of it is a beginning of what was written."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curvtool.storage.journal import Journal, Record, encoded, records, write_whole

KINDS = st.sampled_from(["float32", "float64", "int64", "uint8"])
SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)
SAME_FOLDER = [HealthCheck.function_scoped_fixture]


@pytest.fixture(autouse=True)
def no_waiting_for_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test cuts the power; a thousand saves would wait for minutes."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@st.composite
def drawn(draw: st.DrawFn) -> Record:
    names = draw(st.lists(st.text(max_size=3), unique=True, max_size=3))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    arrays = {
        n: np.asarray(rng.standard_normal(draw(SHAPES)) * 100).astype(draw(KINDS)) for n in names
    }
    return Record(
        draw(st.text(max_size=4)),
        draw(st.text(max_size=9)),
        draw(st.text(max_size=4)),
        arrays,
        draw(st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)),
    )


def same(a: Record, b: Record) -> bool:
    return (
        (a.kind, a.key, a.digest, dict(a.more)) == (b.kind, b.key, b.digest, dict(b.more))
        and list(a.arrays) == list(b.arrays)
        and all(
            x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()
            for x, y in zip(a.arrays.values(), b.arrays.values(), strict=True)
        )
    )


def written(path: Path, content: list[Record]) -> None:
    path.unlink(missing_ok=True)
    journal = Journal(path)
    for record in content:
        journal.add(record)
    journal.write()
    journal.close()


def is_beginning(path: Path, content: list[Record]) -> int:
    found = list(records(path))
    assert len(found) <= len(content)
    assert all(same(a, b) for a, b in zip(found, content, strict=False))
    return len(found)


@settings(suppress_health_check=SAME_FOLDER, max_examples=60, deadline=None)
@given(content=st.lists(drawn(), min_size=1, max_size=5), data=st.data())
def test_a_file_cut_anywhere_gives_the_records_before(
    tmp_path: Path, content: list[Record], data: st.DataObject
) -> None:
    path = tmp_path / "journal"
    written(path, content)
    assert is_beginning(path, content) == len(content)
    length = data.draw(st.integers(0, path.stat().st_size))
    os.truncate(path, length)
    ends = np.cumsum([sum(map(len, encoded(record))) for record in content])
    assert is_beginning(path, content) == int((ends <= length).sum())


@settings(suppress_health_check=SAME_FOLDER, max_examples=150, deadline=None)
@given(content=st.lists(drawn(), min_size=1, max_size=4), data=st.data())
def test_a_flipped_bit_ends_what_is_read_at_its_record(
    tmp_path: Path, content: list[Record], data: st.DataObject
) -> None:
    path = tmp_path / "journal"
    written(path, content)
    whole = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(whole)
    ends = np.cumsum([sum(map(len, encoded(record))) for record in content])
    # A checksum of 32 bits finds every single flipped bit.
    assert is_beginning(path, content) == int((ends <= place).sum())


@settings(suppress_health_check=SAME_FOLDER, max_examples=40, deadline=None)
@given(content=st.lists(drawn(), min_size=1, max_size=4), junk=st.binary(max_size=60))
def test_what_is_appended_after_a_torn_tail_is_read_again(
    tmp_path: Path, content: list[Record], junk: bytes
) -> None:
    path = tmp_path / "journal"
    written(path, content)
    with path.open("ab") as file:
        file.write(bytes(encoded(content[0])[0]) + junk)
    journal = Journal(path)
    taken = 0
    while journal.following() is not None:
        journal.take()
        taken += 1
    assert taken >= len(content)
    journal.add(content[0])
    journal.write()
    journal.close()
    assert len(list(records(path))) == taken + 1


def test_what_is_not_taken_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    written(path, [Record("a", key=str(i)) for i in range(4)])
    journal = Journal(path)
    for _ in range(2):
        journal.following()
        journal.take()
    journal.following()
    journal.drop_rest()
    assert len(list(records(path))) == 4  # as long as nothing new is there
    journal.add(Record("b"))
    journal.write()
    journal.close()
    assert [r.kind for r in records(path)] == ["a", "a", "b"]
    assert journal.count == 3


def test_what_is_read_belongs_to_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    written(path, [Record("a", arrays={"x": np.arange(3.0)})])
    (record,) = records(path)
    record.arrays["x"][:] = -1  # writable


@pytest.fixture
def small_files() -> Iterator[Any]:
    """Files of this process may have so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_fails_halfway_can_be_tried_again(tmp_path: Path, small_files: Any) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.add(Record("first", arrays={"x": np.arange(10.0)}))
    journal.write()
    journal.add(Record("second", arrays={"x": np.arange(1000.0)}))
    small_files(4096)
    for _ in range(2):
        with pytest.raises(OSError, match="File too large"):
            journal.write()
        assert [r.kind for r in records(path)] == ["first"]
    small_files(resource.RLIM_INFINITY)
    journal.write()
    journal.close()
    assert [r.kind for r in records(path)] == ["first", "second"]
    assert journal.bytes_waiting == 0


def test_a_file_of_one_record_that_is_cut_reads_as_none(tmp_path: Path) -> None:
    path = tmp_path / "slot"
    write_whole(path, Record("a", arrays={"x": np.arange(3.0)}))
    assert len(list(records(path))) == 1
    os.truncate(path, path.stat().st_size - 1)
    assert not list(records(path))
    assert not list(records(tmp_path / "absent"))
