from __future__ import annotations

import numpy as np
import pytest
import torch
from curvtool.algorithms.certify import enlargement, recurrence_defect, true_residuals

from curvtool.operators.base import Counted, FunctionOperator
from tests.algorithms.matrices import EPS64, network_like, rotated


def test_enlargement_is_the_quantile_it_claims_to_be() -> None:
    assert enlargement(2) == pytest.approx(7.96, abs=0.01)
    assert enlargement(4) == pytest.approx(2.46, abs=0.01)


@pytest.mark.parametrize("combinations", [2, 4])
def test_a_defect_is_missed_in_at_most_one_case_of_a_hundred(combinations: int) -> None:
    """One faulty pair among eight is the hardest case: no other term helps."""
    P, k, cases = 40, 8, 2000
    V = torch.eye(P, dtype=torch.float64)[:k]
    fault = torch.zeros(P, dtype=torch.float64)
    fault[20] = 1.0
    operator = FunctionOperator(lambda v: fault * v[3], P)
    missed = 0
    for seed in range(cases):
        bound = recurrence_defect(
            operator,
            V,
            np.eye(k),
            np.zeros(k),
            lambda _: torch.zeros(P, dtype=torch.float64),
            combinations=combinations,
            seed=seed,
        )
        missed += bound < 1.0
    # Expected 20 of 2000; five standard errors of a binomial above it: a false alarm in millions.
    assert missed <= 20 + 5 * (cases * 0.01 * 0.99) ** 0.5


def test_true_residuals_are_true_and_cost_a_product_each() -> None:
    known = rotated(network_like(100, seed=0), seed=0)
    counted = Counted(known.operator)
    Y = torch.linalg.qr(torch.randn(100, 4, generator=torch.Generator().manual_seed(0)).double())[
        0
    ].T
    quotients, norms = true_residuals(counted, 4, lambda i: Y[i])
    assert counted.calls == 4
    for i in range(4):
        Ay = known.matrix @ Y[i]
        assert quotients[i] == pytest.approx(float(Y[i] @ Ay), abs=1e3 * EPS64)
        assert norms[i] == pytest.approx(float((Ay - quotients[i] * Y[i]).norm()), rel=1e-12)
