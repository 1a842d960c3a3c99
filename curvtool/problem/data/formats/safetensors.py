"""`safetensors:FILE`: named tensors, mapped and read by rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from curvtool.errors import InputError
from curvtool.problem.data.allowance import Allowance
from curvtool.problem.data.columns import Column, array_names, columns_of
from curvtool.problem.data.examples import Source
from curvtool.problem.data.files import file_of, read_kwargs, unreadable
from curvtool.problem.data.numbers import from_tensor
from curvtool.problem.libraries import library
from curvtool.problem.spec import DataSpec


def open_safetensors(spec: DataSpec, argument: str, allowance: Allowance) -> Callable[[], Source]:
    """Check that file and library are there; what is returned reads the header."""
    del allowance  # rows are read as they are used
    read_kwargs(spec, {})
    path = file_of(spec, argument, "a safetensors file")
    safetensors = library("safetensors", "safetensors", spec.source)
    return lambda: _read(spec, path, safetensors)


def _read(spec: DataSpec, path: Path, safetensors: Any) -> Source:
    try:
        opened = safetensors.safe_open(str(path), framework="pt", device="cpu")
        file = opened.__enter__()  # open for as long as its columns are
        names = array_names(spec, path, sorted(file.keys()))
        wanted = {*names.inputs, names.targets, *([names.weights] if names.weights else [])}
        made = {name: _column(file, name, path) for name in wanted}
    except InputError:
        raise
    except Exception as error:  # safetensors has its own
        raise unreadable(
            path, "a safetensors file", error, "Check that the file was copied whole."
        ) from error
    return Source(spec.source, columns_of(names, made, path))


def _column(file: Any, name: str, path: Path) -> Column:
    shape = tuple(int(n) for n in file.get_slice(name).get_shape())

    def read(start: int, stop: int) -> Any:
        part = file.get_slice(name)[start:stop] if stop > start else file.get_tensor(name)[:0]
        return from_tensor(part, name, path)

    return Column(name, shape, read)
