"""A start from a neighbour's eigenvectors: cheaper, and as trustworthy as a random one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from curvtool.algorithms.lanczos import default_basis, lanczos
from curvtool.algorithms.overlap import subspace_cosines
from curvtool.algorithms.settings import EigenSettings
from curvtool.algorithms.warm import blurred, warm_start
from curvtool.operators.base import FunctionOperator
from curvtool.results import EigenPairs, FloatArray, Outcome
from tests.algorithms.matrices import EPS64, Known, assert_true, diagonal, network_like, rotated

SEEDS = range(8)
P, K = 200, 8


def asked(k: int = K, **more: object) -> EigenSettings:
    base = EigenSettings(k=k, noise=10 * EPS64, basis=default_basis(k, P), vectors=True)
    return replace(base, **more)  # type: ignore[arg-type]


def moved(known: Known, size: float, seed: int) -> Known:
    """The matrix a step of training later: plus a random symmetric one of that norm."""
    E = np.random.default_rng([seed, 7]).standard_normal((P, P))
    E = (E + E.T) / 2
    matrix = known.matrix + torch.from_numpy(size * E / np.linalg.norm(E, 2))
    truth = np.linalg.eigvalsh(matrix.numpy())
    return Known(FunctionOperator(lambda v: matrix @ v, P, torch.float64), matrix, truth)


def start_of(pairs: EigenPairs) -> torch.Tensor:
    found = warm_start(pairs.eigenvalues, pairs.eigenvectors.numpy())
    assert found is not None
    return found


@pytest.mark.parametrize("distance", [0.02, 0.3])
def test_a_near_start_takes_fewer_products(distance: float) -> None:
    """Outliers as trained networks have them, and a random start with 1 / 20,000 of them."""
    size = 20_000
    rng = np.random.default_rng(0)
    eigenvalues = np.concatenate([20 * 0.8 ** np.arange(20), rng.exponential(0.05, size - 20)])
    rows = np.eye(K, size) + distance * rng.standard_normal((K, size)) / size**0.5
    start = warm_start(eigenvalues[:K], rows)
    for seed in range(3):
        settings = asked(seed=seed, tol=1e-3, accuracy="vectors")
        found = [
            lanczos(diagonal(eigenvalues), replace(settings, start=each)) for each in (None, start)
        ]
        for pairs in found:
            assert pairs.outcome is Outcome.CONVERGED
            assert pairs.completeness.complete
            assert (np.abs(pairs.eigenvalues - eigenvalues[:K]) <= pairs.eigenvalue_errors).all()
        random, near = (pairs.hvps_by_stage["solve"] for pairs in found)
        assert near < random


def test_the_bounds_hold_the_truth() -> None:
    for seed in SEEDS:
        before = rotated(network_like(P, seed=seed), seed=seed)
        after = moved(before, 0.1, seed)
        start = start_of(lanczos(before.operator, asked(seed=seed)))
        pairs = lanczos(after.operator, asked(seed=seed, start=start))
        assert pairs.outcome is Outcome.CONVERGED
        truth = after.truth("LM", K)
        assert (np.abs(pairs.eigenvalues - truth) <= pairs.eigenvalue_errors).all()


@pytest.mark.parametrize("value", [30.0, 10.0, -15.0])
def test_what_is_new_and_orthogonal_to_all_that_was_known_is_found(value: float) -> None:
    """The worst case: an invariant subspace that the start has no part in."""
    old = network_like(P, seed=0)
    old[-1] = 0.0
    new = old.copy()
    new[-1] = value
    before = lanczos(diagonal(old), asked())
    # Not a rounding of it is in the start.
    start = start_of(before)
    start[-1] = 0.0
    truth = np.array(sorted(new, key=abs, reverse=True)[:K])
    for seed in SEEDS:
        pairs = lanczos(diagonal(new), asked(seed=seed, start=start))
        assert pairs.outcome is Outcome.CONVERGED
        assert (np.abs(pairs.eigenvalues - truth) <= pairs.eigenvalue_errors).all()


def test_at_an_edge_without_gaps_nothing_false_is_said() -> None:
    """As `test_every_end_of_a_spectrum_without_gaps`, with the start of a matrix nearby."""
    proved = 0
    for seed in SEEDS:
        before = rotated(np.linspace(-1, 3, P), seed=seed)
        after = moved(before, 0.02, seed)
        start = start_of(lanczos(before.operator, asked(seed=seed)))
        pairs = lanczos(after.operator, asked(seed=seed, start=start))
        assert pairs.outcome is Outcome.CONVERGED
        assert_true(after, pairs)
        proved += pairs.completeness.proved_rank
    # A start that depends on H proves nothing, but the probe does.
    assert proved >= len(SEEDS)


def test_copies_of_an_eigenvalue_are_found() -> None:
    eigenvalues = np.concatenate([[12.8, 12.8, 9, 7, 7, 7], np.linspace(0, 4, P - 6)])
    for seed in SEEDS:
        known = rotated(eigenvalues, seed=seed)
        start = start_of(lanczos(known.operator, asked(6, seed=seed)))
        pairs = lanczos(known.operator, asked(6, seed=seed, start=start))
        assert pairs.outcome is Outcome.CONVERGED
        truth = known.truth("LM", 6)
        assert (np.abs(pairs.eigenvalues - truth) <= pairs.eigenvalue_errors).all()


def test_the_same_start_gives_the_same_bits() -> None:
    known = rotated(network_like(P, seed=1), seed=1)
    start = start_of(lanczos(known.operator, asked()))
    first, second = (lanczos(known.operator, asked(start=start.clone())) for _ in range(2))
    assert first.eigenvalues.tobytes() == second.eigenvalues.tobytes()
    assert torch.equal(first.eigenvectors, second.eigenvectors)


def test_the_start_is_the_weighted_sum() -> None:
    rows = np.eye(3, 5)
    found = warm_start(np.array([4.0, -2.0, 1.0]), rows)
    assert found is not None
    expected = np.array([0.25, 0.5, 1.0, 0, 0])
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), rtol=4 * EPS64)
    # An eigenvalue of rounding size does not outweigh the others by more than a thousand.
    tiny = warm_start(np.array([1.0, 1e-300]), rows[:2])
    assert tiny is not None
    np.testing.assert_allclose(tiny[1] / tiny[0], 1e3, rtol=4 * EPS64)
    assert warm_start(np.zeros(2), rows[:2]) is None
    assert warm_start(np.zeros(0), rows[:0]) is None


def test_as_much_of_the_start_is_random() -> None:
    start, random = torch.eye(2, 4, dtype=torch.float64)
    assert blurred(start, random.float()).tolist() == [1, 1, 0, 0]
    assert blurred(start, random.float()).dtype == torch.float32


def subspace(angles: FloatArray, seed: int) -> tuple[FloatArray, FloatArray]:
    """Two bases of subspaces at given principal angles, in random bases of each."""
    rng = np.random.default_rng(seed)
    k = len(angles)
    Q = np.linalg.qr(rng.standard_normal((40, 2 * k)))[0].T
    other = np.cos(angles)[:, None] * Q[:k] + np.sin(angles)[:, None] * Q[k:]
    mix = [np.linalg.qr(rng.standard_normal((k, k)))[0] for _ in range(2)]
    return mix[0] @ Q[:k], mix[1] @ other


@pytest.mark.parametrize("width", [1, 7, 40])
def test_cosines_are_those_of_the_principal_angles(width: int) -> None:
    angles = np.array([0.0, 0.3, 1.0, np.pi / 2])
    U, V = subspace(angles, 3)
    blocks = [(U[:, i : i + width], V[:, i : i + width]) for i in range(0, 40, width)]
    # Singular values of a 4 x 4 matrix of sums of 40 products.
    np.testing.assert_allclose(subspace_cosines(blocks), np.cos(angles), atol=4 * 40 * EPS64)
    # tr(P_U P_V) / k of Gur-Ari, Roberts and Dyer.
    overlap = np.trace(U.T @ U @ V.T @ V) / 4
    np.testing.assert_allclose((subspace_cosines(blocks) ** 2).mean(), overlap, rtol=160 * EPS64)


def test_cosines_of_subspaces_of_unlike_dimension() -> None:
    U, _ = subspace(np.zeros(4), 1)
    assert subspace_cosines([(U, U[:2])]) == pytest.approx([1, 1], abs=160 * EPS64)
    assert (subspace_cosines([(U, U)]) <= 1).all()
    assert len(subspace_cosines([])) == 0
    assert len(subspace_cosines([(U, U[:0])])) == 0
