from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curvtool.algorithms.completeness import Held, Probed, probe
from curvtool.algorithms.krylov import KrylovDecomposition
from curvtool.algorithms.lanczos import default_basis, lanczos
from curvtool.algorithms.ritz import wanted
from curvtool.algorithms.settings import EigenSettings
from curvtool.errors import CurvtoolError
from curvtool.operators.base import Counted, FunctionOperator
from curvtool.random_vectors.purposes import Purpose
from curvtool.results import EigenPairs
from tests.algorithms.matrices import EPS32, EPS64, diagonal, network_like, rotated


def _start(krylov: KrylovDecomposition, stream: int) -> bool:
    start = krylov.space.orthonormal_start(krylov.rows, Purpose.SOLVE_START, stream, seed=0)
    return start is not None and krylov.inject(start)


def _relation_defect(krylov: KrylovDecomposition, A: torch.Tensor) -> float:
    """Largest entry of A V' - V' T - R' C."""
    V = krylov.rows
    n = krylov.size
    left = A @ V.T - V.T @ torch.from_numpy(krylov.projected)
    for p in krylov.pending:
        left -= torch.outer(p.vector, torch.from_numpy(p.coupling[:n]))
    return float(left.abs().max())


@settings(max_examples=60, deadline=None)
@given(
    eigenvalues=st.lists(st.floats(-1e3, 1e3), min_size=6, max_size=24),
    moves=st.lists(st.sampled_from(["expand", "restart", "inject"]), min_size=1, max_size=30),
    seed=st.integers(0, 1000),
)
def test_the_relation_survives_any_sequence_of_moves(
    eigenvalues: list[float], moves: list[str], seed: int
) -> None:
    known = rotated(np.array(eigenvalues), seed=seed)
    P = len(eigenvalues)
    krylov = KrylovDecomposition(known.operator, limit=P)
    _start(krylov, 1)
    for stream, move in enumerate(moves, start=2):
        if move == "expand" and krylov.pending and not krylov.full:
            krylov.expand()
        elif move == "inject" and len(krylov.pending) < 3 and krylov.size + 3 < P:
            _start(krylov, stream)
        elif move == "restart" and krylov.size > 2:
            theta, S, _ = krylov.ritz()
            keep = wanted(theta, "LM", krylov.size // 2)
            krylov.restart(theta[keep], S[:, keep])
    if not krylov.size:
        return
    # A column costs O(P) roundings of size |A|, and a move adds one such column or rotates them
    # all; what is below 10 eps |A| is dropped on purpose.
    scale = float(known.matrix.abs().sum(dim=1).max())
    allowed = (10 * P + 20) * EPS64 * scale * (1 + len(moves))
    assert _relation_defect(krylov, known.matrix) <= allowed
    V = krylov.rows
    assert float((V @ V.T - torch.eye(krylov.size)).abs().max()) <= 100 * EPS64 * (1 + len(moves))
    for p in krylov.pending:
        assert float((V @ p.vector).abs().max()) <= 100 * EPS64 * (scale + 1)


def test_a_step_is_exactly_one_product() -> None:
    counted = Counted(diagonal(network_like(100, seed=0)))
    krylov = KrylovDecomposition(counted, limit=12)
    _start(krylov, 1)
    for step in range(12):
        assert counted.calls == step
        krylov.expand()
    assert counted.calls == 12


def test_the_space_closes_when_it_is_invariant() -> None:
    # Three distinct eigenvalues: every Krylov space has dimension three.
    counted = Counted(diagonal(np.repeat([3.0, 2.0, -1.0], 20)))
    krylov = KrylovDecomposition(counted, limit=20)
    _start(krylov, 1)
    while not krylov.closed:
        krylov.expand()
    assert krylov.size == 3
    assert np.allclose(krylov.ritz()[0], [-1.0, 2.0, 3.0], atol=100 * EPS64)
    assert (krylov.ritz()[2] == 0).all()


def test_breakdown_is_judged_by_scale_not_by_an_absolute_number() -> None:
    tiny = network_like(60, seed=1) * 1e-200
    krylov = KrylovDecomposition(diagonal(tiny), limit=20)
    _start(krylov, 1)
    for _ in range(20):
        assert not krylov.closed
        krylov.expand()


def test_an_injected_vector_of_the_span_is_refused() -> None:
    krylov = KrylovDecomposition(diagonal(network_like(50, seed=0)), limit=10)
    _start(krylov, 1)
    krylov.expand()
    krylov.expand()
    assert not krylov.inject(krylov.rows.sum(0))


def test_asymmetry_is_seen_without_a_product_more() -> None:
    A = torch.randn(30, 30, generator=torch.Generator().manual_seed(0)).double()
    krylov = KrylovDecomposition(FunctionOperator(lambda v: A @ v, 30), limit=10)
    _start(krylov, 1)
    for _ in range(5):
        krylov.expand()
    assert krylov.asymmetry > 0.01 * krylov.scale


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_product_that_is_not_finite_ends_with_a_sentence(bad: float) -> None:
    krylov = KrylovDecomposition(FunctionOperator(lambda v: v * bad, 10), limit=5)
    _start(krylov, 1)
    with pytest.raises(CurvtoolError, match="not finite"):
        krylov.expand()


def _probed(krylov: KrylovDecomposition, steps: int, seed: int) -> Probed:
    """A recurrence of its own behind the rows, as a probe makes it."""
    held = Held(
        rows=krylov.rows,
        theta=np.diag(krylov.projected),
        R=krylov.residual_basis()[1].T,
        k=krylov.size,
        which="LA",
        tol=1e-3,
        largest=krylov.scale,
        noise=0.0,
    )
    start = krylov.space.orthonormal_start(krylov.rows, Purpose.COMPLETENESS, 0, seed=seed)
    assert start is not None
    return probe(
        krylov.operator,
        held,
        start,
        krylov.basis[krylov.size :],
        chance=1e-100,  # nothing is proved with so little: it makes all its steps
        cap=steps,
        most=steps,
        finds=False,
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("pending", [0, 1, 3])
def test_the_relation_survives_rows_that_a_probe_made(pending: int, dtype: torch.dtype) -> None:
    P, keep, steps = 80, 6, 7
    for seed in range(5):
        values = network_like(P, seed=seed)
        if not pending:  # few distinct values: the space closes
            values = np.round(values / 7) * 7
        known = rotated(values, seed=seed, dtype=dtype)
        krylov = KrylovDecomposition(known.operator, limit=30)
        _start(krylov, 1)
        while krylov.size < 20 and not krylov.closed:
            krylov.expand()
        for stream in range(2, pending + 1):
            _start(krylov, stream)
        assert (len(krylov.pending) == 0) == (pending == 0)
        theta, S, _ = krylov.ritz()
        order = wanted(theta, "LM", min(keep, krylov.size))
        krylov.restart(theta[order], S[:, order])
        before = krylov.size
        found = _probed(krylov, steps, seed)
        assert found.keeps_all
        krylov.adopt(found.columns, found.remainder)
        assert krylov.size == before + found.products
        A = known.matrix.double()
        eps = EPS64 if dtype == torch.float64 else EPS32
        allowed = (10 * P + 20) * eps * float(A.abs().sum(dim=1).max())
        V = krylov.rows.double()
        defect = A @ V.T - V.T @ torch.from_numpy(krylov.projected)
        for p in krylov.pending:
            defect -= torch.outer(p.vector.double(), torch.from_numpy(p.coupling[: krylov.size]))
            assert float((V @ p.vector.double()).abs().max()) <= 100 * eps * (p.origin + 1)
        assert float(defect.abs().max()) <= allowed
        assert float((V @ V.T - torch.eye(krylov.size)).abs().max()) <= 100 * eps
        # And it goes on as one that was never interrupted.
        while not krylov.full and not krylov.closed:
            krylov.expand()
        V = krylov.rows.double()
        left = A @ V.T - V.T @ torch.from_numpy(krylov.projected)
        for p in krylov.pending:
            left -= torch.outer(p.vector.double(), torch.from_numpy(p.coupling[: krylov.size]))
        assert float(left.abs().max()) <= 2 * allowed


@pytest.mark.parametrize("scale", [1.0, 1e-24])
def test_residuals_of_several_vectors_that_cancel_have_all_their_digits(scale: float) -> None:
    """Nearly the same direction waits twice: its couplings of both signs cancel to 1e-9."""
    krylov = KrylovDecomposition(diagonal(scale * network_like(60, seed=0)), limit=20)
    _start(krylov, 1)
    for _ in range(6):
        krylov.expand()
    (first,) = krylov.pending
    n = krylov.size
    other, _ = krylov.space.orthogonalized(krylov.rows, torch.ones(60, dtype=torch.float64))
    close = first.vector + 1e-9 * scale * other
    krylov.pending.append(type(first)(close, float(close.norm()), -first.coupling, scale))
    _, C = krylov.residual_basis()
    residual = torch.outer(first.vector - close, torch.from_numpy(first.coupling[:n]))
    # By the Gram matrix of the two the norm would be rounding, 1e-8 of what cancels.
    np.testing.assert_allclose(
        np.linalg.norm(C, axis=0), residual.norm(dim=0).numpy(), rtol=1e-6, atol=1e-15 * scale
    )
    _, S, rho = krylov.ritz()
    expected = (residual @ torch.from_numpy(S)).norm(dim=0).numpy()
    np.testing.assert_allclose(rho, expected, rtol=1e-5, atol=1e-15 * scale)
    Q, C = krylov.residual_basis()
    np.testing.assert_allclose((Q @ Q.T).numpy(), np.eye(2), atol=4 * EPS64)
    np.testing.assert_allclose(
        (Q.T @ torch.from_numpy(C)).numpy(), residual.numpy(), atol=1e-14 * scale
    )


def _worst(pairs: EigenPairs, A: torch.Tensor) -> float:
    """The largest residual over what is printed of it."""
    V = pairs.eigenvectors.double()
    true = (V @ A.double() - torch.from_numpy(pairs.eigenvalues)[:, None] * V).norm(dim=1)
    return float((true.numpy() / pairs.residual_norms).max())


def test_a_ridge_has_the_residuals_that_are_printed() -> None:
    """W I and a geometric spectrum: couplings of several pending vectors cancel."""
    values = np.sort(0.1 + 50 * np.random.default_rng(25).uniform(0.6, 0.8) ** np.arange(300))
    for seed in (25, 26, 27):
        settings_ = EigenSettings(
            k=20,
            which="SA",
            tol=1e-4,
            basis=default_basis(20, 300),
            seed=seed,
            noise=2.3e-15,
            vectors=True,
        )
        pairs = lanczos(diagonal(values), settings_)
        assert _worst(pairs, torch.diag(torch.from_numpy(values))) <= 1


@pytest.mark.parametrize("scale", [1e-20, 1e-24])
@pytest.mark.parametrize("double", [False, True], ids=["own products", "float64 products"])
def test_tiny_copies_have_the_residuals_that_are_printed(scale: float, double: bool) -> None:
    """The largest value eightfold, so small that squares of float32 vectors vanish."""
    known = rotated(
        scale * np.r_[np.full(8, 10.0), np.full(5, 9.0), np.linspace(-1, 5, 287)],
        seed=0,
        dtype=torch.float32,
    )
    settings_ = EigenSettings(
        k=6,
        basis=46,
        max_hvps=800,
        noise=2.3e-15 if double else 1.2e-6,
        reference=known.reference if double else None,
        vectors=True,
    )
    pairs = lanczos(known.operator, settings_)
    # The vectors that are given are rounded to float32, which adds to the residual.
    assert _worst(pairs, known.matrix) <= 1 + 8 * EPS32 * 10 * scale / pairs.residual_norms.min()
    near = np.abs(known.eigenvalues[None, :] - pairs.eigenvalues[:, None]).min(axis=1)
    own = 300 * EPS64 * 10 * scale
    assert (near <= pairs.eigenvalue_errors + own).all()
