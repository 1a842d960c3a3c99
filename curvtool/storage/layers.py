"""The group `layers`: one group for each layer under its place, its name as an attribute.

A layer may be called anything, `a/b` too, which HDF5 would take for a path. One group each, and
no axis over all, since layers differ in size, steps and grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np

from curvtool.storage import axes


def add_layers(file: Any, names: Sequence[str]) -> tuple[Any, list[Any]]:
    """Add a group for each layer, and the list of their names beside them.

    Args:
        file: open `h5py.File`.
        names: of the layers.

    Returns:
        The scale `layers/layer`, for figures of all layers, and the groups in the order of
        `names`.
    """
    parent = file.create_group("layers")
    layer = add_layer_axis(parent, names)
    groups = [parent.create_group(str(i)) for i in range(len(names))]
    for group, name in zip(groups, names, strict=True):
        group.attrs["layer"] = name
    return layer, groups


def read_layers(file: Any) -> list[tuple[str, Any]]:
    """Find the groups of the layers.

    Args:
        file: open `h5py.File`.

    Returns:
        Name and group of each, in their order.
    """
    parent = file["layers"]
    names = parent["layer"].asstr()[...]
    return [(str(name), parent[str(i)]) for i, name in enumerate(names)]


def add_layer_axis(group: Any, names: Sequence[str]) -> Any:
    """Add the axis `layer`, whose places are called by name.

    Args:
        group: open `h5py.File` or group.
        names: of the layers.

    Returns:
        The scale.
    """
    return axes.add_coordinate(
        group, "layer", np.array(names, dtype=h5py.string_dtype()), long_name="name of the layer"
    )
