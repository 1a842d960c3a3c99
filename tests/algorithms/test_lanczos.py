from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator, eigsh

from curvtool.algorithms.lanczos import default_basis, lanczos
from curvtool.algorithms.settings import EigenSettings, Progress, Which
from curvtool.errors import PreflightError
from curvtool.operators.base import Counted, FunctionOperator
from curvtool.results import Certification, EigenPairs, Outcome
from tests.algorithms.matrices import (
    EPS32,
    EPS64,
    Known,
    assert_true,
    diagonal,
    network_like,
    rotated,
)

SEEDS = range(20)
WHICH: tuple[Which, ...] = ("LM", "LA", "SA", "BE")


def _settings(
    k: int, size: int, dtype: torch.dtype = torch.float64, **more: object
) -> EigenSettings:
    noise = 10 * torch.finfo(dtype).eps
    base = EigenSettings(k=k, noise=noise, basis=default_basis(k, size))
    return replace(base, **more)  # type: ignore[arg-type]


def _solve(known: Known, settings: EigenSettings) -> EigenPairs:
    """A solve that is held against float64 products of the same matrix."""
    return lanczos(known.operator, replace(settings, reference=known.reference, noise=10 * EPS64))


def _assert_holds(pairs: EigenPairs, truth: np.ndarray) -> None:
    assert pairs.outcome is Outcome.CONVERGED
    assert pairs.converged.all()
    assert (np.abs(pairs.eigenvalues - truth) <= pairs.eigenvalue_errors).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-6])
def test_the_bound_holds_the_truth_at_every_tolerance(tol: float, dtype: torch.dtype) -> None:
    complete = 0
    for seed in SEEDS[:12]:
        known = rotated(network_like(300, seed=seed), seed=seed, dtype=dtype)
        pairs = _solve(known, _settings(20, 300, dtype, tol=tol, seed=seed, strict=True))
        assert_true(known, pairs)
        # A coupling of float32 rounding is squared over the gap: below 1e-6 for all but the last.
        assert (pairs.converged | pairs.at_floor).all()
        assert pairs.converged.sum() >= 15
        complete += pairs.completeness.complete
    # Behind some lists the next value is nearer than a few per cent: that takes too long to prove.
    assert complete >= 6


@pytest.mark.parametrize("which", WHICH)
def test_every_end_of_a_spectrum_without_gaps(which: Which) -> None:
    """The hardest case for completeness: the next eigenvalue is 0.5 % of the range away."""
    proved = 0
    for seed in SEEDS[:10]:
        known = rotated(np.linspace(-1, 3, 200), seed=seed)
        pairs = lanczos(known.operator, _settings(7, 200, which=which, seed=seed))
        assert pairs.outcome is Outcome.CONVERGED
        assert_true(known, pairs)
        proved += pairs.completeness.proved_rank
    assert proved >= 2 * 10


