"""Checkpoints of PyTorch Lightning whose hyper-parameters are objects: their tensors alone.

`weights_only=True` refuses such a file whole, for the sake of what stands beside the weights. Here
its pickle is read with marks for every class, and tensors are made of those marks that describe
one, by this code. `load_from_checkpoint` of Lightning is never called: it would import and call
what `hyper_parameters` names.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from curvtool.errors import InputError
from curvtool.problem.checkpoint.formats.restricted import Inert, RestrictedUnpickler
from curvtool.problem.checkpoint.pickled import pickle_of_zip
from curvtool.problem.wording import first_line

_SIGN = b"pytorch-lightning_version"
_STORAGES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
_KNOWN = {"collections.OrderedDict": dict, "torch.Size": tuple}
_NOT_READ = ("optim", "lr_schedulers", "callbacks", "loops", "hyper_parameters")


def is_lightning(path: Path) -> bool:
    """Whether the pickle in a zip file of torch.save bears Lightning's version."""
    return _SIGN in pickle_of_zip(path)


def read_tensors_only(path: Path) -> dict[str, object]:
    """Read the tensors of a file that holds other objects too.

    Args:
        path: a zip file of torch.save.

    Returns:
        Its entries: tensors as they are, nothing for objects. States of the optimizer are not
        read.

    Raises:
        InputError: for a damaged file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            content = RestrictedUnpickler(
                io.BytesIO(pickle_of_zip(path)),
                known=_KNOWN,
                allowed=lambda _: True,
                persistent=_described,
            ).load()
            return _Rebuilt(archive).entries(content)
    except (Exception, RecursionError) as error:
        raise InputError(
            f"{path}: expected a whole checkpoint of PyTorch Lightning; its contents are damaged "
            f"({first_line(error)}). Copy the file again, or save the weights with "
            f'torch.save(model.state_dict(), "weights.pt").'
        ) from error


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: torch.dtype


def _described(pid: Any) -> _Storage:
    word, kind, key, _, _ = pid
    if word != "storage" or not isinstance(key, str):
        raise pickle.UnpicklingError("a storage of another form")
    return _Storage(key, _STORAGES[kind.name])


@final
@dataclass(frozen=True, eq=False)
class _Rebuilt:
    """Tensors from the marks that describe them; those on one storage share memory."""

    archive: zipfile.ZipFile
    read: dict[str, Tensor] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)

    def entries(self, values: Mapping[object, object]) -> dict[str, object]:
        """The tensors in a mapping and in those inside it."""
        self.seen.add(id(values))
        found: dict[str, object] = {}
        for key, value in values.items():
            if not isinstance(key, str) or key.lower().startswith(_NOT_READ):
                continue
            if isinstance(value, Inert):
                tensor = self.tensor(value)
                if tensor is not None:
                    found[key] = tensor
            elif isinstance(value, Mapping):
                if id(value) not in self.seen:
                    found[key] = self.entries(value)
            elif isinstance(value, str | int | float | bool):
                found[key] = value
        return found

    def tensor(self, mark: Inert) -> Tensor | None:
        """What a mark describes, or None where it is no tensor."""
        if mark.name == "torch._utils._rebuild_parameter" and isinstance(mark.arguments[0], Inert):
            return self.tensor(mark.arguments[0])
        if mark.name != "torch._utils._rebuild_tensor_v2":
            return None
        storage, offset, size, stride = mark.arguments[:4]
        numbers = self._numbers(storage)
        sane = all(type(n) is int and 0 <= n < 2**48 for n in (offset, *size, *stride))
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if not sane or (0 not in size and last >= numbers.numel()):
            raise ValueError("a tensor reaches beyond its storage")
        return numbers.as_strided(size, stride, 0 if 0 in size else offset)

    def _numbers(self, storage: _Storage) -> Tensor:
        name = f"{storage.key}:{storage.dtype}"
        if name not in self.read:
            root = next(n for n in self.archive.namelist() if n.endswith("/data.pkl"))
            content = self.archive.read(f"{root.removesuffix('.pkl')}/{storage.key}")
            whole = len(content) // storage.dtype.itemsize * storage.dtype.itemsize
            self.read[name] = (
                torch.frombuffer(bytearray(content), dtype=torch.uint8)[:whole].view(storage.dtype)
                if whole
                else torch.empty(0, dtype=storage.dtype)
            )
        return self.read[name]
