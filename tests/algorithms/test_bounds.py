"""Bounds of values from residuals, against dense matrices built to have just these residuals.

Letters: P size, k pairs, n = P - k, H = [[M, B'], [B, C]], M = diag(theta) + F, B = X + D.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.special import ndtr

from curvtool.algorithms.bounds import Residuals, enlargement, value_errors
from curvtool.results import FloatArray
from tests.algorithms.matrices import EPS64

P = 40
# Eigenvalues of a dense matrix of norm 3 by LAPACK.
ROUNDING = P * EPS64 * 3


@pytest.mark.parametrize("miss", [1e-3, 1e-2])
@pytest.mark.parametrize("combinations", [1, 2, 3, 4, 6])
def test_enlargement_is_the_exact_law_of_the_largest_of_m_normal_numbers(
    combinations: int, miss: float
) -> None:
    inside = 2 * ndtr(1 / enlargement(combinations, miss)) - 1
    assert inside**combinations == pytest.approx(miss, rel=1e-9)


def test_enlargement_is_what_the_method_quotes() -> None:
    quoted = {2: 25.2, 3: 7.96, 4: 4.45, 6: 2.46}
    assert {m: enlargement(m) for m in quoted} == pytest.approx(quoted, rel=3e-3)


@pytest.mark.parametrize("rank", [1, 3])
def test_a_norm_is_underestimated_as_often_as_it_says(rank: int) -> None:
    """The worst case, one direction, is met exactly; of several the bound is safer."""
    rng, miss, cases = np.random.default_rng(rank), 0.05, 20_000
    singular = np.linspace(1, 0.5, rank)
    c = rng.standard_normal((cases, 3, rank))
    bound = enlargement(3, miss) * np.linalg.norm(c * singular, axis=2).max(axis=1)
    missed = int((bound < 1).sum())
    # Five standard deviations of a binomial: a false alarm in millions.
    slack = 5 * (cases * miss * (1 - miss)) ** 0.5
    assert missed <= cases * miss + slack
    if rank == 1:
        assert missed >= cases * miss - slack


@dataclass(frozen=True, eq=False)
class Case:
    """A matrix, what is known of k vectors, and the end that each is listed for."""

    H: FloatArray
    found: Residuals
    upper: np.ndarray

    def limits(self, ends: tuple[bool, ...], loose: FloatArray) -> dict[bool, FloatArray]:
        """Bounds of the outermost eigenvalues, each true, each too large by `loose`."""
        made = {}
        for end in ends:
            outer = np.sort((1 if end else -1) * np.linalg.eigvalsh(self.H))[::-1]
            count = int((self.upper == end).sum()) + 1
            made[end] = outer[:count] + loose[:count] + ROUNDING
        return made


KINDS = ("apart", "cluster", "copies", "both ends", "one missing")


def _case(kind: str, *, exact: bool, seed: int) -> Case:
    """One end or two, values above a bulk, residuals and couplings of any size that fits."""
    rng = np.random.default_rng([seed, KINDS.index(kind), exact])
    k = int(rng.integers(1, 9))
    theta = 1 + np.cumsum(rng.exponential(0.2, k))
    if kind == "cluster":
        theta[k // 2 :] = theta[k // 2] + 10.0 ** rng.uniform(-9, -3, k - k // 2)
    if kind == "copies":
        theta[k // 2 :] = theta[k // 2]
    upper = np.ones(k, dtype=bool)
    if kind == "both ends":
        upper = rng.random(k) < 0.5
        theta = np.where(upper, theta, -theta)
    n = P - k
    size = 10.0 ** rng.uniform(-6, -1, 2)
    X = rng.standard_normal((n, k)) * size[0] * 10.0 ** rng.uniform(-3, 0, k) / n**0.5
    F = D = np.zeros((n, k))
    F_bound, u = np.zeros((k, k)), np.zeros(k)
    if exact:
        F = np.zeros((k, k))
    else:
        s = 10.0 ** rng.uniform(-2, 0, k)
        F_bound = size[1] * np.minimum(np.outer(s, np.ones(k)), s) * 10.0 ** rng.uniform(-2, 0)
        F_bound = np.minimum(F_bound, F_bound.T)
        F = F_bound * rng.uniform(-1, 1, (k, k))
        F = (F + F.T) / 2
        u = size[1] * s
        # As combinations bound it: the Frobenius norm of D diag(1 / u) is at most 1.
        D = rng.standard_normal((n, k))
        D *= rng.random() / np.linalg.norm(D) * u
    U = np.linalg.qr(rng.standard_normal((n, n)))[0]
    bulk = rng.uniform(-1, 1, n) * rng.uniform(0.1, 0.95)
    if kind == "one missing":
        bulk[0] = theta[rng.integers(k)] * rng.choice([1.0, 0.99])
    C = (U * bulk) @ U.T
    H = np.block([[np.diag(theta) + F, (X + D).T], [X + D, C]])
    found = Residuals(theta, F_bound, X.T @ X, u, joint=True, rounding=ROUNDING)
    return Case((H + H.T) / 2, found, upper)


def _by_index(case: Case, errors: FloatArray) -> FloatArray:
    """Distance of each value to the eigenvalue of its index, over its error."""
    rising = np.linalg.eigvalsh(case.H)
    ratio = np.zeros(len(errors))
    for end in (True, False):
        mine = np.flatnonzero(case.upper == end)
        mine = mine[np.argsort((-1 if end else 1) * case.found.theta[mine], kind="stable")]
        outer = rising[::-1] if end else rising
        ratio[mine] = np.abs(case.found.theta[mine] - outer[: len(mine)]) / errors[mine]
    return ratio


def _nothing_missing(case: Case, limits: dict[bool, FloatArray]) -> bool:
    """Whether the limits of each end lie clear of its values by what residuals may do to these."""
    clear = 10 * np.linalg.norm(case.found.norms)
    for end, proved in limits.items():
        theta = (1 if end else -1) * case.found.theta[case.upper == end]
        if len(theta) and theta.min() - proved[len(theta)] <= clear:
            return False
    return True


@pytest.mark.parametrize("exact", [False, True], ids=["bounded", "exact"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_value_lies_within_its_error_of_the_eigenvalue_of_its_index(
    kind: str, exact: bool
) -> None:
    proved = tight = 0
    for seed in range(150):
        case = _case(kind, exact=exact, seed=seed)
        loose = np.random.default_rng(seed).exponential(0.02, P)
        limits = case.limits((True, False), loose * (seed % 2))
        errors = value_errors(case.found, case.upper, limits)
        near = np.abs(case.found.theta[:, None] - np.linalg.eigvalsh(case.H)).min(axis=1)
        assert (near <= errors).all(), seed
        if _nothing_missing(case, limits):
            proved += 1
            assert (_by_index(case, errors) <= 1).all(), (seed, errors)
            tight += bool((errors < case.found.norms / 2).any())
    # The law would say nothing if it were never tried, or if norms were all that is ever used.
    assert proved >= 50 or kind == "one missing"
    assert tight >= proved / 3


@pytest.mark.parametrize("kind", KINDS)
def test_without_limits_the_error_is_the_residual_norm(kind: str) -> None:
    for seed in range(40):
        case = _case(kind, exact=False, seed=seed)
        errors = value_errors(case.found, case.upper, {})
        k = len(errors)
        norms = np.linalg.norm(case.H[:, :k] - np.eye(P, k) * case.found.theta, axis=0)
        assert (norms <= case.found.norms).all()
        assert (errors == case.found.norms).all()
        near = np.abs(case.found.theta[:, None] - np.linalg.eigvalsh(case.H)).min(axis=1)
        assert (near <= errors).all()


def test_a_missing_value_voids_the_gap_of_those_inside_and_of_no_other() -> None:
    """2 is listed once and there twice: what lies outward of it keeps its bound."""
    theta = np.array([4.0, 3.0, 2.0])
    found = Residuals(theta, np.zeros((3, 3)), np.eye(3) * 1e-6, np.zeros(3), True, 0.0)
    limits = {True: np.array([4.1, 3.1, 2.0, 2.0])}
    errors = value_errors(found, np.ones(3, dtype=bool), limits)
    assert errors[2] == found.norms[2]
    # Residuals that are orthogonal to each other, over the distance to 2.
    np.testing.assert_allclose(errors[:2], 1e-6 / (theta[:2] - 2), rtol=1e-3)


def test_a_short_residual_does_not_vouch_for_the_index_of_a_value_in_a_cluster() -> None:
    """1 is an eigenvalue; the one above it is listed below it, by a worse vector."""
    gap, r = 1.0, 1e-3
    theta = np.array([1.0, 1.0 - r**2 / 4])
    H = np.diag([*theta, -(1 - gap)])
    H[1, 2] = H[2, 1] = r
    values = np.linalg.eigvalsh(H)[::-1]
    assert values[0] > 1 + r**2 / 2
    found = Residuals(theta, np.zeros((2, 2)), np.diag([0, r**2]), np.zeros(2), True, ROUNDING)
    errors = value_errors(found, np.ones(2, dtype=bool), {True: values + ROUNDING})
    assert (np.abs(theta - values[:2]) <= errors).all()
    assert (errors <= 2 * r**2).all()


def test_the_bound_of_one_pair_is_that_of_temple_and_kato() -> None:
    theta, r, gap = 2.0, 1e-3, 0.5
    found = Residuals(
        np.array([theta]), np.zeros((1, 1)), np.array([[r**2]]), np.zeros(1), True, 0.0
    )
    limits = {True: np.array([np.inf, theta - gap])}
    (error,) = value_errors(found, np.array([True]), limits)
    assert error == pytest.approx(r**2 / gap, rel=1e-12)
    # It is attained: the matrix [[2, r], [r, c]] whose second eigenvalue is the limit.
    c = theta - gap + r**2 / gap
    top = np.linalg.eigvalsh([[theta, r], [r, c]])
    np.testing.assert_allclose(top, [theta - gap, theta + r**2 / gap], rtol=4 * EPS64)


def test_exact_products_are_lehmanns_optimal_bounds() -> None:
    """Of all matrices with these residuals and lambda_(q + 1) <= alpha the worst is as bounded."""
    rng = np.random.default_rng(0)
    theta, alpha = np.array([3.0, 2.9999, 2.5]), 1.0
    R = rng.standard_normal((3, 3)) * 0.1
    found = Residuals(theta, np.zeros((3, 3)), R.T @ R, np.zeros(3), True, 0.0)
    errors = value_errors(found, np.ones(3, dtype=bool), {True: np.array([9, 9, 9, alpha])})
    # H = [[theta, R'], [R, C]] has lambda_4 = alpha exactly where the Schur complement says so.
    C = alpha * np.eye(3) + R @ np.diag(1 / (theta - alpha)) @ R.T
    H = np.block([[np.diag(theta), R.T], [R, C]])
    values = np.linalg.eigvalsh(H)[::-1]
    np.testing.assert_allclose(values[3:], alpha, rtol=1e-12)
    np.testing.assert_allclose(values[:3] - theta, errors, rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-40, 1e-20, 1e20, 1e40])
def test_bounds_scale_with_the_matrix(scale: float) -> None:
    for kind in KINDS:
        case = _case(kind, exact=False, seed=3)
        found = case.found
        limits = case.limits((True, False), np.zeros(P))
        scaled = Residuals(
            scale * found.theta,
            scale * found.F,
            scale**2 * found.gram,
            scale * found.unknown,
            joint=True,
            rounding=scale * found.rounding,
        )
        errors = value_errors(found, case.upper, limits)
        times = {end: scale * proved for end, proved in limits.items()}
        np.testing.assert_allclose(value_errors(scaled, case.upper, times), scale * errors, 1e-6)


def test_a_nearer_limit_never_loosens_a_bound() -> None:
    for seed in range(40):
        case = _case("cluster", exact=False, seed=seed)
        limits = case.limits((True,), np.zeros(P))
        looser = {True: limits[True] + 0.05}
        tight, loose = (value_errors(case.found, case.upper, each) for each in (limits, looser))
        by_index = loose < case.found.norms
        assert (tight <= loose * (1 + 1e-12))[by_index].all()
