"""What products in float64 say of listed pairs, against dense matrices.

Letters: P size, k pairs, Y vectors, d what the recurrence does not account for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from curvtool.algorithms import certificate as module
from curvtool.algorithms.bounds import MISS, Residuals, enlargement
from curvtool.algorithms.certificate import COMBINATIONS, HEARD, Certificate, Listed
from curvtool.errors import CurvtoolError
from curvtool.operators.base import Counted, FunctionOperator
from curvtool.results import FloatArray
from tests.algorithms.matrices import EPS32, EPS64, network_like, rotated

P, K = 60, 8
TOL = 1e-4


def _operator(H: FloatArray) -> FunctionOperator:
    matrix = torch.from_numpy(H)
    return FunctionOperator(lambda v: matrix @ v, len(H))


def _matrix(seed: int) -> FloatArray:
    return rotated(network_like(P, seed=seed), seed=seed).matrix.numpy()


@dataclass(frozen=True, eq=False)
class Case:
    """A matrix, a list with its claims, and what is true of it."""

    H: FloatArray
    listed: Listed

    def certificate(self, seed: int = 0, rounding: float = 0.0, tol: float = TOL) -> Certificate:
        return Certificate(
            _operator(self.H),
            self.listed,
            tol=tol,
            largest=float(np.linalg.norm(self.H, 2)),
            rounding=rounding,
            seed=seed,
        )

    def truth(
        self, rotation: FloatArray, certificate: Certificate, theta: FloatArray
    ) -> FloatArray:
        """H y - theta y of the rotated vectors, in columns."""
        Y = self.listed.V.double().numpy().T @ certificate.vectors(rotation)
        return self.H @ Y - Y * theta


def _case(
    seed: int, *, tilt: float = 1e-3, defect: float = 1e-5, dtype: torch.dtype = torch.float64
) -> Case:
    """Tilted eigenvectors, and a recurrence that claims their residuals wrongly by `defect`."""
    rng = np.random.default_rng(seed)
    H = _matrix(seed)
    lam, U = np.linalg.eigh(H)
    top = np.argsort(-np.abs(lam))[:K]
    Y = np.linalg.qr(U[:, top] + tilt * rng.standard_normal((P, K)) / P**0.5)[0]
    theta, S = np.linalg.eigh(Y.T @ H @ Y)
    Y = Y @ S
    V = torch.from_numpy(np.ascontiguousarray(Y.T)).to(dtype)
    theta += defect * rng.standard_normal(K)
    residual = H @ Y - Y * theta + defect * rng.standard_normal((P, K)) / P**0.5
    Q, R = np.linalg.qr(residual)
    return Case(H, Listed(V, np.eye(K), theta, torch.from_numpy(np.ascontiguousarray(Q.T)), R))


def _assert_true(case: Case, certificate: Certificate) -> int:
    """How many bounds are wrong: of the norms of residuals, and of what couples the pairs."""
    found, rotation = certificate.rotated()
    truth = case.truth(rotation, certificate, found.theta)
    Y = case.listed.V.double().numpy().T @ certificate.vectors(rotation)
    F = np.abs(Y.T @ case.H @ Y - np.diag(found.theta))
    slack = 10 * P * EPS64 * np.linalg.norm(case.H, 2)
    norms = np.linalg.norm(truth, axis=0) > found.norms + slack
    along = (found.F + slack < F).any(axis=1)
    return int((norms | along).sum())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
def test_bounds_by_combinations_fail_at_most_as_often_as_they_say(dtype: torch.dtype) -> None:
    wrong, cases = 0, 150
    for seed in range(cases):
        case = _case(seed, defect=10.0 ** (-seed % 7 - 1), dtype=dtype)
        certificate = case.certificate(seed)
        certificate.sketch()
        assert certificate.products == COMBINATIONS
        wrong += _assert_true(case, certificate)
    # A row of F, or all the residuals, each at most: K + 1 statements a run.
    expected = cases * (K + 1) * MISS
    assert wrong <= expected + 5 * expected**0.5


def _one_fault(inside: bool) -> Case:
    """The first pair is off along another listed vector, or along one orthogonal to all."""
    theta = np.linspace(3, 1, K)
    V = torch.eye(P, dtype=torch.float64)[:K]
    H = np.diag(np.r_[theta, np.zeros(P - K)])
    at = 1 if inside else K
    H[0, at] = H[at, 0] = 1e-3
    none = torch.zeros((0, P), dtype=torch.float64)
    return Case(H, Listed(V, np.eye(K), theta, none, np.zeros((0, K))))


@pytest.mark.parametrize("inside", [True, False])
def test_the_worst_case_fails_as_often_as_it_may(
    inside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a chance of 5 % about 5 % fail: what never failed would prove nothing of the 0.1 %."""
    chance, cases = 0.05, 1000
    monkeypatch.setattr(module, "enlargement", lambda m: enlargement(m, chance))
    case = _one_fault(inside)
    missed = 0
    for seed in range(cases):
        certificate = case.certificate(seed, tol=1.0)
        certificate.sketch()
        found, _ = certificate.rotated()
        if inside:
            missed += bool(abs(case.H[0, 1]) > found.F[0, 1])
        else:
            missed += bool(abs(case.H[K, 0]) > found.unknown[0])
    # An entry of F is bounded by its row and by its column, whichever is less.
    expected = cases * (1 - (1 - chance) ** (2 if inside else 1))
    assert abs(missed - expected) <= 5 * expected**0.5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
