from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curvtool.algorithms.krylov import KrylovDecomposition
from curvtool.algorithms.ritz import wanted
from curvtool.errors import CurvtoolError
from curvtool.operators.base import Counted, FunctionOperator
from curvtool.random_vectors.purposes import Purpose
from tests.algorithms.matrices import EPS64, diagonal, network_like, rotated


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
