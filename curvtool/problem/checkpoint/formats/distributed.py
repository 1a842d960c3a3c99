"""Folders of torch.distributed.checkpoint: tensors alone, with an unpickler of our own.

Torch's reader unpickles `.metadata` without protection, and values that are no tensors likewise.
Here `.metadata` is read with marks for the few classes it needs, anything else is refused, and of
the data files only the pieces of tensors are opened, each with `weights_only=True`.
"""

from __future__ import annotations

import io
import math
import mmap
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from curvtool.errors import InputError
from curvtool.problem.checkpoint.content import Content
from curvtool.problem.checkpoint.formats.members import member, require_inside
from curvtool.problem.checkpoint.formats.nesting import measure
from curvtool.problem.checkpoint.formats.restricted import Inert, NotAllowed, RestrictedUnpickler
from curvtool.problem.checkpoint.kind import is_stored_zip
from curvtool.problem.checkpoint.pickled import said_by_torch
from curvtool.problem.wording import listed

METADATA = ".metadata"
_PACKAGE = "torch.distributed.checkpoint"
_MARKED = {
    *(
        f"{_PACKAGE}.metadata.{name}"
        for name in (
            *("Metadata", "TensorStorageMetadata", "BytesStorageMetadata", "ChunkStorageMetadata"),
            *("TensorProperties", "MetadataIndex", "StorageMeta", "_MEM_FORMAT_ENCODING"),
        )
    ),
    *(f"{_PACKAGE}.filesystem.{name}" for name in ("_StorageInfo", "_StoragePrefix")),
    *("torch.serialization._get_layout", "pathlib.PosixPath", "pathlib.Path"),
    *("pathlib._local.PosixPath", "torch.device"),
}
_DTYPES = {str(d): d for d in vars(torch).values() if isinstance(d, torch.dtype)}
_KNOWN: dict[str, Any] = {"collections.OrderedDict": dict, "torch.Size": tuple, **_DTYPES}
_MOST_METADATA = 2**30
_SAVE = (
    "Convert it where you trust it: `python -m torch.distributed.checkpoint.format_utils "
    "dcp_to_torch FOLDER weights.pt`."
)


def read_distributed(folder: Path) -> Content:
    """Read the tensors of a folder, whatever number of processes wrote it.

    States of the optimizer and values that are no tensors are not read.

    Args:
        folder: with `.metadata` and its data files.

    Returns:
        The tensors, nested as they were saved.

    Raises:
        InputError: for a `.metadata` that asks for code, for pieces that do not make the tensors
            they belong to, and for files that are not there or elsewhere.
    """  # noqa: DOC501  # _damaged is not itself an exception
    path = folder / METADATA
    require_inside(path, folder)
    metadata = _metadata(path)
    try:
        entries = _described(metadata)
        pieces = _pieces(metadata)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise _damaged(path, error) from error
    wanted = {name: entry for name, entry in entries.items() if not _of_optimizer(entry.place)}
    if not wanted:
        raise InputError(
            f"{path}: expected weights; the folder has none but states of an optimizer or no "
            f"tensors at all ({listed(entries, most=4) or 'no tensors'}). Save the model too."
        )
    files = {
        piece.file: member(folder, piece.file, named_by=path)
        for name, _, piece in pieces
        if name in wanted
    }
    room = sum(file.stat().st_size for file in files.values())
    if sum(entry.bytes for entry in wanted.values()) > room:
        raise InputError(
            f"{path}: expected tensors that fill the folder's {room:,} bytes; it describes more. "
            f"Copy the whole folder again."
        )
    try:
        tensors = _assembled(wanted, pieces, files)
    except Exception as error:
        raise _damaged(path, error) from error
    return Content(_nested(wanted, tensors), (path, *(files[name] for name in sorted(files))))


@dataclass(frozen=True)
class _Entry:
    """A tensor as described: its place in what was saved, its shape, its kind."""

    place: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class _Piece:
    """A part of a tensor in a file."""

    file: str
    start: int
    length: int


