"""A diagonal beside plain probes, at equal products: never worse, and far better where H decays.

Letters: P size, N products, B terms.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch

from curvtool.algorithms.diagonal import LEAST_PASSES, stochastic_diagonal
from curvtool.algorithms.diagonal_error import diagonal_error
from curvtool.algorithms.diagonal_settings import DiagonalSettings
from curvtool.algorithms.space import Space
from curvtool.operators.base import Counted
from curvtool.results import FloatArray, Outcome
from tests.algorithms.sums import DenseSum

P, N = 150, 60
OPEN = DiagonalSettings(rel_err=None, max_hvps=N, noise=1e-14, most_vectors=40)
SEEDS = range(8)


@lru_cache
def _basis() -> FloatArray:
    return np.asarray(np.linalg.qr(np.random.default_rng(0).standard_normal((P, P)))[0])


def _rotated(values: FloatArray) -> FloatArray:
    Q = _basis()
    return np.asarray((Q * values) @ Q.T)


def _matrix(name: str) -> FloatArray:
    rng, i = np.random.default_rng(1), np.arange(P, dtype=np.float64)
    made: dict[str, Callable[[], FloatArray]] = {
        "decaying": lambda: _rotated(0.8**i),
        "as a power": lambda: _rotated(1 / (i + 1.0)),
        "outliers": lambda: _rotated(np.r_[np.linspace(1, 3, 6), rng.normal(0, 0.02, P - 6)]),
        "one outlier": lambda: _rotated(np.r_[20.0, rng.normal(0, 0.2, P - 1)]),
        "outlier beside a diagonal": lambda: (
            np.diag(rng.random(P)) + 5 * np.outer(_basis()[0], _basis()[0])
        ),
        "both signs": lambda: _rotated(np.where(i % 2 == 1, 1.0, -1.0)),
        "positive": lambda: _rotated(np.linspace(0.5, 1.5, P)),
        "nearly diagonal": lambda: np.diag(i + 1.0) + 0.01 * _rotated(rng.standard_normal(P)),
        "neighbours": lambda: np.eye(P) + 0.6 * (np.eye(P, k=1) + np.eye(P, k=-1)),
    }
    A = made[name]()
    return np.asarray((A + A.T) / 2)


GAINING = ("decaying", "as a power", "outliers", "one outlier", "outlier beside a diagonal")
FLAT = ("both signs", "positive", "nearly diagonal", "neighbours")


def _sum(name: str, terms: int) -> DenseSum:
    A = torch.from_numpy(_matrix(name))
    if terms == 1:
        return DenseSum(A[None])
    rng = np.random.default_rng(2)
    X = torch.from_numpy(rng.standard_normal((terms, P, P))) * float(A.std()) / 3
    X = (X + X.transpose(1, 2)) / 2
    return DenseSum((A + X - X.mean(0)) / terms)


def _error(op: DenseSum, settings: DiagonalSettings) -> tuple[float, float]:
    """Root mean square of the relative error over seeds, and the share that its bound held."""
    truth = op.matrix.diagonal().numpy()
    errors, held = [], []
    for seed in SEEDS:
        found = stochastic_diagonal(op, replace(settings, seed=seed))
        assert found.hvps == N
        errors.append(np.linalg.norm(found.diagonal - truth) / np.linalg.norm(truth))
        held.append(errors[-1] <= found.rel_err)
    return float(np.sqrt(np.mean(np.square(errors)))), float(np.mean(held))


def _xdiag(A: FloatArray, seed: int) -> FloatArray:
    """XDiag of Epperly, Tropp and Webber (2024) with N products, from its formula.

    Estimate i is diag(Q_i Q_i' A) + w_i * (I - Q_i Q_i') A w_i, Q_i a basis of all products but
    the i-th.
    """
    k = N // 2
    W = np.random.default_rng(seed).choice([-1.0, 1.0], (P, k))
    Y = A @ W
    found = np.zeros(P)
    for i in range(k):
        Q = np.linalg.qr(np.delete(Y, i, axis=1))[0]
        found += np.sum(Q * (A @ Q), axis=1) + W[:, i] * (Y[:, i] - Q @ (Q.T @ Y[:, i]))
    return found / k


@pytest.mark.parametrize("terms", [1, 5])
@pytest.mark.parametrize("name", FLAT)
def test_it_is_never_worse_than_plain_probes(name: str, terms: int) -> None:
    op = _sum(name, terms)
    ours, _ = _error(op, OPEN)
    plain, _ = _error(op, replace(OPEN, most_vectors=0))
    # Three products say that directions would not pay. Beside that the same passes are made, but
    # fewer: errors of nested means, whose ratio scatters by sqrt(3 / N / seeds / degrees) at most.
    assert ours <= plain * (math.sqrt(N / (N - 3)) + 0.05)


@pytest.mark.parametrize("terms", [1, 5])
@pytest.mark.parametrize("name", GAINING)
def test_it_is_better_where_few_directions_carry_the_variance(name: str, terms: int) -> None:
    op = _sum(name, terms)
    ours, held = _error(op, OPEN)
    plain, _ = _error(op, replace(OPEN, most_vectors=0))
    assert ours < 0.8 * plain
    assert held >= 7 / 8  # at 95 % two of 8 miss once in 17


@pytest.mark.parametrize("name", [*GAINING[1:], *FLAT])
def test_it_is_about_as_good_as_xdiag(name: str) -> None:
    """Half as far again at most. Where a spectrum decays as a power of 0.8, XDiag is better at 60
    products: 30 of them sketch, while a pilot takes 8 here; at 100 they are alike."""
    A = _matrix(name)
    op = DenseSum(torch.from_numpy(A)[None])
    truth = np.diag(A)
    theirs = [np.linalg.norm(_xdiag(A, s) - truth) / np.linalg.norm(truth) for s in SEEDS]
    assert _error(op, OPEN)[0] <= 1.5 * float(np.sqrt(np.mean(np.square(theirs))))


def test_directions_end_where_they_span_the_range() -> None:
    u = _basis()[:, :3]
    A = torch.from_numpy(u @ np.diag([3.0, -2.0, 1.0]) @ u.T)
    operator = Counted(DenseSum(A[None]))
    found = stochastic_diagonal(operator, replace(OPEN, rel_err=0.01))
    assert found.outcome is Outcome.CONVERGED
    assert found.deflated == 3
    # The pilot, the directions, and as many passes as are looked at first; one or two measure.
    assert operator.calls == found.hvps <= 2 * LEAST_PASSES + 3 + 2
    assert np.allclose(found.diagonal, A.diagonal().numpy(), atol=1e-12)


def test_a_forecast_beyond_the_dense_way_ends_the_run() -> None:
    op = _sum("both signs", 1)
    found = stochastic_diagonal(op, replace(OPEN, rel_err=0.05, max_hvps=5000, dense_from=P))
    assert found.outcome is Outcome.MAX_HVPS
    assert found.hvps == LEAST_PASSES
    assert "passes more were ahead" in found.reason
    near = _sum("nearly diagonal", 1)
    found = stochastic_diagonal(near, replace(OPEN, rel_err=0.05, max_hvps=5000, dense_from=P))
    assert found.outcome is Outcome.CONVERGED


@pytest.mark.parametrize("name", ["one outlier", "neighbours", "two entries"])
@pytest.mark.parametrize("passes", [8, 24])
def test_the_bound_of_the_whole_holds(name: str, passes: int) -> None:
    """Over 400 seeds: where all entries share the error, and where two of them have all of it."""
    if name == "two entries":
        A = np.eye(P)
        A[3, 7] = A[7, 3] = 5.0
    else:
        A = _matrix(name)
    rng = np.random.default_rng(7)
    truth = np.diag(A)
    space = Space(P, dtype=torch.float64, device=torch.device("cpu"))
    held = []
    for _ in range(400):
        Z = rng.choice([-1.0, 1.0], (passes, P))
        samples = Z * (Z @ A)
        variance = samples.var(axis=0, ddof=1) / passes
        found = diagonal_error(
            space,
            torch.from_numpy(samples.mean(0)),
            torch.from_numpy(variance),
            passes=passes,
            level=0.95,
            arithmetic=0.0,
        )
        error = np.linalg.norm(samples.mean(0) - truth)
        held.append(error <= found.sampled and found.least <= np.linalg.norm(truth) * (1 + 1e-12))
    # Two values for two entries: a mean of 8 signs with 7 alike lies 4.5 of its own errors off.
    discrete = 0.03 if name == "two entries" and passes == 8 else 0.0
    assert np.mean(held) >= 0.95 - 3.3 * math.sqrt(0.95 * 0.05 / 400) - discrete
