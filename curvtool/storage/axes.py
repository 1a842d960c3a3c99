"""Named axes: HDF5 dimension scales that xarray, h5netcdf, netCDF4 and HDFView all understand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np


def add_axis(group: Any, name: str, size: int) -> Any:
    """Add the axis `name` to an h5py group; it costs no storage, whatever its size.

    NetCDF's convention for a dimension without coordinates: a scale whose dataset has a shape,
    never gets a value, and says so in its name. Late allocation is what keeps 1e8 parameters
    from costing 400 MB.

    Args:
        group: h5py group that the axis and its datasets live in.
        name: of the axis, as xarray shows it.
        size: its length.

    Returns:
        The scale, for `attach`.
    """
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
    settings.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple((size,))
    h5py.h5d.create(group.id, name.encode(), h5py.h5t.IEEE_F32BE, space, settings)
    scale = group[name]
    scale.make_scale(f"This is a netCDF dimension but not a netCDF variable. {size:10d}")
    return scale


def add_coordinate(group: Any, name: str, values: Any, **attributes: str) -> Any:
    """Add an axis whose places have values: xarray selects by them, and labels plots with them.

    Args:
        group: h5py group that the axis and its datasets live in.
        name: of the axis and of its values.
        values: one-dimensional: numbers, or strings of `h5py.string_dtype()`.
        attributes: e.g. `long_name`, `units`.

    Returns:
        The scale, for `attach`.
    """
    scale = group.create_dataset(name, data=values)
    scale.attrs.update(attributes)
    scale.make_scale(name)
    return scale


def attach(dataset: Any, axes: Sequence[Any]) -> None:
    """Name the dimensions of an h5py dataset.

    Args:
        dataset: whose dimensions are to be named.
        axes: one scale per dimension, from `add_axis`.
    """
    for dimension, scale in zip(dataset.dims, axes, strict=True):
        dimension.attach_scale(scale)


def add_number(group: Any, name: str, value: float, **attributes: str) -> None:
    """Add a dataset of one number.

    Args:
        group: h5py group.
        name: of the dataset.
        value: the number, which need not be finite.
        attributes: e.g. `long_name`, `units`.
    """
    group.create_dataset(name, data=np.float64(value)).attrs.update(attributes)


def add_series(group: Any, name: str, values: Any, axes: Sequence[Any], **attributes: str) -> Any:
    """Add a small dataset with named dimensions and descriptive attributes.

    Args:
        group: h5py group.
        name: of the dataset.
        values: a numpy array.
        axes: one scale per dimension.
        attributes: e.g. `long_name`, `units`.

    Returns:
        The h5py dataset.
    """
    dataset = group.create_dataset(name, data=values)
    dataset.attrs.update(attributes)
    attach(dataset, axes)
    return dataset
