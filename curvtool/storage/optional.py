"""Figures that a run may lack: absent from the file, None in the record.

Absent rather than NaN, since NaN is a figure too: a standard error from a single sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from curvtool.results import FloatArray
from curvtool.storage import axes


def put_attribute(group: Any, name: str, value: float | None) -> None:
    """Write an attribute where there is a value.

    Args:
        group: open `h5py.File` or group.
        name: of the attribute.
        value: a number or None.
    """
    if value is not None:
        group.attrs[name] = value


def attribute(group: Any, name: str) -> float | None:
    """Read an attribute that may be absent.

    Args:
        group: open `h5py.File` or group.
        name: of the attribute.

    Returns:
        Its number, or None.
    """
    return float(group.attrs[name]) if name in group.attrs else None


def whole_attribute(group: Any, name: str) -> int | None:
    """Read a count that may be absent.

    Args:
        group: open `h5py.File` or group.
        name: of the attribute.

    Returns:
        Its number, or None.
    """
    return int(group.attrs[name]) if name in group.attrs else None


def put_series(
    group: Any, name: str, values: FloatArray | None, scales: Sequence[Any], **attributes: str
) -> None:
    """Write a series of floats where there is one.

    Args:
        group: open `h5py.File` or group.
        name: of the dataset.
        values: an array or None.
        scales: one per dimension.
        attributes: e.g. `long_name`, `units`.
    """
    if values is not None:
        series = np.asarray(values, dtype=np.float64)
        axes.add_series(group, name, series, scales, **attributes)


def series(group: Any, name: str) -> FloatArray | None:
    """Read a series that may be absent.

    Args:
        group: open `h5py.File` or group.
        name: of the dataset.

    Returns:
        The array, or None.
    """
    found: FloatArray | None = group[name][...] if name in group else None
    return found


def number(group: Any, name: str) -> float | None:
    """Read a dataset of one number that may be absent.

    Args:
        group: open `h5py.File` or group.
        name: of the dataset.

    Returns:
        The number, or None.
    """
    return float(group[name][()]) if name in group else None
