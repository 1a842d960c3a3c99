"""What a Lanczos recurrence excludes, against polynomials by numpy and dense majorants.

Letters: N dimensions, j steps, b directions of residuals, c a count, X a limit.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial import Polynomial

from curvtool.algorithms.exclusion import (
    Exclusion,
    admissible,
    bound,
    conditions,
    ends_of,
    listed_at,
    log_sum,
    outermost,
    threshold,
    unseen,
)
from curvtool.algorithms.settings import Which
from curvtool.results import FloatArray
from tests.algorithms.matrices import EPS64

VALUES = np.array([5.0, -4.0, 3.0, 0.0])


def _recurrence(B: FloatArray, v: FloatArray, steps: int) -> tuple[list[float], list[float]]:
    """Lanczos with full orthogonalization: alpha, and beta with the last one."""
    rows = [v / np.linalg.norm(v)]
    alpha, beta = [], []
    for _ in range(steps):
        w = B @ rows[-1]
        alpha.append(float(rows[-1] @ w))
        V = np.array(rows)
        for _ in range(2):
            w = w - V.T @ (V @ w)
        beta.append(float(np.linalg.norm(w)))
        rows.append(w / beta[-1])
    return alpha, beta


def _random(seed: int, N: int = 30, steps: int = 8) -> tuple[FloatArray, list[float], list[float]]:
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((N, N))
    B = (A + A.T) / 2
    return B, *_recurrence(B, rng.standard_normal(N), steps)


def _polynomials(alpha: list[float], beta: list[float]) -> list[Polynomial]:
    """p_0 .. p_j of the recurrence, coefficient by coefficient."""
    x = Polynomial([0, 1])
    p = [Polynomial([1.0])]
    for i, (a, b) in enumerate(zip(alpha, beta, strict=True)):
        before = beta[i - 1] * p[i - 1] if i else 0
        p.append(((x - a) * p[i] - before) / b)
    return p


@pytest.mark.parametrize("seed", range(5))
def test_the_sum_is_that_of_the_squared_polynomials(seed: int) -> None:
    B, alpha, beta = _random(seed)
    largest = float(np.linalg.eigvalsh(B)[-1])
    p = _polynomials(alpha, beta)
    for u in largest * np.array([1.01, 1.5, 10.0]):
        expected = sum(float(q(u)) ** 2 for q in p)
        # Horner of degree 8 with coefficients of both signs cancels some digits.
        assert log_sum(u, alpha, beta) == pytest.approx(math.log(expected), abs=1e-8)


@pytest.mark.parametrize("seed", range(5))
def test_no_eigenvector_has_more_of_the_start_than_the_sum_allows(seed: int) -> None:
    """Bessel's inequality, which everything stands on: (x'v)^2 S(mu) <= 1."""
    rng = np.random.default_rng([seed, 1])
    A = rng.standard_normal((20, 20))
    B, v = (A + A.T) / 2, rng.standard_normal(20)
    alpha, beta = _recurrence(B, v, 6)
    mu, X = np.linalg.eigh(B)
    for value, x in zip(mu, X.T, strict=True):
        c2 = float(x @ v) ** 2 / float(v @ v)
        assert math.log(c2) + log_sum(value, alpha, beta) <= 1e-10


@pytest.mark.parametrize("seed", range(5))
def test_step_by_step_is_the_same_as_all_at_once(seed: int) -> None:
    B, alpha, beta = _random(seed, steps=12)
    u = 1.3 * float(np.linalg.eigvalsh(B)[-1])
    end = Exclusion(u, needed=math.inf)
    for i, (a, b) in enumerate(zip(alpha, beta, strict=True)):
        end.step(a, beta[i - 1] if i else 0.0, b)
        assert end.growth[-1] == pytest.approx(log_sum(u, alpha[: i + 1], beta[: i + 1]), abs=1e-9)
    assert not end.seen
    assert (np.diff(end.growth) > 0).all()


def test_sums_beyond_all_numbers_are_divided_down() -> None:
    """Far beyond the spectrum each step multiplies S by (u / beta)^2."""
    steps, u = 40, 1e12
    end = Exclusion(u, needed=math.inf)
    for _ in range(steps):
        end.step(0.0, 1.0, 1.0)
    expected = 2 * steps * math.log(u)
    assert end.growth[-1] == pytest.approx(expected, rel=1e-9)
    assert log_sum(u, [0.0] * steps, [1.0] * steps) == pytest.approx(expected, rel=1e-9)


def test_a_constant_recurrence_has_chebyshevs_polynomials() -> None:
    """At u = r + 1 / r they are (r^(i + 1) - r^-(i + 1)) / (r - 1 / r)."""
    steps, r = 12, 1.7
    p = [(r ** (i + 1) - r ** -(i + 1)) / (r - 1 / r) for i in range(steps + 1)]
    needed = math.log(sum(x * x for x in p))
    alpha, beta = [0.0] * steps, [1.0] * steps
    assert log_sum(r + 1 / r, alpha, beta) == pytest.approx(needed, rel=1e-12)
    assert bound(alpha, beta, needed) == pytest.approx(r + 1 / r, rel=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_the_bound_is_the_root_from_above(seed: int) -> None:
    _, alpha, beta = _random(seed)
    needed = threshold(30, 1e-3)
    U = bound(alpha, beta, needed)
    width = 20.0
    assert log_sum(U, alpha, beta) > needed
    assert log_sum(U - 1e-9 * width, alpha, beta) <= needed
    # And so an exclusion at U is proved, just below it is not.
    for u, proved in ((U, True), (U - 1e-9 * width, False)):
        end = Exclusion(u, needed)
        for i, (a, b) in enumerate(zip(alpha, beta, strict=True)):
            end.step(a, beta[i - 1] if i else 0.0, b)
        assert end.proved is proved


def test_the_bound_falls_with_each_step_and_ends_at_the_largest_eigenvalue() -> None:
    rng = np.random.default_rng(0)
    B = np.diag(np.linspace(-1, 1, 12))
    alpha, beta = _recurrence(B, rng.standard_normal(12), 11)
    needed = threshold(12, 1e-3)
    bounds = [bound(alpha[:j], beta[:j], needed) for j in range(1, 12)]
    assert (np.diff(bounds) <= 1e-12).all()
    assert bounds[0] > 1 > bounds[-1] - 1
    # A closed recurrence has met all that there is.
    assert bound(alpha[:1], [0.0], needed) == alpha[0]


@pytest.mark.parametrize("chance", [0.3, 0.05])
def test_the_bound_fails_as_seldom_as_it_says(chance: float) -> None:
    """A spike that a random start nearly misses: what the probability is about."""
    N, steps, cases = 40, 6, 3000
    d = np.append(np.linspace(-1, 1, N - 1), 3.0)
    rng = np.random.default_rng(int(100 * chance))
    needed, failed = threshold(N, chance), 0
    for _ in range(cases):
        v = rng.standard_normal(N)
        v /= np.linalg.norm(v)
        alpha, beta, before, b = [], [], np.zeros(N), 0.0
        for _ in range(steps):  # six steps need no second orthogonalization
            w = d * v - b * before
            alpha.append(float(v @ w))
            w = w - alpha[-1] * v
            b = float(np.linalg.norm(w))
            beta.append(b)
            before, v = v, w / b
        failed += bound(alpha, beta, needed) < 3.0
    slack = 5 * (cases * chance * (1 - chance)) ** 0.5
    assert failed <= chance * cases + slack
    # The constant is near tight: nearly as many fail as may.
    assert failed >= 0.5 * chance * cases


def test_the_chance_of_a_start_that_is_nearly_orthogonal() -> None:
    """(x'v)^2 < pi a^2 / (2 N) with probability a at most, and nearly a."""
    N, a, cases = 12, 0.1, 100_000
    v = np.random.default_rng(0).standard_normal((cases, N))
    c2 = v[:, 0] ** 2 / (v**2).sum(axis=1)
    share = float((c2 < math.exp(-threshold(N, a))).mean())
    slack = 5 * (a / cases) ** 0.5
    assert 0.9 * a - slack <= share <= a + slack


def test_the_p_value_is_the_chance_that_the_sum_stands_for() -> None:
    _, alpha, beta = _random(0)
    N = 30
    for a in (0.5, 0.1, 1e-3, 1e-8):
        U = bound(alpha, beta, threshold(N, a))
        assert unseen(U, alpha, beta, N) == pytest.approx(a, rel=1e-5)
    ritz = np.diag(alpha) + np.diag(beta[:-1], 1) + np.diag(beta[:-1], -1)
    top = float(np.linalg.eigvalsh(ritz)[-1])
    assert unseen(top, alpha, beta, N) == 1.0
    assert unseen(top - 1, alpha, beta, N) == 1.0
    assert unseen(1e9, alpha, beta, N) == 1e-10


def test_a_ritz_value_beyond_the_point_is_seen() -> None:
    end = Exclusion(1.0, threshold(100, 1e-3))
    end.step(0.0, 0.0, 1.0)
    assert not end.seen
    end.step(0.5, 1.0, 1.0)  # Ritz values 0.25 +- 1.03
    assert end.seen
    assert not end.proved


@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_a_recurrence_that_closes_tells_everything(alpha: float) -> None:
    end = Exclusion(2.0, threshold(100, 1e-3))
    end.step(alpha, 0.0, 0.0)
    assert end.proved is (alpha < 2)
    assert end.seen is (alpha > 2)


def test_the_forecast_of_steady_growth_is_right() -> None:
    """Beyond the range [-2, 2] of a constant recurrence S grows at a constant rate."""
    needed = threshold(10**6, 1e-4)
    end = Exclusion(2.2, needed)
    told = 0.0
    while not end.proved:
        end.step(0.0, 1.0 if len(end.growth) > 1 else 0.0, 1.0)
        if len(end.growth) == 7:
            told = end.forecast
    # The rate itself falls to its limit as 1 / j: the growth so far promises a little too much.
    taken = len(end.growth) - 1
    assert 0.9 * taken <= told <= taken
    assert end.forecast == taken


# --- what the complement's bound says of the whole matrix


@st.composite
def _deflated(draw: st.DrawFn) -> tuple[FloatArray, FloatArray, float, int]:
    """Values, couplings, a limit that is none of the values, and a count."""
    k, b = draw(st.integers(1, 7)), draw(st.integers(1, 3))
    seed = draw(st.integers(0, 10_000))
    rng = np.random.default_rng(seed)
    theta = np.sort(rng.uniform(0, 2, k))[::-1]
    R = rng.standard_normal((k, b)) * 10 ** rng.uniform(-3, 0.5)
    return theta, R, float(rng.uniform(-0.5, 2.5)), draw(st.integers(0, k + 1))


def _majorant(theta: FloatArray, R: FloatArray, U: float) -> FloatArray:
    return np.block([[np.diag(theta), R], [R.T, U * np.eye(R.shape[1])]])


@settings(max_examples=200)
@given(_deflated())
def test_limits_are_where_the_majorant_has_one_eigenvalue_more(
    case: tuple[FloatArray, FloatArray, float, int],
) -> None:
    theta, R, X, c = case
    (limit,) = admissible(theta, R, [(X, c)])
    scale = 1 + float(np.linalg.norm(R, 2)) + abs(limit if math.isfinite(limit) else 0)
    # Of eigenvalues of a small matrix, and of a Schur complement divided by the distance to X.
    slack = 1e-9 * scale * (1 + float(np.linalg.norm(R, 2) / np.abs(X - theta).min()) ** 2)

    def beyond(U: float, by: float) -> int:
        return int((np.linalg.eigvalsh(_majorant(theta, R, U)) > X + by).sum())

    if limit == -math.inf:
        assert beyond(-1e12, -slack) > c
        return
    assert limit <= X
    for below in (0.0, 0.1, 10.0):
        assert beyond(limit - slack - below, slack) <= c
    # Above it U itself is beyond X, or one eigenvalue more is.
    if limit < X:
        assert beyond(limit + slack, -slack) > c


@pytest.mark.parametrize("seed", range(20))
def test_a_complement_below_the_limit_proves_the_condition(seed: int) -> None:
    """The statement itself, on whole matrices: A has at most c eigenvalues above X."""
    rng = np.random.default_rng(seed)
    k, n = int(rng.integers(1, 6)), 20
    theta = np.sort(rng.uniform(1, 2, k))[::-1]
    B = rng.standard_normal((n, k)) * 10 ** rng.uniform(-2, 0) / n**0.5
    Q, R = np.linalg.qr(B)
    wanted = [(float(t) + 0.05, r) for r, t in enumerate(theta)]
    limits = admissible(theta, R.T, wanted)
    for (X, c), limit in zip(wanted, limits, strict=True):
        if not math.isfinite(limit):
            continue
        U = np.linalg.qr(rng.standard_normal((n, n)))[0]
        spectrum = limit - rng.exponential(0.5, n)
        spectrum[0] = limit
        C = (U * spectrum) @ U.T
        A = np.block([[np.diag(theta), B.T], [B, C]])
        assert (np.linalg.eigvalsh(A) > X + 1e-10).sum() <= c
        # The worst case is reached: the limit in all directions of the residuals.
        C = limit * np.eye(n) + (1e-6 if limit < X else 0) * np.eye(n)
        A = np.block([[np.diag(theta), B.T], [B, C]])
        assert limit == X or (np.linalg.eigvalsh(A) > X).sum() == c + 1
    # And every bound of an eigenvalue that follows from it holds.
    U_value = float(limits[np.isfinite(limits)].min(initial=1.0))
    spectrum = U_value - rng.exponential(0.5, n)
    V = np.linalg.qr(rng.standard_normal((n, n)))[0]
    A = np.block([[np.diag(theta), B.T], [B, (V * spectrum) @ V.T]])
    true = np.linalg.eigvalsh(A)[::-1]
    bounds = outermost(theta, R.T, U_value, k + 1)
    assert (true[: k + 1] <= bounds + 1e-12).all()
    assert (np.diff(bounds) <= 0).all()
    assert Q.shape == (n, k)


def test_without_couplings_the_limit_is_the_value() -> None:
    theta, none = np.array([3.0, 2.0]), np.zeros((2, 0))
    assert list(admissible(theta, none, [(3.1, 0), (2.1, 1), (2.1, 0)])) == [3.1, 2.1, -np.inf]
    assert list(outermost(theta, none, 1.0, 3)) == [3.0, 2.0, 1.0]
    assert list(outermost(theta, none, 2.5, 4)) == [3.0, 2.5, 2.5, 2.5]


def test_a_single_residual_direction_has_the_limit_in_closed_form() -> None:
    theta, b = np.array([3.0, 2.0, 1.0]), np.array([0.1, 0.2, 0.3])
    X = 2.5
    (limit,) = admissible(theta, b[:, None], [(X, 1)])
    assert limit == pytest.approx(X - float((b**2 / (X - theta)).sum()), rel=8 * EPS64)


def test_no_limit_proves_what_a_coupling_at_the_point_itself_denies() -> None:
    limits = admissible(np.array([1.0]), np.array([[0.1]]), [(1.0, 0)])
    assert limits[0] < -1e200


# --- whose value belongs to which end


@pytest.mark.parametrize(
    ("which", "upper", "lower"),
    [
        ("LM", [0, 2], [1]),
        ("LA", [0, 2, 3, 1], []),
        ("SA", [], [1, 3, 2, 0]),
        ("BE", [0, 1], [3, 2]),
    ],
)
def test_listed_values_by_end(which: Which, upper: list[int], lower: list[int]) -> None:
    values = np.array([5.0, 3.0, 0.0, -4.0]) if which == "BE" else VALUES
    assert listed_at(values, which, upper=True) == upper
    assert listed_at(values, which, upper=False) == lower


def test_conditions_are_those_of_the_list() -> None:
    margin = np.full(4, 0.1)
    assert conditions(VALUES, margin, "LA", upper=True) == [
        (5.1, 0),
        (3.1, 1),
        (0.1, 2),
        (-3.9, 3),
    ]
    assert conditions(VALUES, margin, "LA", upper=False) == []
    # Of LM also none beyond the smallest magnitude, at either end.
    assert conditions(VALUES, margin, "LM", upper=True) == [(5.1, 0), (3.1, 1), (0.1, 2)]
    assert conditions(VALUES, margin, "LM", upper=False) == [(4.1, 0), (0.1, 1)]


def test_ends_that_are_asked_for() -> None:
    assert ends_of("LA", 3) == (True,)
    assert ends_of("SA", 3) == (False,)
    assert ends_of("LM", 1) == (True, False)
    assert ends_of("BE", 1) == (True,)
    assert ends_of("BE", 2) == (True, False)
