"""How a solve went: named series under the group `history`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from curvtool.results import FloatArray
from curvtool.storage import axes


def require_history(history: Mapping[str, Any], who: str) -> None:
    """Refuse series that HDF5 has no place for.

    Args:
        history: named series.
        who: asks, for the message.

    Raises:
        ValueError: for a series of more than one dimension, or a name that is a path.
    """
    for name, values in history.items():
        if np.ndim(values) != 1 or not name or "/" in name or name == ".":
            raise ValueError(
                f"{who} needs history series of one dimension under plain names, not "
                f"{name!r} of shape {np.shape(values)}"
            )


def write_history(parent: Any, history: Mapping[str, Any]) -> None:
    """Write the group `history`.

    Args:
        parent: open `h5py.File` or group.
        history: named series; each length gets an axis: `step`, `step_2`, ...
    """
    group = parent.create_group("history")
    steps: dict[int, Any] = {}
    for name, values in history.items():
        series = np.asarray(values, dtype=np.float64)
        if len(series) not in steps:
            axis = "step" if not steps else f"step_{len(steps) + 1}"
            while axis in history:
                axis += "_"
            steps[len(series)] = axes.add_axis(group, axis, len(series))
        axes.add_series(group, name, series, [steps[len(series)]])


def read_history(parent: Any) -> dict[str, FloatArray]:
    """Read the group `history`.

    Args:
        parent: open `h5py.File` or group.

    Returns:
        Its series by name.
    """
    return {name: series[...] for name, series in parent["history"].items() if not series.is_scale}
