"""What a run saves while it goes on: records appended to a file, each with a checksum.

A file is a row of records and nothing else. Whatever a kill, a full disk or a loss of power leaves
behind the last whole record is detected when it is read, and overwritten when the run goes on.

    magic (4)  length of meta (4)  length of payload (8)  crc32 of all else (4)  meta  payload

Meta is JSON; the payload is the bytes of its arrays, one after the other. All numbers are little
endian.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = Mapping[str, Array]

_MAGIC = b"CTJ1"
_HEAD = struct.Struct("<4sIQI")
# A damaged length must not make the reader ask for more memory than the machine has.
_LONGEST_META = 2**24


@final
@dataclass(frozen=True, eq=False)
class Record:
    """One entry.

    Attributes:
        kind: what it holds, `product` for example.
        key: which one, as far as its maker can name it.
        digest: of what it was made from; empty where the key says it all.
        arrays: the content.
        more: further values that JSON can hold.
    """

    kind: str
    key: str = ""
    digest: str = ""
    arrays: Arrays = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Memory of the arrays."""
        return sum(array.nbytes for array in self.arrays.values())


def encoded(record: Record) -> list[bytes | memoryview]:
    """The record's bytes, in parts; the arrays are not copied.

    Args:
        record: to write.

    Returns:
        Head, meta and the arrays' memory.
    """
    arrays = {n: np.asarray(a, order="C") for n, a in record.arrays.items()}
    described = [[n, a.dtype.str, list(a.shape)] for n, a in arrays.items()]
    meta = json.dumps({
        "kind": record.kind,
        "key": record.key,
        "digest": record.digest,
        "arrays": described,
        "more": record.more,
    }).encode()
    parts = [a.reshape(-1).view(np.uint8).data for a in arrays.values() if a.nbytes]
    lengths = len(meta), sum(map(len, parts))
    return [_HEAD.pack(_MAGIC, *lengths, _checksum(lengths, meta, parts)), meta, *parts]


def read_record(file: BinaryIO) -> Record | None:
    """Read the record that begins where the file stands.

    Args:
        file: open for reading.

    Returns:
        The record; None at the end, and where what follows is cut short or damaged.
    """
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    magic, meta_length, length, checksum = _HEAD.unpack(head)
    left = os.fstat(file.fileno()).st_size - file.tell()
    if magic != _MAGIC or meta_length > _LONGEST_META or meta_length + length > left:
        return None
    meta, payload = file.read(meta_length), bytearray(length)
    if file.readinto(payload) != length:  # type: ignore[attr-defined]
        return None
    if _checksum((meta_length, length), meta, [payload]) != checksum:
        return None
    described = json.loads(meta)
    arrays: dict[str, Array] = {}
    offset = 0
    for name, kind, shape in described["arrays"]:
        count = int(np.prod(shape, dtype=np.int64))
        dtype = np.dtype(kind)
        # Of the bytearray's memory, which is writable and nobody else's.
        arrays[name] = np.frombuffer(payload, dtype, count, offset).reshape(shape)
        offset += count * dtype.itemsize
    return Record(
        described["kind"], described["key"], described["digest"], arrays, described["more"]
    )


def _checksum(
    lengths: tuple[int, int], meta: bytes, parts: Sequence[memoryview | bytearray]
) -> int:
    found = zlib.crc32(meta, zlib.crc32(repr(lengths).encode()))
    for part in parts:
        found = zlib.crc32(part, found)
    return found


@final
class Journal:
    """A file of records that is read to its end first, and appended to from then on.

    Attributes:
        path: of the file, which the first `write` makes.
        count: records taken and added so far.
        bytes_waiting: memory of the records that were added and are not in the file yet.
        reading: whether there may be more to read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self.bytes_waiting = 0
        self._waiting: list[Record] = []
        self._end = 0  # of the last record that was taken or written
        self._next: tuple[Record, int] | None = None
        self._reader: BinaryIO | None = None
        self._writer: BinaryIO | None = None
        self.reading = True

    def following(self) -> Record | None:
        """The next record, which stays the next one; None where the file has no more."""
        if self._next is None and self.reading:
            self._next = self._read()
            if self._next is None:
                self.drop_rest()
        return self._next[0] if self._next else None

    def take(self) -> None:
        """Go on to the record behind the next one."""
        assert self._next is not None
        self._end, self._next = self._next[1], None
        self.count += 1

    def drop_rest(self) -> None:
        """Read no further; what is left is overwritten by the first `write`."""
        self.reading, self._next = False, None
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def add(self, record: Record) -> None:
        """Append a record, in memory until `write`; whatever was left to be read is dropped."""
        if self.reading:
            self.drop_rest()
        self._waiting.append(record)
        self.bytes_waiting += record.bytes
        self.count += 1

    def write(self) -> None:
        """Append what waits to the file, and see it on the disk.

        Raises:
            OSError: where that fails; nothing is lost then, and it may be tried again.
        """
        if not self._waiting:
            return
        if self._writer is None:
            is_new = not self.path.exists()
            self._writer = self.path.open("wb" if is_new else "r+b", buffering=0)
            if is_new:
                sync_folder(self.path.parent)
        # What a kill or an earlier failure left behind the last record.
        self._writer.truncate(self._end)
        self._writer.seek(self._end)
        for record in self._waiting:
            for part in encoded(record):
                _write_all(self._writer, part)
        os.fsync(self._writer.fileno())
        self._end = self._writer.tell()
        self.forget_waiting()

    def forget_waiting(self) -> None:
        """Free the memory of what waits, which is not written any more."""
        self._waiting.clear()
        self.bytes_waiting = 0

    def close(self) -> None:
        """Let go of the file; what waits is lost."""
        for file in (self._reader, self._writer):
            if file is not None:
                with contextlib.suppress(OSError):
                    file.close()
        self._reader = self._writer = None
        self.reading = False

    def _read(self) -> tuple[Record, int] | None:
        if self._reader is None:
            try:
                self._reader = self.path.open("rb")
            except FileNotFoundError:
                return None
        self._reader.seek(self._end)
        record = read_record(self._reader)
        return None if record is None else (record, self._reader.tell())


def records(path: Path) -> Iterator[Record]:
    """The whole records at the beginning of a file.

    Args:
        path: of the file; it need not exist.

    Yields:
        Records up to the first that is damaged.
    """
    journal = Journal(path)
    try:
        while (record := journal.following()) is not None:
            journal.take()
            yield record
    finally:
        journal.close()


def write_whole(path: Path, record: Record) -> None:
    """Write a file of one record in place; a kill leaves one that reads as none.

    Args:
        path: of the file.
        record: its content.

    Raises:
        OSError: where that fails.
    """
    with path.open("wb", buffering=0) as file:
        for part in encoded(record):
            _write_all(file, part)
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """See to it that new names in a folder survive a loss of power, where it can be opened."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(file: BinaryIO, part: bytes | memoryview) -> None:
    view = memoryview(part)
    while view:
        view = view[file.write(view) :]