def test_products_of_every_pair_are_exact(dtype: torch.dtype) -> None:
    for seed in range(20):
        case = _case(seed, tilt=0.1, defect=0.1, dtype=dtype)
        certificate = case.certificate(seed)
        certificate.multiply(np.ones(K, dtype=bool))
        assert certificate.products == K
        found, rotation = certificate.rotated()
        Y = case.listed.V.double().numpy().T @ certificate.vectors(rotation)
        np.testing.assert_allclose(Y.T @ Y, np.eye(K), atol=100 * EPS64)
        scale = np.linalg.norm(case.H, 2)
        M = Y.T @ case.H @ Y
        np.testing.assert_allclose(M, np.diag(found.theta), atol=P * EPS64 * scale)
        residual = case.truth(rotation, certificate, found.theta)
        # Residuals are kept in the digits of the basis.
        eps = EPS64 if dtype == torch.float64 else EPS32
        allowed = (P * EPS64 * scale + eps * np.linalg.norm(residual)) * np.linalg.norm(residual)
        np.testing.assert_allclose(found.gram, residual.T @ residual, atol=4 * allowed)
        assert not found.F.any()
        assert not found.unknown.any()


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_some_pairs_exactly_and_the_others_by_combinations(share: float) -> None:
    wrong, cases = 0, 150
    for seed in range(cases):
        case = _case(seed, defect=10.0 ** (-seed % 5 - 1))
        certificate = case.certificate(seed)
        certificate.sketch()
        which = np.random.default_rng([seed, 1]).random(K) < share
        certificate.multiply(which)
        assert certificate.products == COMBINATIONS + which.sum()
        certificate.multiply(which)  # known already
        assert certificate.products == COMBINATIONS + which.sum()
        wrong += _assert_true(case, certificate)
    expected = cases * (K + 1) * MISS
    assert wrong <= expected + 5 * expected**0.5


def test_pairs_that_are_multiplied_come_from_a_rotation_among_them() -> None:
    """A product that lies mixes a cluster: no value of it is right, their span is."""
    lam = np.r_[5.0, 5.0 - 1e-6, 5.0 - 2e-6, np.linspace(-1, 1, P - 3)]
    known = rotated(lam, seed=2)
    H = known.matrix.numpy()
    U = np.linalg.eigh(H)[1][:, -3:]
    mixed = U @ np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    V = torch.from_numpy(np.ascontiguousarray(mixed.T))
    listed = Listed(
        V, np.eye(3), np.full(3, 5.0), torch.zeros((0, P), dtype=torch.float64), np.zeros((0, 3))
    )
    certificate = Case(H, listed).certificate()
    certificate.multiply(np.ones(3, dtype=bool))
    found, _ = certificate.rotated()
    np.testing.assert_allclose(found.theta, known.eigenvalues[-3:], atol=P * EPS64 * 5)
    assert (found.norms <= P * EPS64 * 5).all()


@pytest.mark.parametrize("seed", range(5))
def test_vectors_without_a_recurrence_have_their_own_values(seed: int) -> None:
    case = _case(seed)
    Q = torch.zeros((0, P), dtype=torch.float64)
    listed = Listed(case.listed.V, np.eye(K), np.zeros(K), Q, np.zeros((0, K)), False)
    certificate = Case(case.H, listed).certificate()
    certificate.multiply(np.ones(K, dtype=bool))
    found, _ = certificate.rotated()
    Y = case.listed.V.numpy().T
    truth = np.linalg.eigvalsh(Y.T @ case.H @ Y)
    np.testing.assert_allclose(found.theta, truth, atol=100 * P * EPS64 * np.abs(truth).max())
    # What products add to a recurrence is not known, since there is none.
    assert certificate.noise == 0.0
    R = certificate.couplings(certificate.vectors(np.eye(K)))
    exact = found.gram
    rotation = certificate.rotated()[1]
    np.testing.assert_allclose(rotation.T @ R @ R.T @ rotation, exact, atol=1e-12 * exact.max())


