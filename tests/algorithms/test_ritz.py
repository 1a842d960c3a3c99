from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curvtool.algorithms.ritz import beyond, gaps, value_bounds, wanted
from curvtool.algorithms.settings import Which

VALUES = np.array([-5.0, -1.0, 0.5, 2.0, 4.0])


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("LM", [-5.0, 4.0, 2.0]),
        ("LA", [4.0, 2.0, 0.5]),
        ("SA", [-5.0, -1.0, 0.5]),
        ("BE", [4.0, 2.0, -5.0]),
    ],
)
def test_order_of_results(which: Which, expected: list[float]) -> None:
    assert list(VALUES[wanted(VALUES, which, 3)]) == expected


def test_both_ends_are_listed_decreasing() -> None:
    assert list(VALUES[wanted(VALUES, "BE", 4)]) == [4.0, 2.0, -1.0, -5.0]


@given(st.integers(2, 12), st.integers(1, 6), st.integers(0, 10_000))
def test_the_bound_holds_an_eigenvalue_with_the_true_gap(P: int, n: int, seed: int) -> None:
    """Kato-Temple, on random matrices and random orthonormal bases."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((P, P))
    A = A + A.T
    lam, U = np.linalg.eigh(A)
    # A space tilted from eigenvectors by an angle between nothing and a lot.
    tilt = 10.0 ** rng.uniform(-6, 0)
    V = np.linalg.qr(U[:, : min(n, P)] + tilt * rng.standard_normal((P, min(n, P))))[0]
    theta, S = np.linalg.eigh(V.T @ A @ V)
    Y = V @ S
    rho = np.linalg.norm(A @ Y - Y * theta, axis=0)
    for t, r in zip(theta, rho, strict=True):
        others = np.sort(np.abs(lam - t))
        gap = others[1] if P > 1 else np.inf
        bound = value_bounds(np.array([r]), np.array([gap]))
        assert others[0] <= bound[0] + 1e-14 * abs(lam).max()


def test_gaps_leave_room_for_the_others_errors() -> None:
    gap = gaps(np.array([1.0, 2.0, 5.0]), np.array([0.1, 0.5, 0.2]))
    assert np.allclose(gap, [0.5, 0.9, 2.5])
    assert gaps(np.array([1.0]), np.array([0.1])) == np.inf


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("LM", (-2.1, 2.1)),
        ("LA", (-np.inf, 2.1)),
        ("SA", (1.9, np.inf)),
    ],
)
def test_beyond_is_past_the_last_value_and_its_error(
    which: Which, expected: tuple[float, float]
) -> None:
    assert beyond(np.array([3.0, 2.0]), which, margin=np.array([0.5, 0.1])) == pytest.approx(
        expected
    )


def test_beyond_of_both_ends() -> None:
    theta, margin = np.array([4.0, 2.0, -5.0]), np.array([0.1, 0.2, 0.3])
    assert beyond(theta, "BE", margin=margin) == pytest.approx((-5.3, 2.2))
    assert beyond(theta[:1], "BE", margin=margin[:1]) == pytest.approx((-np.inf, 4.1))