def _metadata(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > _MOST_METADATA:
            raise ValueError(f"{path.stat().st_size:,} bytes")
        with path.open("rb") as file:
            found = RestrictedUnpickler(
                file, known=_KNOWN, allowed=lambda name: name in _MARKED
            ).load()
    except OSError as error:
        raise InputError(
            f"{path}: expected a readable file; the system says {error.strerror}. Check its "
            f"permissions."
        ) from error
    except NotAllowed as error:
        raise InputError(
            f"{path}: expected the description of tensors; the file asks to import code: {error}. "
            f"Nothing of it was executed. Do not load this folder in torch, which would run it."
        ) from error
    except Exception as error:
        raise _damaged(path, error) from error
    if not isinstance(found, Inert) or not isinstance(found.state, dict):
        raise _damaged(path, ValueError("no description of a checkpoint"))
    return found.state


def _damaged(path: Path, error: BaseException) -> InputError:
    return InputError(
        f"{path}: expected a folder of torch.distributed.checkpoint; it is damaged, or of a form "
        f"not known here ({type(error).__name__}: {said_by_torch(error)}). Copy the whole folder "
        f"again. {_SAVE}"
    )


def _described(metadata: Mapping[str, Any]) -> dict[str, _Entry]:
    places = metadata.get("planner_data")
    places = places if isinstance(places, dict) else {}
    entries = {}
    for name, entry in metadata["state_dict_metadata"].items():
        if entry.name != f"{_PACKAGE}.metadata.TensorStorageMetadata":
            continue
        properties = entry.state["properties"].state
        dtype = properties[0] if isinstance(properties, tuple) else properties["dtype"]
        place = places.get(name, (name,))
        if not (isinstance(place, tuple) and place and isinstance(dtype, torch.dtype)):
            raise TypeError(f"the entry {name!r}")
        entries[str(name)] = _Entry(tuple(map(str, place)), _sizes(entry.state["size"]), dtype)
    return entries


def _sizes(values: object) -> tuple[int, ...]:
    if not isinstance(values, tuple | list) or len(values) > 64:
        raise TypeError("a shape")
    if not all(type(n) is int and 0 <= n < 2**48 for n in values):
        raise ValueError(f"the shape {values!r:.80}")
    return tuple(values)


def _pieces(metadata: Mapping[str, Any]) -> list[tuple[str, tuple[int, ...] | None, _Piece]]:
    """Name of the tensor, where the piece begins in it, and where it lies."""
    found = []
    for index, info in metadata["storage_data"].items():
        where = info.state
        if where.get("transform_descriptors"):
            raise ValueError(f"data packed by {where['transform_descriptors']!r:.80}")
        offset = index.state.get("offset")
        if not isinstance(where["relative_path"], str):
            raise TypeError("the name of a file")
        piece = _Piece(where["relative_path"], *_sizes((where["offset"], where["length"])))
        found.append((str(index.state["fqn"]), None if offset is None else _sizes(offset), piece))
    return found


def _of_optimizer(place: tuple[str, ...]) -> bool:
    return place[0].lower().startswith("optim")


def _assembled(
    wanted: Mapping[str, _Entry],
    pieces: list[tuple[str, tuple[int, ...] | None, _Piece]],
    files: Mapping[str, Path],
) -> dict[str, Tensor]:
    tensors = {name: torch.empty(entry.shape, dtype=entry.dtype) for name, entry in wanted.items()}
    filled = dict.fromkeys(wanted, 0)
    corners: set[tuple[str, tuple[int, ...]]] = set()
    boxes: dict[str, list[tuple[tuple[int, ...], tuple[int, ...]]]] = {name: [] for name in wanted}
    for name, offset, piece in pieces:
        if name not in wanted:
            continue
        target = tensors[name]
        start = offset or (0,) * target.dim()
        if (name, start) in corners:
            raise ValueError(f"{name} has two pieces at {start}")
        corners.add((name, start))
        part = _part(files[piece.file], piece)
        end = tuple(s + n for s, n in zip(start, part.shape, strict=True))
        if part.dtype != target.dtype or any(e > n for e, n in zip(end, target.shape, strict=True)):
            raise ValueError(f"a piece of {name} does not fit it")
        if any(_overlap((start, end), other) for other in boxes[name]):
            raise ValueError(f"pieces of {name} overlap")
        boxes[name].append((start, end))
        target[tuple(slice(s, e) for s, e in zip(start, end, strict=True))] = part
        filled[name] += part.numel()
    short = [name for name, entry in wanted.items() if filled[name] != math.prod(entry.shape)]
    if short:
        raise ValueError(f"pieces are missing of {listed(short, most=4)}")
    return tensors


def _overlap(
    a: tuple[tuple[int, ...], tuple[int, ...]], b: tuple[tuple[int, ...], tuple[int, ...]]
) -> bool:
    return all(
        start < other_end and other_start < end
        for start, end, other_start, other_end in zip(*a, *b, strict=True)
    )


def _part(path: Path, piece: _Piece) -> Tensor:
    with _bytes_of(path, piece) as content:
        if is_stored_zip(io.BytesIO(content), len(content)):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                pickled = [n for n in archive.namelist() if n.endswith("/data.pkl")]
                measure(io.BytesIO(archive.read(pickled[0])))
            part = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        else:
            from safetensors.torch import load  # the other serialisation that torch writes

            part = next(iter(load(content).values()))
    if not isinstance(part, Tensor):
        raise TypeError(f"a piece of {path.name} is no tensor")
    return part.detach()


@contextmanager
def _bytes_of(path: Path, piece: _Piece) -> Iterator[bytes]:
    size = path.stat().st_size
    if piece.start + piece.length > size or not piece.length:
        raise ValueError(f"{path.name} ends after {size:,} bytes")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        yield mapped[piece.start : piece.start + piece.length]


def _nested(wanted: Mapping[str, _Entry], tensors: Mapping[str, Tensor]) -> dict[str, object]:
    """The tensors in the dicts that they were in."""
    payload: dict[str, Any] = {}
    for name, entry in wanted.items():
        *outer, last = entry.place
        at = payload
        for key in outer:
            at = at.setdefault(key, {})
            if not isinstance(at, dict):
                break
        else:
            at[last] = tensors[name]
            continue
        payload[name] = tensors[name]
    return payload
