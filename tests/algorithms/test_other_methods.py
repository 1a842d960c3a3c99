from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from curvtool.algorithms.dense import dense
from curvtool.algorithms.external import scipy_eigsh, scipy_lobpcg
from curvtool.algorithms.listed import Watched, certified
from curvtool.algorithms.power import power_iteration
from curvtool.algorithms.settings import EigenSettings, Which
from curvtool.operators.base import Counted, FunctionOperator
from curvtool.results import WHOLE_MATRIX, Certification, EigenPairs, Outcome
from tests.algorithms.matrices import EPS64, assert_true, diagonal, network_like, rotated

Method = Callable[..., EigenPairs]
BASE = EigenSettings(k=5, noise=10 * EPS64, max_hvps=5000)
SERVED: list[tuple[Method, Which]] = [
    *[(dense, w) for w in ("LM", "LA", "SA", "BE")],
    *[(scipy_eigsh, w) for w in ("LM", "LA", "SA", "BE")],
    *[(scipy_lobpcg, w) for w in ("LA", "SA")],
    *[(power_iteration, w) for w in ("LM", "LA", "SA")],
]


@pytest.mark.parametrize(("method", "which"), SERVED)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
def test_every_method_finds_the_same_pairs(
    method: Method, which: Which, dtype: torch.dtype
) -> None:
    # Both ends well separated, for power iteration's sake.
    eigenvalues = np.concatenate([8 * 0.7 ** np.arange(8), np.zeros(84), -6 * 0.7 ** np.arange(8)])
    known = rotated(eigenvalues, seed=0, dtype=dtype)
    counted = Counted(known.operator)
    settings = replace(BASE, which=which, noise=10 * torch.finfo(dtype).eps, vectors=True)
    pairs = method(counted, settings)
    assert pairs.outcome is Outcome.CONVERGED
    assert (np.abs(pairs.eigenvalues - known.truth(which, 5)) <= pairs.eigenvalue_errors).all()
    assert pairs.hvps == counted.calls == sum(pairs.hvps_by_stage.values())
    Y = pairs.eigenvectors.double()
    residuals = (known.matrix.double() @ Y.T - Y.T * torch.from_numpy(pairs.eigenvalues)).norm(
        dim=0
    )
    assert (residuals.numpy() <= pairs.residual_norms).all()


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_momentum_changes_the_speed_and_not_the_value(momentum: float) -> None:
    operator = diagonal(np.array([10.0, 9.0, 5.0, 1.0, 0.5, 0.1]))
    pairs = power_iteration(operator, replace(BASE, k=2, momentum=momentum, tol=1e-8))
    assert np.allclose(pairs.eigenvalues, [10.0, 9.0], rtol=0, atol=1e-8)
    assert (np.abs(pairs.eigenvalues - [10.0, 9.0]) <= pairs.eigenvalue_errors).all()


def test_momentum_saves_products() -> None:
    operator = diagonal(network_like(100, seed=0))
    plain, fast = (power_iteration(operator, replace(BASE, momentum=m)) for m in (0.0, 0.9))
    assert fast.hvps < plain.hvps


def test_power_iteration_says_when_signs_tie() -> None:
    # +1 and -1 have the same magnitude: the iteration swings between them for ever.
    pairs = power_iteration(
        diagonal(np.array([1.0, -1.0, 0.1, 0.05])), replace(BASE, k=1, max_hvps=100)
    )
    assert pairs.outcome is Outcome.MAX_HVPS
    assert not pairs.converged.any()
    assert pairs.hvps <= 100


