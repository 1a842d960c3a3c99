"""Sums over the layers of a flat vector, in float64.

Letters: P parameters, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from curvtool.results import FloatArray


@final
@dataclass(frozen=True)
class Layer:
    """A named set of parameters.

    Attributes:
        name: for reports.
        slices: (offset, size) of each piece in the flat vector; pieces do not overlap.
    """

    name: str
    slices: tuple[tuple[int, int], ...]

    @property
    def size(self) -> int:
        """Parameters in it."""
        return sum(size for _, size in self.slices)


def layer_sums(x_P: Tensor, layers: Sequence[Layer]) -> Tensor:
    """Sum of a vector's entries over every layer.

    Args:
        x_P: shape (P,).
        layers: L of them; they need not cover the vector.

    Returns:
        Float64 of shape (L,), on the device and without waiting for it.
    """
    if not layers:
        return torch.zeros(0, dtype=torch.float64, device=x_P.device)
    sums = []
    for layer in layers:
        pieces = [x_P[at : at + n].sum(dtype=torch.float64) for at, n in layer.slices]
        sums.append(pieces[0] if len(pieces) == 1 else torch.stack(pieces).sum())
    return torch.stack(sums)


def sizes(layers: Sequence[Layer]) -> FloatArray:
    """Parameters of every layer, shape (L,)."""
    return np.array([layer.size for layer in layers], dtype=np.float64)


def entries(x_P: Tensor, layer: Layer) -> FloatArray:
    """The layer's entries of a vector, float64 on the host."""
    pieces = [x_P[at : at + n] for at, n in layer.slices]
    return np.asarray(torch.cat(pieces).double().cpu().numpy())


def require_inside(layers: Sequence[Layer], size: int) -> None:
    """Check that layers lie in a vector of `size` entries.

    Raises:
        ValueError: for a layer without parameters, or a slice that leaves the vector.
    """
    for layer in layers:
        inside = all(at >= 0 and n >= 0 and at + n <= size for at, n in layer.slices)
        if not layer.size or not inside:
            raise ValueError(
                f"Layer {layer.name!r} needs slices (offset, size) inside a vector of {size} "
                f"entries, got {layer.slices}."
            )
