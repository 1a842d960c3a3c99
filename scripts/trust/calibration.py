"""Statements that are false now and then: a copy of the last value but one, hidden from the list.

Spikes two per cent apart over nothing much, each listed but for the copy. What the probe says of
the list is false whenever it does not see the copy. Letters: P size, k listed.
"""

from __future__ import annotations

import numpy as np
import torch

from curvtool.algorithms.completeness import Held, probe, stated
from curvtool.algorithms.space import Space
from curvtool.operators.base import CPU, FunctionOperator

P, K = 500, 20


def false_at(seed: int, chance: float) -> bool:
    """Whether the statement that a probe makes of such a list is false."""
    rng = np.random.default_rng([seed, 77])
    spikes = np.asarray(1 + 0.02 * np.arange(K)[::-1], dtype=np.float64)
    bulk = rng.uniform(0, 0.5, P - K - 1)
    diagonal = np.concatenate([spikes, [spikes[-2]], bulk])
    rows = torch.eye(P, dtype=torch.float64)[:K]
    held = Held(
        rows=rows,
        theta=spikes,
        R=np.zeros((K, 1)),
        k=K,
        which="LA",
        tol=1e-4,
        largest=float(spikes[0]),
        noise=0.0,
    )
    operator = FunctionOperator(lambda v: torch.from_numpy(diagonal) * v, P)
    start = torch.from_numpy(rng.standard_normal(P))
    start[:K] = 0
    start /= start.norm()
    scratch = Space(P, dtype=torch.float64, device=CPU).empty(60)
    found = probe(operator, held, start, scratch, chance=chance, cap=60, most=60)
    if found.seen:
        return False
    statement, _ = stated(held, found, P, chance=chance, spent=found.products, found=0)
    end = statement.upper
    assert end is not None
    assert end.nothing_beyond is not None
    beyond = int((diagonal > end.nothing_beyond).sum())
    return statement.complete or beyond > end.proved_rank
