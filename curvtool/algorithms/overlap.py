"""How far two subspaces agree.

Letters: k rows of the first basis, l of the second, P parameters.

References:
    Björck, Golub (1973), principal angles; Gur-Ari, Roberts, Dyer (2018), the overlap of top
    Hessian subspaces at two times of a training.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from curvtool.results import FloatArray

Columns = NDArray[np.floating]


def subspace_cosines(blocks: Iterable[tuple[Columns, Columns]]) -> FloatArray:
    """Cosines of the principal angles between two subspaces.

    Args:
        blocks: columns of both orthonormal bases, shapes (k, n) and (l, n), that together are
            their P columns.

    Returns:
        The singular values of U V', decreasing, shape (min(k, l),): 1 where a direction lies in
        both. Their mean square is the overlap tr(P_U P_V) / k of Gur-Ari, Roberts and Dyer (for
        k = l). Memory is one block; 2 k l P operations, in double.
    """
    gram: FloatArray | None = None
    for first, second in blocks:
        part = first.astype(np.float64) @ second.astype(np.float64).T
        gram = part if gram is None else gram + part
    if gram is None or not gram.size:
        return np.zeros(0)
    # Stored rows are orthonormal to the rounding of their type only.
    cosines: FloatArray = np.minimum(np.linalg.svd(gram, compute_uv=False), 1.0)
    return cosines
