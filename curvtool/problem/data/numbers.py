"""Arrays of a file as tensors: whole numbers in 64 bits, finite floats, booleans, nothing else."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from curvtool.errors import InputError

_WHOLE = frozenset({
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint16, torch.uint32, torch.uint64),
})


def numeric(dtype: np.dtype, name: str, place: object) -> None:
    """Refuse a dtype that holds no numbers, before anything of it is read.

    Args:
        dtype: of an array.
        name: of the array.
        place: the file.

    Raises:
        InputError: for Python objects, strings, dates, complex numbers, records.
    """
    if dtype.hasobject:
        raise InputError(
            f"{place}: expected arrays of numbers; {name!r} holds Python objects, which are "
            f"pickled code and never loaded. Save it with a numeric dtype."
        )
    if dtype.kind not in "iubf" or dtype.itemsize > 8 or dtype.subdtype is not None:
        raise InputError(
            f"{place}: expected arrays of integers, booleans or floats; {name!r} has dtype "
            f"{dtype}. Convert it before saving."
        )


def bytes_as_tensor(dtype: np.dtype) -> int:
    """Bytes that a number of this dtype takes as a tensor."""
    return 8 if dtype.kind in "iu" else dtype.itemsize


def from_array(array: np.ndarray, name: str, place: object) -> Tensor:
    """A NumPy array as a tensor, not copied where it need not be.

    Args:
        array: of a dtype that `numeric` lets pass.
        name: of the array, for messages.
        place: the file, for messages.

    Returns:
        A tensor of int64, bool or the array's own float.

    Raises:
        InputError: for numbers that are not finite, or do not fit 64 bits with a sign.
    """
    numeric(array.dtype, name, place)
    if array.dtype.kind in "iu":
        if array.dtype.itemsize == 8 and array.dtype.kind == "u":
            _require_signed(int(array.max()) if array.size else 0, name, place)
        return torch.from_numpy(array.astype(np.int64))
    if array.dtype.kind == "b":
        return torch.from_numpy(np.ascontiguousarray(array).copy())
    native = np.asarray(array, array.dtype.newbyteorder("="), order="C")
    writeable = native if native.flags.writeable else native.copy()
    return _finite(torch.from_numpy(writeable), name, place)


def from_tensor(tensor: Tensor, name: str, place: object) -> Tensor:
    """A stored tensor in the same form.

    Args:
        tensor: of any dtype.
        name: of the tensor, for messages.
        place: the file, for messages.

    Returns:
        A contiguous tensor of int64, bool or the tensor's own float.

    Raises:
        InputError: for complex, quantised, sparse or meta tensors, or as `from_array`.
    """
    if tensor.is_meta:
        raise InputError(
            f"{place}: expected tensors with their numbers; {name!r} was saved from the meta "
            f"device and has none. Save it from the CPU."
        )
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_complex():
        raise InputError(
            f"{place}: expected dense tensors of integers, booleans or floats; {name!r} is "
            f"{str(tensor.layout).removeprefix('torch.')}, {tensor.dtype}. Convert it before "
            f"saving."
        )
    if tensor.dtype in _WHOLE:
        if tensor.dtype is torch.uint64:
            _require_signed(int(tensor.numpy().max()) if tensor.numel() else 0, name, place)
        return tensor.to(torch.int64).contiguous()
    if tensor.dtype is torch.bool:
        return tensor.contiguous()
    if not tensor.is_floating_point() or tensor.element_size() < 2:
        raise InputError(
            f"{place}: expected tensors of integers, booleans or floats of 16 bits and more; "
            f"{name!r} has dtype {tensor.dtype}. Convert it before saving."
        )
    return _finite(tensor.contiguous(), name, place)


def _require_signed(largest: int, name: str, place: object) -> None:
    if largest > np.iinfo(np.int64).max:
        raise InputError(
            f"{place}: expected whole numbers that fit 64 bits with a sign; {name!r} holds "
            f"{largest}. Save smaller numbers."
        )


def _finite(tensor: Tensor, name: str, place: object) -> Tensor:
    bad = int((~tensor.isfinite()).sum())
    if bad:
        raise InputError(
            f"{place}: expected finite numbers; {name!r} holds {bad:,} NaN or infinite of "
            f"{tensor.numel():,}. Clean the data, or leave those examples out."
        )
    return tensor