@pytest.mark.parametrize("k", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
def test_multiple_eigenvalues_inside_and_at_the_edge_are_found(k: int, dtype: torch.dtype) -> None:
    eigenvalues = np.concatenate([[12.8, 12.8, 9, 7, 7, 7], np.linspace(0, 4, 194)])
    proved, seeds = 0, SEEDS[:10]
    for seed in seeds:
        known = rotated(eigenvalues, seed=seed, dtype=dtype)
        pairs = _solve(known, _settings(k, 200, dtype, seed=seed))
        assert_true(known, pairs)
        _assert_holds(pairs, known.truth("LM", k))
        proved += pairs.completeness.complete
    # A list that is cut between copies of 7 has no edge that a few products could prove.
    assert proved == len(seeds) or k == 4


@pytest.mark.parametrize(("split", "tol"), [(1e-8, 1e-10), (1e-8, 1e-8), (1e-3, 1e-4)])
def test_a_near_double_at_the_edge_does_not_void_the_bound(split: float, tol: float) -> None:
    """Only one of the two is listed; a Krylov space that holds one would take the gap for free."""
    eigenvalues = np.concatenate([[10.0, 8.0, 6.0, 5.0, 6.0 - split], np.linspace(-1, 3, 195)])
    for seed in SEEDS:
        known = rotated(eigenvalues, seed=seed)
        pairs = lanczos(known.operator, _settings(3, 200, tol=tol, seed=seed))
        _assert_holds(pairs, known.truth("LM", 3))


def test_exact_copies_on_a_diagonal_are_found() -> None:
    # On a diagonal the copies are equal to the last bit, and a Krylov space holds one of them.
    eigenvalues = np.concatenate([[5.0] * 4, [-4.0] * 3, np.linspace(-1, 1, 93)])
    for seed in SEEDS:
        pairs = lanczos(diagonal(eigenvalues), _settings(7, 100, seed=seed))
        _assert_holds(pairs, np.array([5.0] * 4 + [-4.0] * 3))


@pytest.mark.parametrize(
    ("eigenvalues", "k"),
    [
        (np.zeros(30), 5),
        (np.zeros(30), 30),
        (np.ones(30), 4),
        (np.concatenate([[3.0, -2.0], np.zeros(40)]), 10),
        (np.arange(1.0, 31.0), 30),
        (np.array([4.0]), 1),
        (np.array([0.0]), 1),
        (np.array([2.0, -3.0]), 2),
        (np.concatenate([np.full(15, 2.0), np.full(15, -2.0)]), 6),
    ],
    ids=[
        "zero",
        "zero, all",
        "identity",
        "k beyond the rank",
        "k = P",
        "P = 1",
        "P = 1, zero",
        "P = 2",
        "two values",
    ],
)
def test_degenerate_spectra_end_well(eigenvalues: np.ndarray, k: int) -> None:
    P = len(eigenvalues)
    operator = Counted(diagonal(eigenvalues))
    pairs = lanczos(operator, _settings(k, P))
    truth = eigenvalues[np.argsort(-np.abs(eigenvalues), kind="stable")[:k]]
    assert pairs.outcome is Outcome.CONVERGED
    assert len(pairs.eigenvalues) == k
    assert np.allclose(np.abs(pairs.eigenvalues), np.abs(truth), atol=1e3 * EPS64 * 31)
    assert pairs.hvps == operator.calls <= P + k + 20


def test_the_order_of_results() -> None:
    known = rotated(np.linspace(-2, 3, 100), seed=0)
    found = {w: lanczos(known.operator, _settings(5, 100, which=w)).eigenvalues for w in WHICH}
    assert (np.diff(np.abs(found["LM"])) <= 0).all()
    assert (np.diff(found["LA"]) < 0).all()
    assert (np.diff(found["SA"]) > 0).all()
    assert (np.diff(found["BE"]) < 0).all()
    assert (found["BE"][:3] > 2.8).all()
    assert (found["BE"][3:] < -1.8).all()


def test_agrees_with_arpack_and_needs_no_more_products() -> None:
    for which in ("LM", "LA", "SA"):
        for k, tol in ((2, 1e-3), (20, 1e-3), (20, 1e-6)):
            eigenvalues = network_like(600, seed=3)
            counted = 0

            def matvec(x: np.ndarray, eigenvalues: np.ndarray = eigenvalues) -> np.ndarray:
                nonlocal counted
                counted += 1
                return np.asarray(eigenvalues * x.ravel())

            operator = LinearOperator((600, 600), matvec=matvec, dtype=np.float64)
            start = np.random.default_rng(0).standard_normal(600)
            values = eigsh(operator, k=k, which=which, tol=tol, v0=start)[0]
            ours = lanczos(
                diagonal(eigenvalues),
                _settings(k, 600, which=which, tol=tol, accuracy="vectors"),
            )
            assert ours.hvps_by_stage["solve"] <= counted
            # Both residuals are below tol |theta|, and so are the values' errors.
            scale = np.sort(np.abs(ours.eigenvalues))
            assert np.allclose(np.sort(ours.eigenvalues), np.sort(values), atol=2 * tol * scale[-1])


@pytest.mark.parametrize("max_hvps", [2, 3, 21, 30, 49, 55, 200])
def test_full_certification_is_paid_before_the_limit(max_hvps: int) -> None:
    known = rotated(network_like(300, seed=0), seed=0)
    settings = _settings(20, 300, certify_fully=True, max_hvps=max_hvps)
    pairs = lanczos(known.operator, settings)
    assert pairs.hvps <= max_hvps
    assert pairs.certification is Certification.BLOCK
    assert pairs.outcome is (Outcome.CONVERGED if max_hvps == 200 else Outcome.MAX_HVPS)
    assert_true(known, pairs)


def test_eigenvectors_are_right_where_the_products_end_while_a_copy_is_looked_for() -> None:
    complete = set()
    eigenvalues = np.concatenate([[1.0, 1.0], np.linspace(0, 0.5, 198)])
    for max_hvps in range(20, 90, 3):
        settings = _settings(2, 200, vectors=True, max_hvps=max_hvps, seed=1)
        pairs = lanczos(diagonal(eigenvalues), settings)
        complete.add(pairs.completeness.complete)
        Y = pairs.eigenvectors.numpy()
        residuals = np.linalg.norm(Y * eigenvalues - pairs.eigenvalues[:, None] * Y, axis=1)
        assert (residuals <= pairs.residual_norms).all()
    assert complete == {True, False}


def test_eigenvectors_have_the_residuals_that_are_printed() -> None:
    known = rotated(network_like(250, seed=1), seed=1)
    pairs = lanczos(known.operator, _settings(8, 250, vectors=True, accuracy="vectors", tol=1e-3))
    Y = pairs.eigenvectors
    assert Y.shape == (8, 250)
    residuals = (known.matrix @ Y.T - Y.T * torch.from_numpy(pairs.eigenvalues)).norm(dim=0)
    assert (residuals.numpy() <= pairs.residual_norms).all()
    assert (residuals.numpy() <= 1e-3 * np.abs(pairs.eigenvalues)).all()
    assert float((Y @ Y.T - torch.eye(8)).abs().max()) <= 1e3 * EPS64


def test_an_operator_that_drifts_is_never_called_converged() -> None:
    """From the 15th product on everything is 1 % larger: symmetric each time, but not one H."""
    matrix = rotated(network_like(300, seed=0), seed=0).matrix
    calls = 0

    def drifting(v: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return matrix @ v * (1.01 if calls > 15 else 1.0)

    with contextlib.suppress(PreflightError):
        pairs = lanczos(FunctionOperator(drifting, 300), _settings(20, 300, tol=1e-4))
        assert pairs.outcome is not Outcome.CONVERGED
    assert calls > 15


def _noisy(known: Known, size: float) -> FunctionOperator:
    """The products with noise of relative `size`, which depends on the vector alone."""

    def product(v: torch.Tensor) -> torch.Tensor:
        stream = int(float(v.double().abs().sum()) * 2**40) % 2**62
        noise = torch.randn(len(v), generator=torch.Generator().manual_seed(stream), dtype=v.dtype)
        w = known.operator.matvec(v)
        return torch.add(w, noise, alpha=size * float(w.norm() / noise.norm()))

    return FunctionOperator(product, known.operator.size, known.operator.dtype)


@pytest.mark.parametrize("certify_fully", [False, True])
@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-6])
def test_vectors_are_not_called_converged_beyond_their_printed_residual(
    tol: float, certify_fully: bool
) -> None:
    """The noise is ten times what the settings say: products in float64 find it."""
    for seed in SEEDS[:8]:
        known = rotated(network_like(200, seed=seed), seed=seed, dtype=torch.float32)
        operator, reference = Counted(_noisy(known, 1e-4)), Counted(known.reference)
        settings = _settings(10, 200, tol=tol, accuracy="vectors", reference=reference)
        settings = replace(
            settings, seed=seed, certify_fully=certify_fully, max_hvps=150, vectors=True
        )
        pairs = lanczos(operator, settings)
        assert operator.calls + reference.calls == pairs.hvps <= 150
        Y = pairs.eigenvectors.double().numpy()
        residuals = np.linalg.norm(
            Y @ known.matrix.double().numpy() - pairs.eigenvalues[:, None] * Y, axis=1
        )
        # The vectors that are given are rounded to float32 once more.
        assert (residuals <= pairs.residual_norms + 4 * EPS32 * 20).all()
        met = pairs.residual_norms <= tol * np.abs(pairs.eigenvalues)
        assert (met == pairs.converged).all()
        assert not (pairs.at_floor & pairs.converged).any()
        assert pairs.converged.all() == (tol == 1e-2)


