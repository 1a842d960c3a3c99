"""Random vectors z with E[zz'] = I, each from a stream of its own, the same on every device.

Letters: P size.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

Kind = Literal["rademacher", "gaussian"]

# Streams of one seed that must never meet: probes of one term each, probes of all terms, of
# quadrature, of sketches, and of what is held against float64.
PER_TERM, SHARED, QUADRATURE, SKETCH, ARITHMETIC = 1, 2, 3, 4, 5


def probe(
    size: int,
    *,
    kind: Kind = "rademacher",
    seed: int,
    use: int,
    sweep: int,
    term: int = 0,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """One probe, determined by (seed, use, sweep, term) alone.

    Args:
        size: P.
        kind: `rademacher` (entries +1 and -1: the diagonal adds no variance) or `gaussian`.
        seed: the run's seed, any int.
        use: what the probe is for, e.g. `PER_TERM`.
        sweep: pass over the dataset.
        term: batch within the pass.
        dtype: of the vector.
        device: where it goes; it is drawn on the CPU.

    Returns:
        A vector of shape (P,). Memory is 9 P bytes beside it while it is drawn.
    """
    # NumPy's seed sequence mixes all four numbers into 128 bits. torch's CPU generator keeps 32
    # bits of its seed, so that among 3e5 probes about ten would be drawn twice.
    stream = np.random.SeedSequence([seed % 2**64, use, sweep, term])
    bits = np.random.PCG64(stream)
    if kind == "gaussian":
        drawn = torch.float64 if dtype == torch.float64 else torch.float32
        values = np.random.Generator(bits).standard_normal(
            size, dtype=np.float64 if drawn == torch.float64 else np.float32
        )
        return torch.from_numpy(values).to(device=device, dtype=dtype)
    words = np.asarray(bits.random_raw(-(-size // 64)), dtype="<u8")  # raw output never changes
    signs = np.unpackbits(words.view(np.uint8), count=size, bitorder="little")
    return torch.from_numpy(signs).to(device).to(dtype).mul_(2).sub_(1)