def test_noise_is_the_distance_to_what_the_recurrence_has() -> None:
    for seed in range(20):
        case = _case(seed, defect=1e-4)
        Y, theta = case.listed.V.numpy().T, case.listed.theta
        d = case.H @ Y - Y * theta - case.listed.Q.numpy().T @ case.listed.Z
        norms = np.linalg.norm(d, axis=0) / np.linalg.norm(case.H, 2)
        certificate = case.certificate(seed)
        certificate.multiply(np.arange(K) == 3)
        assert certificate.noise == pytest.approx(norms[3], rel=1e-6)
        sketched = case.certificate(seed)
        sketched.sketch()
        # A unit vector of the list hears at most the largest singular value.
        most = np.linalg.norm(d, 2) / np.linalg.norm(case.H, 2)
        assert norms.min() <= sketched.noise <= HEARD * most * (1 + 1e-9)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e30])
@pytest.mark.parametrize("sketched", [True, False])
def test_everything_scales_with_the_matrix(scale: float, sketched: bool) -> None:
    case = _case(0, dtype=torch.float32)
    listed = case.listed
    times = Listed(listed.V, listed.S, scale * listed.theta, listed.Q, scale * listed.Z)
    found = []
    for each in (case, Case(scale * case.H, times)):
        certificate = each.certificate()
        if sketched:
            certificate.sketch()
        certificate.multiply(np.arange(K) % 2 == (0 if sketched else np.arange(K) % 2))
        found.append(certificate.rotated()[0])
    one, other = found
    for attribute in ("theta", "unknown", "F"):
        mine = scale * getattr(one, attribute)
        np.testing.assert_allclose(
            getattr(other, attribute), mine, rtol=1e-6, atol=1e-9 * scale, err_msg=attribute
        )
    np.testing.assert_allclose(other.norms, scale * one.norms, rtol=1e-5)


@pytest.mark.parametrize("sketched", [True, False])
def test_a_zero_matrix_has_zeros_exactly(sketched: bool) -> None:
    Q = torch.zeros((0, P), dtype=torch.float64)
    case = Case(
        np.zeros((P, P)),
        Listed(torch.eye(P, dtype=torch.float64)[:K], np.eye(K), np.zeros(K), Q, np.zeros((0, K))),
    )
    certificate = case.certificate(rounding=10 * EPS64)
    if sketched:
        certificate.sketch()
    else:
        certificate.multiply(np.ones(K, dtype=bool))
    found: Residuals = certificate.rotated()[0]
    assert not found.theta.any()
    assert not found.norms.any()
    assert certificate.noise == 0.0


def test_what_products_without_noise_would_show_is_the_recurrence() -> None:
    case = _case(0)
    certificate = case.certificate(rounding=1e-3)
    ideal = certificate.ideal()
    Z, Q, Y = case.listed.Z, case.listed.Q.numpy(), case.listed.V.numpy()
    outside = Q.T @ Z - Y.T @ (Y @ Q.T @ Z)
    np.testing.assert_allclose(ideal.gram, outside.T @ outside, atol=1e-12)
    assert ideal.rounding == 0.0
    assert not ideal.unknown.any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_product_that_is_not_finite_is_a_sentence(bad: float) -> None:
    case = _case(0)
    certificate = Certificate(
        FunctionOperator(lambda v: v * bad, P),
        case.listed,
        tol=TOL,
        largest=1.0,
        rounding=0.0,
        seed=0,
    )
    with pytest.raises(CurvtoolError, match="float64 is not finite"):
        certificate.sketch()


def test_products_are_made_where_they_are_counted() -> None:
    case = _case(0)
    counted = Counted(_operator(case.H))
    certificate = Certificate(counted, case.listed, tol=TOL, largest=20.0, rounding=0.0, seed=0)
    certificate.sketch(3)
    certificate.multiply(np.arange(K) < 2)
    assert counted.calls == certificate.products == 5
    assert list(certificate.exact) == [True] * 2 + [False] * (K - 2)
    assert certificate.in_float64


def test_combinations_depend_on_the_seed_alone() -> None:
    case = _case(0)
    bounds = []
    for seed in (4, 4, 5):
        certificate = case.certificate(seed)
        certificate.sketch()
        bounds.append(certificate.rotated()[0].unknown)
    assert (bounds[0] == bounds[1]).all()
    assert (bounds[0] != bounds[2]).all()
