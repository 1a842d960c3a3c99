"""`npz:FILE`: arrays of a NumPy archive, read without pickle."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from curvtool.errors import InputError
from curvtool.problem.data.allowance import Allowance
from curvtool.problem.data.columns import Column, array_names, columns_of
from curvtool.problem.data.examples import Source
from curvtool.problem.data.files import file_of, read_kwargs, unreadable
from curvtool.problem.data.numbers import bytes_as_tensor, from_array, numeric
from curvtool.problem.spec import DataSpec

_BARE = b"\x93NUMPY"
_WHAT = "a NumPy archive (.npz) without pickled objects"
_REMEDY = (
    "Check that the file was copied whole, or write it again with np.savez(path, x=..., y=...)."
)


def open_npz(spec: DataSpec, argument: str, allowance: Allowance) -> Callable[[], Source]:
    """Check that the file is there; its arrays are read by what is returned."""
    read_kwargs(spec, {})
    path = file_of(spec, argument, "a NumPy archive")
    return lambda: _read(spec, path, allowance)


def _read(spec: DataSpec, path: Path, allowance: Allowance) -> Source:
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = {
                name.removesuffix(".npy"): name
                for name in archive.namelist()
                if name.endswith(".npy")
            }
            names = array_names(spec, path, list(members))
            wanted = [*names.inputs, names.targets, *([names.weights] if names.weights else [])]
            needed = sum(_size_of(archive, members[n], n, path) for n in set(wanted))
            allowance.require(
                path, needed, "arrays", "Save fewer examples, or give them by hdf5: or npy:."
            )
            made = {name: _column(archive, members[name], name, path) for name in set(wanted)}
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(
            f"{path}: expected arrays that fit into memory; they do not. Check that the file is "
            f"whole, or save fewer examples."
        ) from error
    except Exception as error:  # numpy, zipfile and zlib each have their own
        if _is_bare(path):
            raise InputError(
                f"{path}: expected an archive of named arrays (.npz); got one bare array. Save it "
                f"with np.savez(path, x=..., y=...), or give it by npy:."
            ) from error
        raise unreadable(path, _WHAT, error, _REMEDY) from error
    return Source(spec.source, columns_of(names, made, path))


def _is_bare(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_BARE)) == _BARE


def _size_of(archive: zipfile.ZipFile, member: str, name: str, path: Path) -> int:
    """Bytes of an array as its header declares them, which must be those that the archive has."""
    info = archive.getinfo(member)
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        header = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = header(file)
        numeric(dtype, name, path)
        declared = math.prod(shape) * dtype.itemsize
        if declared != info.file_size - file.tell():
            raise ValueError(
                f"{name!r} declares {declared:,} bytes of numbers and has "
                f"{info.file_size - file.tell():,}"
            )
    return max(declared, math.prod(shape) * bytes_as_tensor(dtype))


def _column(archive: zipfile.ZipFile, member: str, name: str, path: Path) -> Column:
    with archive.open(member) as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
        file.read(1)  # the checksum is compared at the end
    # Kept as narrow as it came: pictures in bytes are widened batch by batch.
    return Column(name, array.shape, lambda start, stop: from_array(array[start:stop], name, path))
