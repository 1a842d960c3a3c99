"""`pt:FILE`: tensors saved with torch.save, as a dict or a tuple; never anything but tensors."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from curvtool.errors import InputError
from curvtool.problem.checkpoint.kind import Kind, kind_of_file
from curvtool.problem.checkpoint.pickled import code_named_by, said_by_torch
from curvtool.problem.data.allowance import Allowance
from curvtool.problem.data.columns import Column, array_names, columns_of
from curvtool.problem.data.examples import Source
from curvtool.problem.data.files import file_of, read_kwargs, unreadable
from curvtool.problem.data.numbers import from_tensor
from curvtool.problem.spec import DataSpec
from curvtool.problem.wording import kind_of, listed

_WHAT = "tensors saved with torch.save, as {'x': x, 'y': y} or (x, y)"


def open_pt(spec: DataSpec, argument: str, allowance: Allowance) -> Callable[[], Source]:
    """Check that the file is there; what is returned maps it, always with `weights_only=True`."""
    read_kwargs(spec, {})
    path = file_of(spec, argument, "a file of torch.save")
    return lambda: _read(spec, path, allowance)


def _read(spec: DataSpec, path: Path, allowance: Allowance) -> Source:
    tensors = _tensors(_loaded(path), path)
    if spec.inputs is None and spec.targets is None and list(tensors) == ["0", "1"]:
        tensors = {"x": tensors["0"], "y": tensors["1"]}  # a pair is inputs and target
    names = array_names(spec, path, list(tensors))
    wanted = {*names.inputs, names.targets, *([names.weights] if names.weights else [])}
    made = {name: _column(tensors[name], name, path, allowance) for name in wanted}
    return Source(spec.source, columns_of(names, made, path))


def _loaded(path: Path) -> object:
    kind = kind_of_file(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TypedStorage, on legacy files
        try:
            if kind is Kind.ZIP and path.suffix != ".safetensors":
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            with path.open("rb") as file:
                return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            code = code_named_by(path, kind)
            if code:
                raise InputError(
                    f"{path}: expected {_WHAT}; the file asks to import code: {listed(code)}. "
                    f"Nothing of it was executed. Save the tensors alone."
                ) from error
            raise _damaged(path, error) from error
        except Exception as error:  # zip files, allocations and torch each have their own
            raise _damaged(path, error) from error


def _tensors(payload: object, path: Path) -> dict[str, Tensor]:
    if isinstance(payload, Mapping):
        named = {str(key): value for key, value in payload.items()}
    elif isinstance(payload, tuple | list):
        named = {str(i): value for i, value in enumerate(payload)}
    else:
        raise InputError(f"{path}: expected {_WHAT}; got {kind_of(payload)}. Save both together.")
    return {name: value for name, value in named.items() if isinstance(value, Tensor)}


def _column(tensor: Tensor, name: str, path: Path, allowance: Allowance) -> Column:
    tensor = tensor.detach()
    stored = tensor.untyped_storage().nbytes() if tensor.layout is torch.strided else tensor.numel()
    if tensor.nbytes > stored:  # an expanded view: a few bytes that pose as many
        allowance.require(path, tensor.nbytes, "tensors", "Save fewer examples.")
    return Column(
        name, tuple(tensor.shape), lambda start, stop: from_tensor(tensor[start:stop], name, path)
    )


def _damaged(path: Path, error: Exception) -> InputError:
    said = ValueError(said_by_torch(error))
    return unreadable(path, _WHAT, said, "Check that the file was copied whole, or save it again.")
