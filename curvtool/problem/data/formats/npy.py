"""`npy:FILE` or `npy:FOLDER`: bare NumPy arrays, mapped rather than read, without pickle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from curvtool.errors import InputError
from curvtool.problem.data.allowance import Allowance
from curvtool.problem.data.columns import Column, array_names, columns_of
from curvtool.problem.data.examples import Source
from curvtool.problem.data.files import file_of, folder_of, read_kwargs, unreadable
from curvtool.problem.data.numbers import from_array, numeric
from curvtool.problem.spec import DataSpec

_SUFFIX = ".npy"


def open_npy(spec: DataSpec, argument: str, allowance: Allowance) -> Callable[[], Source]:
    """Find the arrays: a folder's by their names, or files that inputs and targets name.

    Args:
        spec: the data; `inputs` and `targets` name files, x.npy and y.npy where they are there.
        argument: the folder; or the file of the inputs, beside which the others are.
        allowance: not consulted, since what is mapped takes no memory.

    Returns:
        What maps them.
    """
    del allowance
    read_kwargs(spec, {})
    if argument.endswith(_SUFFIX):
        first = file_of(spec, argument, "a NumPy array")
        folder = first.parent
        inputs: tuple[str, ...] | None = spec.inputs or (first.stem,)
    else:
        folder, inputs = folder_of(spec, argument, "a folder of NumPy arrays"), spec.inputs
    return lambda: _read(spec, folder, inputs)


def _read(spec: DataSpec, folder: Path, inputs: tuple[str, ...] | None) -> Source:
    # Names of files with or without their ending: targets = "labels.npy" is what people write.
    plain = DataSpec(
        spec.source,
        spec.origin,
        inputs=inputs and tuple(name.removesuffix(_SUFFIX) for name in inputs),
        targets=spec.targets and spec.targets.removesuffix(_SUFFIX),
        weights=spec.weights and spec.weights.removesuffix(_SUFFIX),
    )
    present = sorted(path.stem for path in folder.glob(f"*{_SUFFIX}"))
    names = array_names(plain, folder, present)
    wanted = {*names.inputs, names.targets, *([names.weights] if names.weights else [])}
    made = {name: _column(folder / f"{name}{_SUFFIX}", name) for name in wanted}
    return Source(spec.source, columns_of(names, made, folder))


def _column(path: Path, name: str) -> Column:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy and the system each have their own
        if "object" in str(error).lower():
            raise InputError(
                f"{path}: expected an array of numbers; it holds Python objects, which are pickled "
                f"code and never loaded. Save it with a numeric dtype."
            ) from error
        raise unreadable(
            path,
            "a NumPy array (.npy) without pickled objects",
            error,
            "Check that the file was copied whole, or write it again with np.save(path, array).",
        ) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise InputError(
            f"{path}: expected a bare array (.npy); got an archive of several. Give it by npz:."
        )
    numeric(array.dtype, name, path)
    return Column(name, array.shape, lambda start, stop: from_array(array[start:stop], name, path))
