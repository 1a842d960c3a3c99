from __future__ import annotations

import numpy as np
import pytest
import torch

from curvtool.algorithms import linalg
from curvtool.algorithms.linalg import (
    RUN,
    inner_products,
    norm,
    orthogonalized,
    rotate_rows,
)
from curvtool.algorithms.space import Space
from curvtool.random_vectors.purposes import Purpose
from tests.algorithms.matrices import EPS32, EPS64

CPU = torch.device("cpu")


def _space(V: torch.Tensor) -> Space:
    return Space(V.shape[1], dtype=V.dtype, device=V.device)


@pytest.mark.parametrize("P", [5, RUN - 1, RUN, 3 * RUN + 17])
def test_float32_inner_products_are_summed_in_double(P: int) -> None:
    V = torch.randn(3, P, generator=torch.Generator().manual_seed(0))
    w = torch.randn(P, generator=torch.Generator().manual_seed(1)) + 1
    exact = V.double() @ w.double()
    # Within a run of n <= RUN products float32 sums err by sqrt(n) eps |v| |w| at most in practice;
    # 1e-1 of that shows that no run is longer and none is lost.
    allowed = 0.1 * RUN**0.5 * EPS32 * V.double().norm(dim=1) * w.double().norm()
    assert ((inner_products(V, w) - exact).abs() <= allowed).all()
    assert inner_products(V, w).dtype == torch.float64


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_norm_neither_overflows_nor_vanishes(scale: float) -> None:
    w = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    expected = float(w.double().norm()) * scale
    # The scaled vector is rounded once an entry: eps, doubled for the division.
    assert float(norm(w * scale)) == pytest.approx(expected, rel=4 * EPS32)


def test_norm_of_zero_is_zero() -> None:
    assert float(norm(torch.zeros(10))) == 0.0


def test_what_is_left_is_orthogonal_even_of_a_vector_nearly_in_the_span() -> None:
    V = torch.linalg.qr(torch.randn(200, 20, generator=torch.Generator().manual_seed(0)).double())[
        0
    ].T.contiguous()
    inside = V.T @ torch.randn(20, generator=torch.Generator().manual_seed(1)).double()
    w = inside + 1e-9 * torch.randn(200, generator=torch.Generator().manual_seed(2)).double()
    left, components = orthogonalized(V, w)
    # Two passes: O(eps) of the remainder plus eps^2 of the vector; one pass would leave 1e-7.
    assert float((V @ left).abs().max()) <= 100 * EPS64 * float(left.norm()) + EPS64 * 1e-3
    assert torch.allclose(V.T @ components + left, w, rtol=0, atol=1e3 * EPS64)


def test_rotation_in_blocks_equals_the_matrix_product() -> None:
    # 2^22 numbers a block: three rows of 2^21 need several.
    V = torch.randn(3, 2**21 + 5, generator=torch.Generator().manual_seed(0))
    S = torch.randn(3, 2, generator=torch.Generator().manual_seed(1)).double()
    expected = S.T.float() @ V
    rotate_rows(V, S)
    # Three float32 products a number, each of size about one.
    assert float((V[:2] - expected).abs().max()) <= 100 * EPS32


def test_a_start_is_orthogonal_or_none_where_nothing_is_left() -> None:
    V = torch.eye(4, dtype=torch.float64)[:3]
    start = _space(V).orthonormal_start(V, Purpose.SOLVE_START, seed=0)
    assert start is not None
    assert np.allclose(np.abs(start.numpy()), [0, 0, 0, 1], atol=10 * EPS64)
    whole = torch.eye(4, dtype=torch.float64)
    assert _space(whole).orthonormal_start(whole, Purpose.SOLVE_START, seed=0) is None


@pytest.mark.parametrize(("rows", "tried"), [(1, 1), (5, 5), (300, 64)])
def test_orthogonalising_is_timed_on_few_rows_and_reckoned_for_all(
    rows: int, tried: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    clock = iter(range(100))

    def remember(V_mP: torch.Tensor, w_P: torch.Tensor) -> None:
        seen.append(len(V_mP))

    monkeypatch.setattr(linalg, "orthogonalized", remember)
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    # 64 rows of 2^18 numbers are 64 MB; each call takes a second of this clock.
    found = linalg.orthogonalization_seconds(
        rows, 2**18, dtype=torch.float32, device=torch.device("cpu")
    )
    assert seen == [tried] * 3
    assert found == rows / tried


def test_no_rows_take_no_time() -> None:
    assert (
        linalg.orthogonalization_seconds(0, 9, dtype=torch.float64, device=torch.device("cpu"))
        == 0.0
    )
