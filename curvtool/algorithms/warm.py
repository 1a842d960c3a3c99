"""Begin a solve from the eigenvectors of a matrix nearby, as of the checkpoint before.

Krylov spaces grow from one vector. Half of the square of this one lies in the neighbour's subspace,
where a random vector of P numbers has k / P: what has to be damped is less by that from the first
step. It cannot save more than some steps, since k pairs take k products at least, and the probe and
the certificate twelve more. Multiplying every neighbour's vector first took 2.5 times as many
products as a random start (top 10 of an MLP, checkpoints 10 to 50 steps apart), blocks of two or
four combinations 1.2 and 1.4 times. Weights 1 / |theta| help the pairs that converge last.
Letters: k pairs, P parameters.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curvtool.results import FloatArray


def warm_start(theta_k: FloatArray, rows: Iterable[NDArray[np.floating]]) -> Tensor | None:
    """The start for a matrix near one whose eigenpairs are known.

    Args:
        theta_k: eigenvalues of the one nearby.
        rows: their eigenvectors, one after the other; each is let go before the next.

    Returns:
        sum y_i / |theta_i|, of unit length, shape (P,), float64 on the host; None where there is
        none. Memory is two vectors of P numbers, no products.
    """
    # A value of rounding size must not outweigh all others.
    floor = 1e-3 * float(np.abs(theta_k).max(initial=0))
    total: NDArray[np.float64] | None = None
    for theta, row in zip(theta_k, rows, strict=True):
        if floor:
            part = np.asarray(row, dtype=np.float64) / max(abs(float(theta)), floor)
            total = part if total is None else np.add(total, part, out=total)
    length = 0.0 if total is None else float(np.linalg.norm(total))
    return torch.from_numpy(total / length) if total is not None and length else None


def blurred(start_P: Tensor, random_P: Tensor) -> Tensor:
    """Add as much of everything to a start.

    What is new in a matrix may be orthogonal to all that was known of its neighbour. With a random
    vector of the same length the sum has every eigenvector as a random start has it, to sqrt(2): a
    Krylov space of it sees what one from a random start sees. With a tenth of that length the last
    wanted pairs converged before the next ones in line were seen, and a probe that then found these
    cost twelve products more in a third of the cases tried.

    Args:
        start_P: of unit length, on any device.
        random_P: likewise; says device and dtype of the result.

    Returns:
        Their sum, shape (P,).
    """
    return start_P.to(device=random_P.device, dtype=random_P.dtype) + random_P