def test_a_copy_that_a_solver_missed_is_not_called_complete() -> None:
    eigenvalues = np.concatenate([[5.0, 5.0, 3.0], np.linspace(-1, 1, 197)])
    for seed in range(20):
        counted = Counted(diagonal(eigenvalues), budget=50)
        # What a solver that holds one copy would hand over: 5 and 3.
        found = torch.eye(200, dtype=torch.float64)[[0, 2]]
        pairs = certified(
            counted,
            Watched(counted),
            found,
            replace(BASE, k=2, seed=seed),
            method="eigsh",
            began=0.0,
            spent=False,
        )
        assert pairs.converged.all()
        assert not pairs.completeness.complete
        assert pairs.outcome is Outcome.CONVERGED
        end = pairs.completeness.upper
        assert end is not None
        assert end.nothing_beyond is not None
        assert (eigenvalues > end.nothing_beyond).sum() <= end.proved_rank


@pytest.mark.parametrize("method", [scipy_eigsh, scipy_lobpcg, power_iteration])
def test_the_limit_of_products_is_kept_and_said(method: Method) -> None:
    counted = Counted(rotated(np.linspace(0, 1, 200), seed=0).operator)
    pairs = method(counted, replace(BASE, which="LA", tol=1e-8, max_hvps=60))
    assert counted.calls == pairs.hvps <= 60
    assert pairs.outcome is not Outcome.CONVERGED
    assert pairs.outcome is Outcome.MAX_HVPS


@pytest.mark.parametrize("method", [scipy_eigsh, scipy_lobpcg, power_iteration])
@pytest.mark.parametrize("k", [1, 5])
def test_a_limit_too_small_for_anything_is_kept_all_the_same(method: Method, k: int) -> None:
    known = rotated(network_like(100, seed=0), seed=0)
    for max_hvps in range(3, 40):
        counted = Counted(known.operator)
        pairs = method(counted, replace(BASE, k=k, which="LA", tol=1e-12, max_hvps=max_hvps))
        assert counted.calls == pairs.hvps <= max_hvps


@pytest.mark.parametrize("which", ["LM", "LA", "SA", "BE"])
def test_eigsh_finds_the_pairs_of_a_zero_matrix(which: Which) -> None:
    pairs = scipy_eigsh(diagonal(np.zeros(60)), replace(BASE, which=which))
    assert pairs.outcome is Outcome.CONVERGED
    assert not pairs.eigenvalues.any()


def test_eigsh_finds_one_pair_of_both_ends_at_the_top() -> None:
    pairs = scipy_eigsh(diagonal(np.linspace(-9, 4, 60)), replace(BASE, k=1, which="BE"))
    assert pairs.outcome is Outcome.CONVERGED
    assert abs(pairs.eigenvalues[0] - 4) <= pairs.eigenvalue_errors[0]


def test_a_list_with_holes_is_bounded_by_its_residuals() -> None:
    """One pair mixes two eigenvalues, of which nothing in the list of two for three tells."""
    operator = Counted(diagonal(np.array([10.0, 9.99, 1.0, *np.zeros(27)])))
    Y = torch.zeros(2, 30, dtype=torch.float64)
    Y[0, :2] = 0.5**0.5
    Y[1, 2] = 1.0
    pairs = certified(
        operator,
        Watched(operator),
        Y,
        replace(BASE, k=3),
        method="test",
        began=0.0,
        spent=True,
    )
    assert abs(pairs.eigenvalues[0] - 10) <= pairs.eigenvalue_errors[0]


