from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from curvtool.algorithms.quadrature import (
    DensitySettings,
    density,
    gauss_rule,
    gauss_rule_without_basis,
)
from curvtool.algorithms.spectral_functions import (
    effective_dimension,
    log_determinant,
    numerical_rank,
    schatten_norm,
)
from curvtool.errors import CurvtoolError
from curvtool.operators.base import BudgetExhausted, Counted, FunctionOperator
from curvtool.operators.hessian import HessianOperator
from curvtool.random_vectors import streams
from curvtool.random_vectors.purposes import Purpose
from curvtool.results import DensityEstimate, FloatArray, Outcome
from tests.algorithms.matrices import EPS32, EPS64, diagonal, network_like, rotated
from tests.objectives import CASES, truth

SETTINGS = DensitySettings(steps=20, probes=10, noise=1e-14)
CPU = torch.device("cpu")


def _distance(found: DensityEstimate, eigenvalues: FloatArray) -> float:
    """W1 between the mean measure and the spectrum."""
    there = np.isfinite(found.nodes)
    weights = found.weights[there] / len(found.nodes)
    return float(wasserstein_distance(found.nodes[there], eigenvalues, weights))


def _z(size: int, i: int = 0) -> torch.Tensor:
    return streams.signs(Purpose.QUADRATURE, i, seed=0, size=size)


@pytest.mark.parametrize("m", [1, 2, 5, 9])
def test_moments_are_exact_below_twice_the_steps(m: int) -> None:
    known = rotated(np.linspace(-1, 1, 60), seed=0)
    z = _z(60)
    for rule in (gauss_rule, gauss_rule_without_basis):
        nodes, weights = rule(known.operator, z, m)
        assert (weights >= 0).all()
        power = z / z.norm()
        for k in range(2 * m):
            # |A| = 1: every product and every step of the recurrence rounds by 60 eps at most.
            expected = float(z @ power) / float(z.norm())
            assert abs(float((weights * nodes**k).sum()) - expected) <= 60 * EPS64 * (k + m)
            power = known.matrix @ power
        exact = float(z @ power / z.norm())
        if m < 9:  # and not beyond: the error falls like 4^-m
            assert abs(float((weights * nodes ** (2 * m)).sum()) - exact) > 1e3 * EPS64


def test_the_distance_to_the_spectrum_falls_as_predicted() -> None:
    """W1 <= range * 12 / m from one probe on a large spectrum, up to what the probe costs."""
    P = 3000
    eigenvalues = np.linspace(-1, 1, P)
    operator = diagonal(eigenvalues)
    distances = {}
    for m in (5, 10, 20, 40):
        found = density(operator, replace(SETTINGS, steps=m, probes=10))
        distances[m] = _distance(found, eigenvalues)
        # Chen, Trogdon, Ubaru (2021): t * range with 12 / t + 1/2 steps, t = 12 / (m - 1/2).
        assert distances[m] <= 2 * 12 / (m - 0.5)
    # On a smooth spectrum it is like 1 / m: halved by twice the steps, within a third.
    for m in (5, 10, 20):
        assert 0.33 < distances[2 * m] / distances[m] < 0.67


def test_without_a_basis_the_weights_stay_right_and_the_distance_grows_little() -> None:
    """Ghosts share the weight of the eigenvalue that they copy."""
    eigenvalues = np.concatenate([100 * 0.7 ** np.arange(8), np.linspace(0, 1, 1192)])
    known = rotated(eigenvalues, seed=0, dtype=torch.float32)
    asked = replace(SETTINGS, steps=60, noise=1e-6)
    kept = density(known.operator, asked)
    free = density(known.operator, replace(asked, reorthogonalize=False))
    assert free.hvps == kept.hvps
    assert not free.reorthogonalized
    top = known.eigenvalues[-1]
    ghosts = 0
    for row in range(10):
        near = [np.abs(f.nodes[row] - top) < 1e-3 * top for f in (kept, free)]
        ghosts += near[1].sum() > near[0].sum()
        share = [f.weights[row][n].sum() for f, n in zip((kept, free), near, strict=True)]
        # Each of 60 steps in float32 moves the weight by some eps of one.
        assert abs(share[0] - share[1]) <= 60 * EPS32
    assert ghosts > 5
    distances = [_distance(f, known.eigenvalues) for f in (kept, free)]
    assert distances[0] < distances[1] < 20 * distances[0]


def test_the_density_is_a_density_with_a_band() -> None:
    known = rotated(network_like(300, seed=0), seed=0)
    found = density(known.operator, SETTINGS)
    area = float(found.density.sum() * (found.grid[1] - found.grid[0]))
    assert abs(area - 1) < 1e-5  # 5 sigma past the last node, a grid of 1024 points
    assert found.nodes.shape == found.weights.shape == (10, 20)
    assert np.allclose(found.weights.sum(axis=1), 1)
    assert (found.density_stderr >= 0).all()
    negative = float((known.eigenvalues < -found.tau).mean())
    # Eigenvalues between two nodes count for either: a node's own weight beside the error.
    assert abs(found.negative_mass - negative) < 5 * found.negative_mass_stderr + 0.05
    wide = density(known.operator, replace(SETTINGS, sigma=3.0, points=64))
    assert wide.sigma == 3.0
    assert wide.grid.shape == (64,)
    assert np.array_equal(wide.nodes, found.nodes)  # the width is a choice of display
    single = density(known.operator, replace(SETTINGS, probes=1))
    assert np.isnan(single.density_stderr).all()
    assert math.isnan(single.negative_mass_stderr)


