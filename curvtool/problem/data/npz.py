"""`npz:FILE`: arrays of a NumPy archive, read without pickle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from curvtool.errors import InputError
from curvtool.problem.checkpoint.read import file_sha256
from curvtool.problem.data.examples import InMemory, Source
from curvtool.problem.spec import DataSpec
from curvtool.problem.wording import did_you_mean, first_line, listed


def open_npz(spec: DataSpec, argument: str) -> Callable[[], Source]:
    """Check that the file is there; its arrays are read by what is returned."""
    path = spec.origin.base / argument
    if spec.kwargs:
        raise InputError(
            f"{spec.origin.label}: expected no arguments for npz:; got {listed(spec.kwargs)}. "
            f"Arrays are named by inputs = and targets = under [data] (on the command line "
            f"--data-kwargs inputs=x targets=y)."
        )
    if not path.is_file():
        folder = path.parent
        beside = [p.name for p in folder.glob("*.npz")] if folder.is_dir() else []
        raise InputError(
            f"{spec.origin.label}: expected a NumPy archive at {path}; there is no such file."
            f"{did_you_mean(path.name, beside)} Correct the path: it is relative to "
            f"{spec.origin.base.resolve()}."
        )
    return lambda: _read(spec, path)


def _read(spec: DataSpec, path: Path) -> Source:
    with _opened(path) as archive:
        inputs, targets = _names(spec, path, archive.files)
        tensors = tuple(_tensor(archive, name, path) for name in (*inputs, targets))
    names = (*inputs, targets)
    lengths = {n: t.shape[0] if t.ndim else None for n, t in zip(names, tensors, strict=True)}
    if len(set(lengths.values())) > 1 or None in lengths.values():
        described = ", ".join(f"{n} {tuple(t.shape)}" for n, t in zip(names, tensors, strict=True))
        raise InputError(
            f"{path}: expected arrays with one entry an example, so of equal length; got "
            f"{described}. Save inputs and targets of the same examples."
        )
    return Source(spec.source, InMemory(tensors), sha256=file_sha256(path))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    with ExitStack() as stack:
        try:
            # Opened here, since NumPy leaves a file open that proves to be no archive.
            loaded = np.load(stack.enter_context(path.open("rb")), allow_pickle=False)
        except Exception as error:  # numpy and zipfile each have their own
            raise _unreadable(path, error) from error
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise InputError(
                f"{path}: expected an archive of named arrays (.npz); got one bare array. Save it "
                f"with np.savez(path, x=..., y=...)."
            )
        yield stack.enter_context(loaded)


def _names(spec: DataSpec, path: Path, present: list[str]) -> tuple[tuple[str, ...], str]:
    inputs = spec.inputs or (("x",) if "x" in present else None)
    targets = spec.targets or ("y" if "y" in present else None)
    if inputs is None or targets is None:
        lacking = "inputs" if inputs is None else "targets"
        raise InputError(
            f"{path}: expected to be told which arrays are inputs and targets (x and y where they "
            f"are there); {lacking} is not set and the file has {listed(present) or 'no arrays'}. "
            f'Add under [data]: {lacking} = "NAME", or --data-kwargs {lacking}=NAME.'
        )
    for name in (*inputs, targets):
        if name not in present:
            raise InputError(
                f"{path}: expected an array {name!r}; the file has {listed(present) or 'none'}."
                f"{did_you_mean(name, present)} Correct inputs or targets under [data]."
            )
    return inputs, targets


def _tensor(archive: Any, name: str, path: Path) -> Tensor:
    try:
        array = archive[name]
    except MemoryError as error:
        raise InputError(
            f"{path}: expected arrays that fit into memory; {name!r} does not. Check that the file "
            f"is whole, or save fewer examples."
        ) from error
    except Exception as error:  # numpy, zipfile and zlib each have their own
        if "pickle" in str(error).lower() or "object array" in str(error).lower():
            raise InputError(
                f"{path}: expected arrays of numbers; {name!r} holds Python objects, which are "
                f"pickled code and never loaded. Save it with a numeric dtype."
            ) from error
        raise _unreadable(path, error) from error
    if array.dtype.kind in "iu":
        if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
            raise InputError(
                f"{path}: expected whole numbers that fit 64 bits with a sign; {name!r} holds "
                f"{array.max()}. Save smaller numbers."
            )
        return torch.from_numpy(array.astype(np.int64))
    if array.dtype.kind == "b":
        return torch.from_numpy(array)
    if array.dtype.kind == "f" and array.dtype.itemsize <= 8:
        tensor = torch.from_numpy(np.asarray(array, array.dtype.newbyteorder("="), order="C"))
        bad = int((~tensor.isfinite()).sum())
        if bad:
            raise InputError(
                f"{path}: expected finite numbers; {name!r} holds {bad:,} NaN or infinite of "
                f"{tensor.numel():,}. Clean the data, or leave those examples out."
            )
        return tensor
    raise InputError(
        f"{path}: expected arrays of integers, booleans or floats; {name!r} has dtype "
        f"{array.dtype}. Convert it before saving."
    )


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path}: expected a NumPy archive (.npz) without pickled objects; it cannot be read: "
        f"{first_line(error)}. Check that the file was copied whole, or write it again with "
        f"np.savez(path, x=..., y=...)."
    )
