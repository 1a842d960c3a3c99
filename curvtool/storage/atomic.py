"""Whole files or none: written beside, flushed to the disk, renamed into place."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any, final

import h5py

from curvtool.errors import InputError
from curvtool.storage.digests import write_digests


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Any]:
    """Open an HDF5 file beside `path` that takes its place when the block ends well.

    What the block wrote is digested (`digests`), where it is a run file.

    A reader finds the old file or the new one, whole, even after SIGKILL or loss of power. After
    any exception `path` is as it was and nothing is left beside it; only SIGKILL leaves a
    `.<name>.partial`, which the next write to `path` overwrites.

    Args:
        path: file to create or replace. Its folder must exist.

    Yields:
        The open `h5py.File`.

    Raises:
        InputError: where the folder is missing or read-only, or the disk is full.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with _locked(path.parent) as folder:
            try:
                with partial.open("w+b", buffering=0) as raw:
                    disk = _Disk(raw)
                    # The default libver: what `latest` writes cannot be opened after a crash.
                    with h5py.File(disk, "w") as file:
                        yield file
                        # After a write that failed there may be nothing to read.
                        if "schema" in file.attrs and disk.error is None:
                            write_digests(file)
                    if disk.error is not None:
                        raise disk.error
                    os.fsync(raw.fileno())
                os.replace(partial, path)
                os.fsync(folder)
            finally:
                partial.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"Cannot write the run file {path}: its folder must exist, be writable and have room; "
            f"the system says {error.strerror or str(error)!r}. Mend that, or name another file."
        ) from error


@final
class _Disk:
    """The file as HDF5 sees it: writes never fail, the first failure is kept in `error`.

    HDF5 that meets a failed write tries again whenever something is closed, complains on stderr
    from destructors, and ends the process with a segmentation fault (seen in 2.0).
    """

    def __init__(self, raw: FileIO) -> None:
        self.error: OSError | None = None
        self.read, self.readinto = raw.read, raw.readinto
        self.seek, self.tell, self.flush = raw.seek, raw.tell, raw.flush
        self._raw = raw

    def write(self, data: Any) -> None:
        view = memoryview(data).cast("B")
        try:
            while view and self.error is None:
                view = view[self._raw.write(view) :]
        except OSError as error:
            self.error = error

    def truncate(self, size: int) -> None:
        try:
            self._raw.truncate(size)
        except OSError as error:
            self.error = self.error or error


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """Hold `folder` open, and locked where the file system can.

    The same command started twice ends twice at the same moment: without the lock one process
    would rename the other's half-written file.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # NFS and some Lustre mounts lock no folders
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)  # releases the lock
