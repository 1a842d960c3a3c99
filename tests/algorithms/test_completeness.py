from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from curvtool.algorithms.completeness import PROBE_STEPS, Seen, probe
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
        Seen(STANDARD[found], EIGENVALUES[found], np.zeros(len(found)), np.zeros(len(found))),
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


def test_a_neighbour_inside_a_gap_voids_that_gap_and_no_other() -> None:
    """The unlisted copy of 12.8 is not wanted, but the listed one's bound relies on its absence."""
    counted = Counted(diagonal(EIGENVALUES))
    seen = Seen(STANDARD[[2, 0]], EIGENVALUES[[2, 0]], np.zeros(2), np.array([1.5, 3.0]))
    for seed in range(20):
        result = probe(
            counted,
            seen,
            torch.empty((PROBE_STEPS, 100), dtype=torch.float64),
            low=-np.inf,
            high=20.0,
            steps=PROBE_STEPS,
            seed=seed,
            stream=1,
        )
        assert result.missing is None
        assert list(result.crowded) == [False, True]
        assert result.neighbour is not None
        assert abs(float(result.neighbour[1])) > 0.5
