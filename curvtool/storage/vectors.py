"""Datasets as long as the flat vector of parameters: in checked chunks, row by row.

Letters: P parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curvtool.storage import axes

_CHUNK_BYTES = 4 * 2**20  # within the 1 to 16 MiB where neither seeks nor waste dominate


def add_vectors(
    group: Any, name: str, shape: Sequence[int], dtype: Any, scales: Sequence[Any], long_name: str
) -> Any:
    """Add an empty dataset whose last dimension has P elements.

    Args:
        group: h5py group.
        name: of the dataset.
        shape: ending in P.
        dtype: of its elements.
        scales: one per dimension.
        long_name: what it is.

    Returns:
        The h5py dataset, to be filled.
    """
    P = shape[-1]
    # Of even size, since the last one is stored whole.
    chunks = max(1, -(-P * np.dtype(dtype).itemsize // _CHUNK_BYTES))
    dataset = group.create_dataset(
        name,
        shape=tuple(shape),
        dtype=dtype,
        # Not compressed: the bits of an eigenvector are noise, gzip saves an eighth at great cost.
        chunks=(*[1] * (len(shape) - 1), max(1, -(-P // chunks))),
        fletcher32=True,
    )
    dataset.attrs["long_name"] = long_name
    axes.attach(dataset, scales)
    return dataset


def on_host(vector: Any) -> NDArray[Any]:
    """Return a vector for numpy, from a torch tensor on any device or from any array."""
    if hasattr(vector, "detach"):
        vector = vector.detach().cpu()
        if "bfloat16" in str(vector.dtype):  # numpy has no such type
            vector = vector.float()
        vector = vector.numpy()
    return np.asarray(vector)