def test_products_are_counted_and_their_limit_is_kept() -> None:
    known = rotated(network_like(100, seed=0), seed=0)
    for limit, probes, steps in ((200, 10, 20), (59, 2, 20), (7, 1, 7)):
        operator = Counted(known.operator)
        found = density(operator, replace(SETTINGS, max_hvps=limit))
        assert operator.calls == found.hvps == probes * steps
        assert found.nodes.shape == (probes, steps)
        assert (found.outcome is Outcome.CONVERGED) is (limit == 200)
    with pytest.raises(BudgetExhausted):
        density(Counted(known.operator, budget=3), SETTINGS)


@pytest.mark.parametrize(
    "values",
    [np.array([2.0]), np.zeros(30), np.ones(30), np.array([1.0, -1.0] * 10), np.arange(4.0)],
    ids=["P = 1", "zero", "identity", "two values", "P = 4"],
)
@pytest.mark.parametrize("reorthogonalize", [True, False])
def test_degenerate_spectra_end_well(values: FloatArray, reorthogonalize: bool) -> None:
    found = density(diagonal(values), replace(SETTINGS, reorthogonalize=reorthogonalize))
    assert found.outcome is Outcome.CONVERGED
    assert np.isfinite(found.density).all()
    assert found.sigma > 0
    there = np.isfinite(found.nodes)
    apart = np.abs(found.nodes[there][:, None] - values).min(axis=1)
    # Copies in a basis-free recurrence may stray where their weight is rounding.
    assert (apart[found.weights[there] > 1e-10] < 1e-6).all()
    mean = float(np.where(there, found.weights * np.nan_to_num(found.nodes), 0).sum(1).mean())
    assert abs(mean - values.mean()) < 1e-12


def test_holds_the_spectrum_of_a_network() -> None:
    operator = HessianOperator(CASES["cnn"].objective())
    eigenvalues = torch.linalg.eigvalsh(truth("cnn")).numpy()
    found = density(operator, replace(SETTINGS, steps=30, probes=20))
    spread = float(np.abs(eigenvalues).sum()) / len(eigenvalues)
    assert _distance(found, eigenvalues) < 0.3 * spread


def test_products_that_are_not_finite_are_refused() -> None:
    for reorthogonalize in (True, False):
        with pytest.raises(CurvtoolError, match="not finite"):
            density(
                FunctionOperator(lambda v: v * math.nan, 10),
                replace(SETTINGS, reorthogonalize=reorthogonalize),
            )


def test_functions_of_a_semidefinite_spectrum() -> None:
    eigenvalues = np.concatenate([10 * 0.8 ** np.arange(30), np.linspace(0, 0.05, 270)])
    known = rotated(eigenvalues, seed=0)
    found = density(known.operator, replace(SETTINGS, steps=60, probes=40))
    pairs = (
        (effective_dimension(found, 0.5), (eigenvalues / (eigenvalues + 0.5)).sum()),
        (log_determinant(found, 0.5), np.log(eigenvalues + 0.5).sum()),
        (schatten_norm(found, 1.0), eigenvalues.sum()),
        (schatten_norm(found, 2.0), np.sqrt((eigenvalues**2).sum())),
        (schatten_norm(found, 40.0), (eigenvalues**40).sum() ** (1 / 40)),
        (numerical_rank(found, 0.2), (eigenvalues > 0.2).sum()),
    )
    for function, expected in pairs:
        assert function.value is not None
        assert function.stderr is not None
        # t with 39 degrees of freedom; the rank's step may leave an eigenvalue on either side.
        slack = 1.0 if function.name == "rank" else 0.0
        assert abs(function.value - expected) <= 5 * function.stderr + slack, function
        assert 0 < function.stderr < 0.3 * abs(function.value)


def test_functions_without_a_meaning_are_refused_in_a_sentence() -> None:
    found = density(rotated(np.linspace(-1, 1, 50), seed=0).operator, SETTINGS)
    for function in (effective_dimension(found, 0.1), log_determinant(found, 2.0)):
        assert function.value is None
        assert function.stderr is None
        assert "negative eigenvalues" in function.detail
    assert schatten_norm(found, 1.0).value is not None
    single = replace(SETTINGS, probes=1)
    assert schatten_norm(density(diagonal(np.ones(5)), single), 1.0).stderr is None
    assert schatten_norm(density(diagonal(np.zeros(5)), SETTINGS), 2.0).value == 0.0


@pytest.mark.parametrize(
    "change", [{"steps": 0}, {"probes": 0}, {"points": 0}, {"max_hvps": 0}, {"sigma": 0.0}]
)
def test_senseless_requests_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(SETTINGS, **change)  # type: ignore[arg-type]
    found = density(diagonal(np.ones(5)), SETTINGS)
    with pytest.raises(ValueError, match="a > 0"):
        effective_dimension(found, 0.0)
    with pytest.raises(ValueError, match="a > 0"):
        log_determinant(found, -1.0)
    with pytest.raises(ValueError, match="p > 0"):
        schatten_norm(found, math.inf)
    with pytest.raises(ValueError, match="threshold"):
        numerical_rank(found, -1.0)
