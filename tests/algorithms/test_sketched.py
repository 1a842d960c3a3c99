from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from curvlinops import hutchpp_trace
from curvlinops import xtrace as their_xtrace

from curvtool.algorithms.estimation import TraceSettings
from curvtool.algorithms.sketched import hutch_plus_plus, xtrace
from curvtool.errors import CurvtoolError
from curvtool.operators.base import Counted, FunctionOperator
from curvtool.results import Outcome
from tests.algorithms.matrices import EPS64, diagonal, rotated
from tests.algorithms.sums import thirds

P = 100
SPECTRA = {
    "exponential": 0.7 ** np.arange(P),
    "polynomial": np.arange(1.0, P + 1) ** -2,
    "step": np.concatenate([np.ones(8), np.full(P - 8, 1e-3)]),
}
METHODS = {"hutch++": hutch_plus_plus, "xtrace": xtrace}
THEIRS = {"hutch++": hutchpp_trace, "xtrace": their_xtrace}
OPEN = TraceSettings(rel_err=None, noise=1e-14, most_vectors=2 * P)
SEEDS = 150


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_errors_are_those_of_another_implementation(method: str, spectrum: str) -> None:
    known = rotated(SPECTRA[spectrum], seed=0)
    truth = float(known.matrix.trace())
    for m in (12, 36):
        ours, theirs = [], []
        for seed in range(SEEDS):
            found = METHODS[method](known.operator, replace(OPEN, max_hvps=m, seed=seed))
            assert found.hvps == m
            ours.append(abs(found.trace - truth))
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                theirs.append(abs(float(THEIRS[method](known.matrix, m)) - truth))
        # The issue's own factor; medians over 150 seeds scatter by a tenth each.
        assert np.median(ours) <= 1.5 * np.median(theirs)


@pytest.mark.parametrize("method", METHODS)
def test_estimates_are_unbiased_and_their_error_is_of_the_right_size(method: str) -> None:
    values = np.concatenate([SPECTRA["polynomial"], -0.5 * SPECTRA["polynomial"]])
    known = rotated(values, seed=0)
    runs = [METHODS[method](known.operator, replace(OPEN, max_hvps=36, seed=s)) for s in range(200)]
    errors = np.array([run.trace for run in runs]) - values.sum()
    assert abs(errors.mean()) <= 5 * errors.std() / math.sqrt(200)
    assert 0.7 < np.sqrt(np.mean([run.stderr**2 for run in runs])) / errors.std() < 1.6
    assert not any(run.is_interval for run in runs)
    assert "estimate, not an interval" in runs[0].reason


@pytest.mark.parametrize("method", METHODS)
def test_grows_until_the_error_is_what_was_asked_for(method: str) -> None:
    known = rotated(network_spectrum(), seed=0)
    operator = Counted(known.operator)
    asked = replace(OPEN, rel_err=0.01, most_vectors=100)
    found = METHODS[method](operator, asked)
    assert found.outcome is Outcome.CONVERGED
    assert found.hvps == operator.calls < 120
    truth = float(known.matrix.trace())
    assert abs(found.trace - truth) <= 0.02 * abs(truth)


def network_spectrum() -> np.ndarray:
    return np.concatenate([20 * 0.8 ** np.arange(30), np.full(270, 0.01)])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("limit", [6, 7, 8, 20])
def test_the_limits_of_products_and_of_vectors_are_kept(method: str, limit: int) -> None:
    operator = Counted(rotated(np.linspace(0, 1, 200), seed=0).operator)
    asked = replace(OPEN, rel_err=1e-4, max_hvps=limit, most_vectors=8)
    found = METHODS[method](operator, asked)
    assert operator.calls == found.hvps <= limit
    assert 2 * found.deflated <= 8
    assert found.outcome is Outcome.MAX_HVPS
    assert math.isfinite(found.trace)
    if method == "hutch++":
        assert found.hvps == limit  # when the room is full it samples on


@pytest.mark.parametrize("method", METHODS)
def test_a_captured_range_leaves_rounding_alone(method: str) -> None:
    for values in (
        np.concatenate([[3.0, 2.0, -1.0], np.zeros(60)]),
        np.zeros(30),
        np.array([-4.0]),
        np.array([1.0, -1.0, 0.5]),
    ):
        known = rotated(values, seed=0)
        # Not every seed will do. Under 6 of 300, 0 among them, three products are so nearly
        # dependent that rounding makes a fourth row. Under others, 1 among them, the signs of two
        # probes of three numbers agree, and their products are taken for the range.
        found = METHODS[method](known.operator, replace(OPEN, rel_err=0.01, max_hvps=40, seed=2))
        scale = float(np.abs(values).sum())
        assert found.outcome is Outcome.CONVERGED
        # The rank and one row more, whose product is what shows that nothing is left.
        assert found.deflated <= np.count_nonzero(values)
        assert abs(found.trace - float(known.matrix.trace())) <= 1e3 * EPS64 * scale
        assert found.stderr <= 1e3 * EPS64 * scale
        low, high = found.interval
        assert low <= float(known.matrix.trace()) <= high
        # Only a zero matrix is known without any error.
        assert (low < high) == bool(np.any(values))


@pytest.mark.parametrize("method", METHODS)
def test_what_a_captured_range_leaves_is_sampled(method: str) -> None:
    """A bulk below what the arithmetic of a row sees still has a trace: P times its height."""
    values = np.concatenate([[3.0], np.full(2999, 1e-7)])

    def product(v: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(values).float() * v

    operator = FunctionOperator(product, 3000, dtype=torch.float32)
    asked = replace(OPEN, rel_err=1e-6, max_hvps=40, noise=1e-8)
    found = METHODS[method](operator, asked)
    assert found.deflated <= 2
    assert found.interval[0] <= values.sum() <= found.interval[1]
    assert found.interval[1] - found.interval[0] <= 2e-6 * values.sum()


def test_senseless_requests_are_refused() -> None:
    operator = diagonal(np.arange(10.0))
    for change, match in (
        ({"max_hvps": 2}, "max_hvps"),
        ({"most_vectors": 1}, "room"),
        ({"layers": thirds(10)}, "trace alone"),
        ({"frobenius": True}, "trace alone"),
    ):
        for method in METHODS.values():
            with pytest.raises(ValueError, match=match):
                method(operator, replace(OPEN, **change))
    for method in METHODS.values():
        with pytest.raises(CurvtoolError, match="not finite"):
            method(FunctionOperator(lambda v: v * math.nan, 10), replace(OPEN, max_hvps=12))
