"""A whole density of an operator: extremes, probes, or the matrix written out.

Letters: P size, n probes, k steps.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from curvtool.algorithms.density.driver import density, exact_density
from curvtool.algorithms.density.probing import recurrence, recurrence_without_basis
from curvtool.algorithms.density.settings import DensitySettings
from curvtool.algorithms.density.steps import step_bounds
from curvtool.errors import CurvtoolError
from curvtool.operators.base import BudgetExhausted, Counted, FunctionOperator
from curvtool.operators.hessian import HessianOperator
from curvtool.results import DensityEstimate, FloatArray, Outcome
from curvtool.results.density import NEGATIVE, POSITIVE
from tests.algorithms.density.spectra import measure
from tests.algorithms.density.test_pooled import truth
from tests.algorithms.matrices import EPS32, EPS64, diagonal, network_like, rotated
from tests.objectives import CASES
from tests.objectives import truth as hessian_of

SETTINGS = DensitySettings(steps=20, noise=1e-14)
NO_ROWS = torch.empty((0, 60), dtype=torch.float64)


def misses(found: DensityEstimate, values: FloatArray) -> list[str]:
    """Figures whose intervals do not hold the truth."""
    slack = 1e-12 * float(np.abs(values).sum())
    wrong = [
        f"{f.name} {f.parameter}"
        for f in found.functions
        if f.interval is not None
        and not f.interval[0] - slack <= truth(f, values) <= f.interval[1] + slack
    ]
    t = found.zero_band
    assert found.count_interval is not None
    for side, count in ((NEGATIVE, (values < -t).sum()), (POSITIVE, (values > t).sum())):
        low, high = found.count_interval[side]
        if not low <= count <= high:
            wrong.append(f"count {side}")
    return wrong


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("basis", [True, False])
def test_figures_hold_through_deflation_and_probes(dtype: torch.dtype, basis: bool) -> None:
    known = rotated(network_like(300, seed=0), seed=0, dtype=dtype)
    noise = 1e-14 if dtype == torch.float64 else 2e-7
    failed: list[str] = []
    for seed in range(5):
        asked = replace(SETTINGS, noise=noise, reorthogonalize=basis, seed=seed, deflate=12)
        found = density(known.operator, asked)
        assert len(found.deflated) == 12
        assert found.reorthogonalized is basis
        failed += misses(found, known.eigenvalues)
        np.testing.assert_allclose(
            np.sort(found.deflated),
            np.sort(known.truth("LM", 12)),
            atol=float(found.deflated_errors.max()),
        )
        low, high = found.ends
        assert low <= known.eigenvalues.min() <= known.eigenvalues.max() <= high
    # 25 figures of 95 %: six misses or more happen once in 800.
    assert len(failed) <= 5, failed


def test_products_are_counted_and_their_limit_is_kept() -> None:
    known = rotated(network_like(200, seed=0), seed=0)
    counted = Counted(known.operator)
    found = density(counted, SETTINGS)
    assert counted.calls == found.hvps == sum(found.hvps_by_stage.values())
    assert found.hvps_by_stage["probe"] == 4 * 20
    assert found.hvps_by_stage["deflate"] <= 8 * 20
    assert found.nodes.shape == (4, 20)
    for limit, probes, steps in ((59, 2, 20), (7, 1, 7)):
        counted = Counted(known.operator)
        found = density(counted, replace(SETTINGS, max_hvps=limit))
        assert counted.calls == found.hvps == probes * steps
        assert found.nodes.shape == (probes, steps)
        assert not len(found.deflated)  # the probes come first
        assert found.outcome is Outcome.MAX_HVPS
    with pytest.raises(BudgetExhausted):
        density(Counted(known.operator, budget=3), replace(SETTINGS, deflate=0))


@pytest.mark.parametrize(
    "values",
    [
        np.array([2.0]),
        np.zeros(30),
        np.ones(30),
        np.array([1.0, -1.0] * 10),
        np.arange(4.0),
        np.where(np.arange(40) < 1, 3.0, 0.0),
        np.full(50, 1e-30),
    ],
    ids=["P = 1", "zero", "identity", "two values", "P = 4", "rank 1", "tiny"],
)
@pytest.mark.parametrize("basis", [True, False])
def test_degenerate_spectra_end_well(values: FloatArray, basis: bool) -> None:
    failed: list[str] = []
    for seed in range(3):
        asked = replace(SETTINGS, reorthogonalize=basis, seed=seed, steps=40)
        found = density(diagonal(values), asked)
        assert found.outcome is Outcome.CONVERGED
        assert np.isfinite(found.density).all()
        assert found.sigma > 0
        assert found.nodes.shape[1] <= len(values)
        failed += misses(found, values)
    assert len(failed) <= 2, failed
    exact = exact_density(diagonal(values), SETTINGS)
    assert misses(exact, values) == []


def test_the_whole_matrix_is_exact() -> None:
    known = rotated(network_like(80, seed=1), seed=1)
    counted = Counted(known.operator)
    found = exact_density(counted, replace(SETTINGS, schatten=(1.0, 2.0, 7.0)))
    assert found.method == "dense"
    assert counted.calls == found.hvps
    assert misses(found, known.eigenvalues) == []
    for function in found.functions:
        assert function.interval is not None
        low, high = function.interval
        assert 0 < high - low < 1e-9 * abs(function.value or 0)  # never +- 0, and next to it
    assert found.count_interval is not None
    assert found.count_interval[NEGATIVE].tolist() == [(known.eigenvalues < 0).sum()] * 2


def test_the_density_is_a_density() -> None:
    known = rotated(network_like(300, seed=0), seed=0)
    found = density(known.operator, SETTINGS)
    area = float(found.density.sum() * (found.grid[1] - found.grid[0]))
    assert abs(area - 1) < 1e-5  # 5 sigma past the last node, a grid of 1024 points
    assert np.allclose(found.weights.sum(axis=1), 1)
    assert found.cumulative_interval is not None
    low, high = found.cumulative_interval.T
    assert (low <= high).all()
    assert (low[0], high[-1]) == (0, 300)
    below = (known.eigenvalues <= found.grid[:, None]).sum(axis=1)
    assert ((low <= below) & (below <= high)).mean() > 0.9
    wide = density(known.operator, replace(SETTINGS, sigma=3.0, points=64))
    assert wide.sigma == 3.0
    assert wide.grid.shape == (64,)
    assert np.array_equal(wide.nodes, found.nodes)  # the width is a choice of display


def test_the_same_seed_gives_the_same_probes_and_another_one_others() -> None:
    known = rotated(network_like(300, seed=0), seed=0)
    one, two = (density(known.operator, replace(SETTINGS, seed=seed)) for seed in (0, 1))
    again = density(known.operator, SETTINGS)
    assert np.array_equal(one.nodes, again.nodes)
    # Nodes of both settle at the same eigenvalues, to some digits.
    assert (one.nodes[:, 3] != two.nodes[:, 3]).all()


@pytest.mark.parametrize("m", [1, 2, 5, 9])
def test_moments_are_exact_below_twice_the_steps(m: int) -> None:
    known = rotated(np.linspace(-1, 1, 60), seed=0)
    z = torch.from_numpy(np.random.default_rng(0).standard_normal(60))
    for follow in (recurrence, recurrence_without_basis):
        nodes, weights = follow(known.operator, NO_ROWS, z, m, noise=0.0).gauss
        power = z / z.norm()
        for k in range(2 * m):
            # |A| = 1: every product and every step of the recurrence rounds by 60 eps at most.
            expected = float(z @ power) / float(z.norm())
            assert abs(float((weights * nodes**k).sum()) - expected) <= 60 * EPS64 * (k + m)
            power = known.matrix @ power


def test_probes_stay_in_the_complement() -> None:
    known = rotated(np.concatenate([[50.0, -40.0], np.linspace(-1, 1, 58)]), seed=0)
    _, vectors = np.linalg.eigh(known.matrix.numpy())
    rows = torch.from_numpy(vectors[:, [-1, 0]].T.copy())
    z = torch.from_numpy(np.random.default_rng(0).standard_normal(60))
    z -= rows.T @ (rows @ z)
    found = recurrence(known.operator, rows, z, 58, noise=0.0)
    # Rounding lets the outliers back in within some twenty steps, were the start alone projected.
    assert np.abs(found.gauss[0]).max() < 1 + 1e-12


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_without_a_basis_steps_survive_the_copies(dtype: torch.dtype) -> None:
    """Ghosts share the weight of the eigenvalue that they copy."""
    eigenvalues = np.concatenate([100 * 0.7 ** np.arange(8), np.linspace(0, 1, 192)])
    eps = EPS64 if dtype == torch.float64 else EPS32
    ghosts = 0
    for seed in range(5):
        start = np.random.default_rng(seed).standard_normal(200)
        z = torch.from_numpy(start).to(dtype)
        rows = torch.empty((0, 200), dtype=dtype)
        operator = diagonal(eigenvalues, dtype)
        found = recurrence_without_basis(operator, rows, z, 90, noise=0.0)
        top = float(torch.from_numpy(eigenvalues).to(dtype)[0])
        nodes, _ = found.gauss
        ghosts += (np.abs(nodes - top) < 1e-3 * top).sum() > 1
        x, w = measure(torch.from_numpy(eigenvalues).to(dtype).double().numpy(), z.double().numpy())
        at = np.random.default_rng(seed).uniform(-1, 101, 200)
        lower, upper = step_bounds(found, at, same=max(1e-9, 10 * eps))
        # 90 steps of rounding move a share by some eps each.
        assert (lower <= np.array([w[x < t].sum() for t in at]) + 90 * eps).all()
        assert (upper >= np.array([w[x <= t].sum() for t in at]) - 90 * eps).all()
    assert ghosts >= 3


def test_an_accuracy_is_met_by_more_probes() -> None:
    known = rotated(np.concatenate([np.linspace(0.5, 1, 250), [3.0]]), seed=0)
    asked = replace(SETTINGS, rel_err=0.02, schatten=(2.0,), damping=(0.5,))
    found = density(known.operator, asked)
    assert found.outcome is Outcome.CONVERGED
    assert len(found.nodes) > 4
    for function in found.functions:
        assert function.interval is not None
        low, high = function.interval
        assert (high - low) <= 2 * 0.02 * abs(high + low) / 2 * (1 + 1e-9)
    assert misses(found, known.eigenvalues) == []
    poor = density(known.operator, replace(asked, max_hvps=200))
    assert poor.outcome is Outcome.MAX_HVPS
    assert poor.hvps <= 200


def test_an_accuracy_that_probes_cannot_reach_is_not_pursued() -> None:
    """The quadrature of three steps leaves open more than that."""
    known = rotated(np.linspace(-1, 1, 300), seed=0)
    asked = replace(SETTINGS, rel_err=1e-3, steps=3, schatten=(1.0,), deflate=0)
    found = density(known.operator, asked)
    assert found.outcome is Outcome.STAGNATED
    assert found.hvps == 4 * 3


@pytest.mark.parametrize("name", ["cnn", "tanh"])
def test_holds_the_spectrum_of_a_network(name: str) -> None:
    operator = HessianOperator(CASES[name].objective())
    values = torch.linalg.eigvalsh(hessian_of(name)).numpy()
    failed: list[str] = []
    for seed in range(3):
        found = density(operator, replace(SETTINGS, noise=1e-12, seed=seed, deflate=6, probes=2))
        failed += misses(found, values)
    assert len(failed) <= 2, failed
    assert misses(exact_density(operator, replace(SETTINGS, noise=1e-12)), values) == []


def test_products_that_are_not_finite_are_refused() -> None:
    for basis in (True, False):
        with pytest.raises(CurvtoolError, match="not finite"):
            density(
                FunctionOperator(lambda v: v * math.nan, 10),
                replace(SETTINGS, reorthogonalize=basis),
            )


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"probes": 0},
        {"points": 0},
        {"max_hvps": 0},
        {"deflate": -1},
        {"sigma": 0.0},
        {"rel_err": 0.0},
        {"damping": (-1.0,)},
        {"schatten": (math.inf,)},
        {"threshold": -1.0},
    ],
)
def test_senseless_requests_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(SETTINGS, **change)  # type: ignore[arg-type]
