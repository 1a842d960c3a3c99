"""`hdf5:FILE`: datasets of an HDF5 file, read by rows; no other file is followed from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from curvtool.errors import InputError
from curvtool.problem.data.allowance import Allowance
from curvtool.problem.data.columns import Column, array_names, columns_of
from curvtool.problem.data.examples import Source
from curvtool.problem.data.files import file_of, read_kwargs, unreadable
from curvtool.problem.data.numbers import from_array, numeric
from curvtool.problem.spec import DataSpec

# Chunks stay in memory until rows beside them were read, which come next.
_CHUNK_CACHE = 2**26
# No filter packs tighter than a thousand to one; what was never written is of no use.
_MOST_PACKED = 10_000
_MOST_NAMES = 10_000


def open_hdf5(spec: DataSpec, argument: str, allowance: Allowance) -> Callable[[], Source]:
    """Check that the file is there; what is returned opens it. Names may be paths: group/x."""
    del allowance  # rows are read as they are used
    read_kwargs(spec, {})
    path = file_of(spec, argument, "an HDF5 file")
    return lambda: _read(spec, path)


def _read(spec: DataSpec, path: Path) -> Source:
    import h5py

    try:
        # Open for as long as its columns are.
        file = h5py.File(path, "r", rdcc_nbytes=_CHUNK_CACHE)
        present = _datasets(file, h5py)
        names = array_names(spec, path, present)
        wanted = {*names.inputs, names.targets, *([names.weights] if names.weights else [])}
        made = {name: _column(file[name], name, path) for name in wanted}
    except InputError:
        raise
    except Exception as error:  # h5py raises OSError, KeyError, RuntimeError, TypeError
        raise _damaged(path, error) from error
    return Source(spec.source, columns_of(names, made, path))


def _datasets(file: Any, h5py: Any) -> list[str]:
    """Names of the datasets by hard links; links to other files are not followed."""
    found: list[str] = []
    seen: set[Any] = set()
    groups = [("", file)]
    while groups and len(found) < _MOST_NAMES:
        prefix, group = groups.pop()
        # A group may hold itself.
        identity = h5py.h5o.get_info(group.id)
        if (identity.fileno, identity.addr) in seen:
            continue
        seen.add((identity.fileno, identity.addr))
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue
            item = group[name]
            if isinstance(item, h5py.Dataset):
                found.append(prefix + name)
            elif isinstance(item, h5py.Group):
                groups.append((f"{prefix}{name}/", item))
    return sorted(found)


def _column(dataset: Any, name: str, path: Path) -> Column:
    numeric(dataset.dtype, name, path)
    if dataset.is_virtual or dataset.external:
        raise InputError(
            f"{path}: expected datasets that are in the file; {name!r} names other files, which "
            f"are not followed. Copy it into one file (h5repack)."
        )
    shape = tuple(int(n) for n in dataset.shape or ())
    declared = math.prod(shape) * dataset.dtype.itemsize
    if declared > _MOST_PACKED * max(path.stat().st_size, 1):
        raise InputError(
            f"{path}: expected datasets whose numbers are in the file; {name!r} of shape {shape} "
            f"declares {declared:,} bytes in a file of {path.stat().st_size:,}. Write its numbers."
        )

    def read(start: int, stop: int) -> Any:
        try:
            rows = dataset[start:stop]
        except Exception as error:  # filters have their own
            raise _damaged(path, error) from error
        return from_array(rows, name, path)

    return Column(name, shape, read)


def _damaged(path: Path, error: Exception) -> InputError:
    return unreadable(path, "an HDF5 file", error, "Check that the file was copied whole.")