@pytest.mark.parametrize("certify_fully", [False, True])
def test_a_noisy_operator_keeps_the_limit_of_products(certify_fully: bool) -> None:
    """A certification that fails sends the solve on, where products may have run out."""
    for max_hvps in range(2, 70, 2):
        known = rotated(network_like(200, seed=max_hvps), seed=max_hvps, dtype=torch.float32)
        operator = Counted(_noisy(known, 1e-4))
        settings = _settings(5, 200, torch.float32, tol=1e-3, noise=3e-5)
        settings = replace(settings, max_hvps=max_hvps, certify_fully=certify_fully)
        pairs = lanczos(operator, settings)
        assert operator.calls == pairs.hvps <= max_hvps
        assert pairs.certification is not Certification.NONE


def test_an_asymmetric_operator_is_refused() -> None:
    A = torch.randn(100, 100, generator=torch.Generator().manual_seed(0)).double()
    with pytest.raises(PreflightError, match="symmetric matrix"):
        lanczos(FunctionOperator(lambda v: A @ v, 100), _settings(5, 100))


def test_a_run_is_repeated_bitwise_by_its_seed() -> None:
    known = rotated(network_like(300, seed=0), seed=0)
    one, two, other = (
        lanczos(known.operator, _settings(10, 300, seed=s)).eigenvalues for s in (1, 1, 2)
    )
    assert (one == two).all()
    assert (one != other).any()


