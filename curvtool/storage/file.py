"""What every run file has, whatever its kind: the root attributes and the parameters group."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from curvtool.errors import InputError
from curvtool.results import ParameterEntry
from curvtool.storage import axes, strictjson
from curvtool.storage.digests import verify_digests, verify_header

SCHEMA = "curvtool/2"
_NEWEST = 2
# Files of the first schema have no digests, and claims of completeness that were not proved.
_FIRST = "curvtool/1"


@dataclass(frozen=True, kw_only=True)
class RunHeader:
    """The root attributes that every kind has; reading them costs a few kilobytes.

    `hvps` comes back as it was written: some kinds count parts of a product over all batches.
    """

    kind: str
    outcome: str
    hvps: float
    seconds: float
    version: str
    created: str
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    schema: str = SCHEMA


@dataclass(frozen=True)
class Foreign:
    """A path that is taken by something else than a run file this version can read."""

    reason: str


def write_header(file: Any, header: RunHeader) -> None:
    """Write the root attributes of a run file.

    Args:
        file: open `h5py.File`.
        header: what to write.
    """
    file.attrs["schema"] = header.schema
    file.attrs["kind"] = header.kind
    file.attrs["outcome"] = header.outcome
    file.attrs["hvps"] = header.hvps
    file.attrs["seconds"] = header.seconds
    file.attrs["curvtool_version"] = header.version
    file.attrs["created"] = header.created
    file.attrs["config"] = strictjson.dumps(header.config)
    file.attrs["environment"] = strictjson.dumps(header.environment)


def read_header(file: Any) -> RunHeader:
    """Read the root attributes of a run file; `OSError`, `KeyError` and kin where damaged.

    Args:
        file: open `h5py.File`.

    Returns:
        The header.
    """
    return RunHeader(
        schema=str(file.attrs["schema"]),
        kind=str(file.attrs["kind"]),
        outcome=str(file.attrs["outcome"]),
        hvps=file.attrs["hvps"].item(),
        seconds=float(file.attrs["seconds"]),
        version=str(file.attrs["curvtool_version"]),
        created=str(file.attrs["created"]),
        config=read_json(file, "config"),
        environment=read_json(file, "environment"),
    )


def read_json(file: Any, name: str) -> dict[str, Any]:
    """Read a JSON attribute that holds an object.

    Args:
        file: open `h5py.File`.
        name: of the root attribute.

    Returns:
        The object.

    Raises:
        ValueError: where it is no JSON object.
    """
    value = strictjson.loads(file.attrs[name])
    if not isinstance(value, dict):
        raise ValueError(f"attribute {name} is no JSON object")
    return value


def peek(path: Path) -> RunHeader | Foreign | None:
    """Say what lies at `path` without reading any dataset.

    Args:
        path: of a file that may or may not exist.

    Returns:
        None where there is nothing; the header where it is a run file of this schema; `Foreign`
        with a reason for anything else: another program's file, a newer schema, a damaged file.
    """
    try:
        with opened(path, whole=False) as file:
            return read_header(file)
    except InputError as error:
        return Foreign(str(error)) if _is_taken(path) else None


@contextlib.contextmanager
def opened(path: Path, *, whole: bool = True) -> Iterator[Any]:
    """Open a run file for reading; what is wrong with it becomes one sentence.

    Args:
        path: of the run file.
        whole: whether all but long datasets are held against their digests first; otherwise the
            root attributes alone are.

    Yields:
        The open `h5py.File`, its schema checked.

    Raises:
        InputError: for a path that is no file, is no run file, has a newer schema, or is damaged
            (also where that shows only while the block reads).
    """
    _require_hdf5(path)
    try:
        # Run files are renamed into place and never changed, so that a reader needs no lock;
        # asking for one fails on file systems without locks.
        with h5py.File(path, "r", locking=False) as file:
            _require_schema(path, file.attrs.get("schema"))
            if not is_earlier(file):
                _verify(file, whole=whole)
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"Cannot read {path}: expected a whole run file, but it is cut short or damaged "
            f"({str(error).strip(chr(39))}). Restore a copy, or compute the run again."
        ) from error


def is_earlier(group: Any) -> bool:
    """Whether a file is of the first schema.

    Args:
        group: of the open file, or the file itself.

    Returns:
        True for files that say less, and proved less, than those of today.
    """
    return bool(group.file.attrs["schema"] == _FIRST)


def require_kind(path: Path, found: str, expected: str) -> None:
    """Refuse a run file of another kind.

    Args:
        path: of the run file, for the message.
        found: its kind.
        expected: the kind that is needed.

    Raises:
        InputError: where they differ.
    """
    if found != expected:
        raise InputError(
            f"Cannot use {path}: expected a run of kind {expected!r}, it holds kind {found!r}. "
            f"Name a file that holds a {expected} run."
        )


def write_parameters(file: Any, parameters: Sequence[ParameterEntry]) -> None:
    """Write the map from the flat vector to named tensors as the group `parameters`.

    Args:
        file: open `h5py.File`.
        parameters: entries in the flat order.
    """
    group = file.create_group("parameters")
    rank = max((len(entry.shape) for entry in parameters), default=0)
    shapes = np.full((len(parameters), max(rank, 1)), -1, dtype=np.int64)
    for row, entry in zip(shapes, parameters, strict=True):
        row[: len(entry.shape)] = entry.shape
    tensor = axes.add_axis(group, "tensor", len(parameters))
    dimension = axes.add_axis(group, "dimension", shapes.shape[1])
    names = np.array([entry.name for entry in parameters], dtype=h5py.string_dtype())
    offsets = np.array([entry.offset for entry in parameters], dtype=np.int64)
    sizes = np.array([entry.size for entry in parameters], dtype=np.int64)
    axes.add_series(group, "name", names, [tensor], long_name="name of the tensor in the model")
    axes.add_series(
        group, "shape", shapes, [tensor, dimension], long_name="shape, -1 past the last dimension"
    )
    axes.add_series(
        group, "offset", offsets, [tensor], long_name="first element in the flat vector"
    )
    axes.add_series(group, "size", sizes, [tensor], long_name="number of elements")


def read_parameters(file: Any) -> tuple[ParameterEntry, ...]:
    """Read the group `parameters`.

    Args:
        file: open `h5py.File`.

    Returns:
        Its entries, in the flat order.
    """
    group = file["parameters"]
    columns = (group["name"].asstr()[...], group["shape"][...], group["offset"], group["size"])
    return tuple(
        ParameterEntry(
            name=name,
            shape=tuple(int(length) for length in shape if length >= 0),
            offset=int(offset),
            size=int(size),
        )
        for name, shape, offset, size in zip(*columns, strict=True)
    )


def _is_taken(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _require_hdf5(path: Path) -> None:
    try:
        taken = _is_taken(path)
    except OSError as error:  # a name too long, a folder that may not be searched
        raise InputError(
            f"Cannot read {path}: expected a run file, the path cannot be followed "
            f"({error.strerror}). Check the path and the permissions of its folders."
        ) from error
    if not taken:
        raise InputError(
            f"Cannot read {path}: expected a run file, there is none. Check the path and the "
            "working directory."
        )
    if not path.is_file():
        raise InputError(
            f"Cannot read {path}: expected a run file, this is no regular file. Name the .h5 file "
            "itself."
        )
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise InputError(
            f"Cannot read {path}: expected a readable run file, the system says "
            f"{error.strerror!r}. Mend its permissions, or name another file."
        ) from error
    if not h5py.is_hdf5(path):
        raise InputError(
            f"Cannot read {path}: expected an HDF5 run file, this is none. Name a file that "
            "curvtool wrote."
        )


def _require_schema(path: Path, schema: object) -> None:
    name, _, number = schema.partition("/") if isinstance(schema, str) else ("", "", "")
    if name != "curvtool" or not number.isdecimal():
        raise InputError(
            f"Cannot read {path}: expected a run file with the attribute schema {SCHEMA!r}; this "
            f"HDF5 file {'has schema ' + repr(schema) if schema is not None else 'has none'}, "
            "another program wrote it. Name a file that curvtool wrote."
        )
    if int(number) > _NEWEST:
        raise InputError(
            f"Cannot read {path}: this version reads schema {SCHEMA!r}, the file has "
            f"{schema!r} of a newer curvtool. Upgrade curvtool to read it."
        )


def _verify(file: Any, *, whole: bool) -> None:
    if whole:
        verify_digests(file, long=False)
    else:
        verify_header(file)