@pytest.mark.parametrize(
    ("method", "change", "match"),
    [
        (power_iteration, {"which": "BE"}, "LM, LA and SA"),
        (power_iteration, {"momentum": 1.0}, "momentum"),
        (power_iteration, {"k": 31}, "1 <= k"),
        (scipy_lobpcg, {"which": "LM"}, "LA and SA"),
        (scipy_lobpcg, {"which": "LA", "k": 6}, "5 k"),
        (scipy_eigsh, {"k": 30}, "P - 1"),
        (dense, {"k": 31}, "1 <= k"),
    ],
)
def test_what_a_method_cannot_serve_is_refused(
    method: Method, change: dict[str, object], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        method(diagonal(np.arange(30.0)), replace(BASE, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize("P", [1, 2, 30])
def test_the_dense_way_gives_every_eigenvalue(P: int) -> None:
    known = rotated(np.random.default_rng(0).standard_normal(P), seed=0)
    pairs = dense(known.operator, replace(BASE, k=P, which="SA"))
    assert pairs.outcome is Outcome.CONVERGED
    assert pairs.completeness is WHOLE_MATRIX
    assert pairs.certification is Certification.MATRIX
    assert (np.abs(pairs.eigenvalues - np.sort(known.eigenvalues)) <= pairs.eigenvalue_errors).all()


def test_the_dense_way_sees_an_asymmetric_matrix() -> None:
    A = torch.randn(30, 30, generator=torch.Generator().manual_seed(0)).double()
    pairs = dense(FunctionOperator(lambda v: A @ v, 30), BASE)
    assert pairs.outcome is Outcome.FLOOR
    assert not pairs.converged.any()
    # Symmetric part and antisymmetric part differ from A by the latter: its norm is in the error.
    antisymmetric = float(torch.linalg.matrix_norm((A - A.T) / 2, 2))
    assert (pairs.eigenvalue_errors >= antisymmetric).all()


def test_the_dense_way_multiplies_in_float64_where_it_can() -> None:
    known = rotated(network_like(60, seed=0), seed=0, dtype=torch.float32)
    own, reference = Counted(known.operator), Counted(known.reference)
    settings = replace(BASE, which="LA", noise=10 * EPS64)
    pairs = dense(own, replace(settings, reference=reference))
    assert (own.calls, reference.calls) == (1, 60)  # one tells how the matrix rounds
    assert pairs.hvps == 61
    assert pairs.certification is Certification.MATRIX
    assert pairs.converged.all()
    assert pairs.eigenvalue_errors.max() <= 100 * 60 * EPS64 * 20
    assert (np.abs(pairs.eigenvalues - known.truth("LA", 5)) <= pairs.eigenvalue_errors).all()
    # Without a reference four more products bound how far the matrix is from the operator.
    alone = dense(own, replace(settings, noise=1e-7))
    assert (own.calls, alone.hvps_by_stage["certify"]) == (65, 4)
    assert alone.certification is Certification.OWN_PRODUCTS
    assert (np.abs(alone.eigenvalues - known.truth("LA", 5)) <= alone.eigenvalue_errors).all()


def test_the_dense_way_tells_products_that_are_not_those_of_its_matrix() -> None:
    """Columns and fresh products differ by 1 %: symmetric each time, but not one H."""
    known = rotated(network_like(60, seed=0), seed=0)
    calls = 0

    def drifting(v: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return known.matrix @ v * (1.01 if calls > 60 else 1.0)

    pairs = dense(FunctionOperator(drifting, 60), BASE)
    assert not pairs.converged.any()
    assert (pairs.eigenvalue_errors >= 0.01 * 20 / 5).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
def test_what_eigsh_lists_is_proved_and_what_others_list_is_not(dtype: torch.dtype) -> None:
    eigenvalues = np.concatenate([8 * 0.7 ** np.arange(8), np.zeros(92)])
    for seed in range(5):
        known = rotated(eigenvalues, seed=seed, dtype=dtype)
        operator, reference = Counted(known.operator), Counted(known.reference)
        settings = replace(BASE, which="LA", seed=seed, reference=reference)
        found = scipy_eigsh(operator, settings)
        assert_true(known, found)
        assert found.completeness.complete
        assert found.certification is Certification.BLOCK
        assert found.hvps == operator.calls + reference.calls
        assert found.hvps_by_stage["probe"] == found.completeness.products >= 2
        for method, name in ((scipy_lobpcg, "LOBPCG"), (power_iteration, "power iteration")):
            other = method(known.operator, settings)
            assert_true(known, other)
            assert not other.completeness.complete
            assert other.completeness.probability is None
            assert other.completeness.reason == f"{name} proves nothing of what it does not list"
            assert other.hvps_by_stage["probe"] == 0