def test_history_and_progress_follow_the_solve() -> None:
    told: list[Progress] = []
    known = rotated(network_like(300, seed=0), seed=0)
    pairs = lanczos(known.operator, _settings(10, 300), report=told.append)
    assert [int(h) for h in pairs.history["hvps"]] == [p.hvps for p in told]
    assert (np.diff(pairs.history["hvps"]) > 0).all()
    assert told[-1].converged == told[-1].wanted == 10
    assert pairs.history["worst_ratio"][-1] <= 1


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"k": 0}, "1 <= k"),
        ({"k": 101}, "1 <= k"),
        ({"basis": 16}, "basis"),
        ({"max_hvps": 1}, "max_hvps"),
    ],
)
def test_senseless_requests_are_refused(change: dict[str, int], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        lanczos(diagonal(np.arange(100.0)), replace(_settings(5, 100), **change))  # type: ignore[arg-type]


def test_float32_keeps_the_basis_orthonormal_through_restarts() -> None:
    known = rotated(np.linspace(-1, 3, 400), seed=0, dtype=torch.float32)
    pairs = lanczos(known.operator, _settings(10, 400, torch.float32, tol=1e-5, vectors=True))
    assert pairs.hvps_by_stage["solve"] > 100
    Y = pairs.eigenvectors.double()
    # Each restart rounds the kept rows once: eps, some tens of times.
    assert float((Y @ Y.T - torch.eye(10)).abs().max()) <= 100 * EPS32
