from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from curvtool.algorithms.diagonal import stochastic_diagonal
from curvtool.algorithms.diagonal_settings import DiagonalSettings
from curvtool.algorithms.exact_diagonal import dense_diagonal
from curvtool.errors import CurvtoolError
from curvtool.operators.base import Counted, FunctionOperator
from curvtool.operators.hessian import HessianOperator
from curvtool.results import Outcome
from tests.algorithms.matrices import EPS64, diagonal
from tests.algorithms.sums import random_sum, selected, thirds
from tests.objectives import CASES, truth

SETTINGS = DiagonalSettings(rel_err=0.2, noise=1e-14)


@pytest.mark.parametrize("sharing", ["per-batch", "shared"])
@pytest.mark.parametrize("directions", [0, 4])
def test_reaches_the_error_it_prints(sharing: str, directions: int) -> None:
    op = random_sum(40, 8, seed=1, shift=0.1)
    Y = torch.linalg.eigh(op.matrix)[1][:, -directions:].T if directions else None
    layers = thirds(40)
    asked = replace(SETTINGS, sharing=sharing, layers=layers)  # type: ignore[arg-type]
    found = stochastic_diagonal(op, asked, vectors=Y)
    expected = op.matrix.diagonal()
    assert found.outcome is Outcome.CONVERGED
    assert found.rel_err <= 0.2
    apart = np.abs(found.diagonal - expected.numpy())
    assert np.linalg.norm(apart) <= 1.5 * 0.2 * float(expected.norm())
    assert (apart <= 8 * found.diagonal_stderr).all()  # t with few degrees of freedom
    means = [float(selected(expected, layer).mean()) for layer in layers]
    assert (np.abs(found.layer_mean - means) <= 6 * found.layer_mean_stderr).all()
    whole = torch.from_numpy(found.diagonal)
    sums = [float(selected(whole, layer).sum()) for layer in layers]
    assert np.allclose(found.layer_mean * found.layer_size, sums, rtol=1e-9)
    assert found.layer_quantiles.shape == (3, 5)
    assert (np.diff(found.layer_quantiles, axis=1) >= 0).all()


def test_deflation_saves_passes() -> None:
    op = random_sum(40, 1, seed=4)
    Y = torch.linalg.eigh(op.matrix)[1][:, -4:].T
    plain = stochastic_diagonal(op, replace(SETTINGS, rel_err=0.05, max_hvps=10_000))
    taken = stochastic_diagonal(op, replace(SETTINGS, rel_err=0.05, max_hvps=10_000), vectors=Y)
    assert taken.hvps < plain.hvps / 2


def test_holds_the_diagonal_of_a_network() -> None:
    operator = HessianOperator(CASES["cnn"].objective(batch_size=4))
    found = stochastic_diagonal(operator, replace(SETTINGS, rel_err=None, max_hvps=80))
    apart = np.abs(found.diagonal - truth("cnn").diagonal().numpy())
    assert found.outcome is Outcome.CONVERGED
    assert found.hvps == 80
    assert (apart <= 6 * found.diagonal_stderr + 1e-12).all()


def test_the_dense_way_is_exact() -> None:
    op = random_sum(70, 3, seed=1, shift=0.2)
    operator = Counted(op)
    found = dense_diagonal(operator, replace(SETTINGS, layers=thirds(70)))
    assert operator.calls == found.hvps == 70
    assert np.array_equal(found.diagonal, op.matrix.diagonal().numpy())
    # Sixteen roundings of every row at least, in 2-norm over the diagonal.
    rows = float(op.matrix.norm()) / float(op.matrix.diagonal().norm())
    assert 16 * EPS64 * rows <= found.rel_err * (1 + 1e-9) <= 100 * EPS64 * rows
    assert (found.diagonal_error > 0).all()


def test_a_diagonal_matrix_is_exact_at_once() -> None:
    found = stochastic_diagonal(diagonal(np.arange(20.0)), SETTINGS)
    assert np.array_equal(found.diagonal, np.arange(20.0))
    assert not found.diagonal_stderr.any()
    single = stochastic_diagonal(diagonal(np.array([2.0])), SETTINGS)
    assert single.hvps == 1
    assert single.diagonal.tolist() == [2.0]


def test_the_limit_of_products_is_kept_and_said() -> None:
    for limit in (2, 3, 4, 9):
        found = stochastic_diagonal(
            random_sum(seed=1), replace(SETTINGS, rel_err=1e-3, max_hvps=limit)
        )
        assert found.hvps == limit
        assert found.outcome is Outcome.MAX_HVPS
        # Infinite where the diagonal may be zero, as far as so few passes say.
        assert found.rel_err > 1e-3
    with pytest.raises(ValueError, match="two passes"):
        stochastic_diagonal(
            random_sum(seed=1), replace(SETTINGS, max_hvps=3), vectors=torch.eye(30).double()[:2]
        )


def test_products_that_are_not_finite_are_refused() -> None:
    operator = FunctionOperator(lambda v: v * math.nan, 20)
    for run in (stochastic_diagonal, dense_diagonal):
        with pytest.raises(CurvtoolError, match="not finite"):
            run(operator, SETTINGS)
