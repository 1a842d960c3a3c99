from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from curvtool.algorithms.completeness import PROBE_STEPS, probe
from curvtool.operators.base import Counted
from tests.algorithms.matrices import diagonal

EIGENVALUES = np.concatenate([[12.8, 12.8, 9.0, 7.0], np.linspace(-3, 4, 96)])
STANDARD = torch.eye(100, dtype=torch.float64)


def _probe(
    found: list[int], low: float, high: float, seed: int, steps: int = PROBE_STEPS
) -> Tensor | None:
    counted = Counted(diagonal(EIGENVALUES))
    result = probe(
        counted,
        STANDARD[found],
        EIGENVALUES[found],
        torch.empty((steps, 100), dtype=torch.float64),
        low=low,
        high=high,
        steps=steps,
        seed=seed,
        stream=1,
    )
    assert result.products == counted.calls <= steps
    return result.missing


def test_a_missed_copy_is_found_from_every_start() -> None:
    for seed in range(20):
        missing = _probe([0, 2], -9.0, 9.0, seed)
        assert missing is not None
        # It leans to the missed copy, and not at all to what was found.
        assert abs(float(missing[1])) > 0.5
        assert abs(float(missing[0])) < 1e-12


def test_nothing_is_found_where_nothing_is_missing() -> None:
    for seed in range(20):
        assert _probe([0, 1, 2], -9.0, 9.0, seed) is None


def test_only_the_end_that_is_asked_for_counts() -> None:
    for seed in range(20):
        assert _probe([0, 1, 2, 3], -np.inf, 7.0, seed) is None
        assert _probe([0, 1, 2, 3], -1.0, np.inf, seed) is not None


def test_nothing_is_left_to_probe_when_all_is_found() -> None:
    assert _probe(list(range(100)), -1.0, 1.0, 0) is None
