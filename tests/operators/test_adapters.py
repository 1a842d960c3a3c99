"""The operator in SciPy's solvers, with vectors as SciPy hands them out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import cg, eigsh, lobpcg, minres

import curvtool
from curvtool.operators.adapters import as_linear_operator
from curvtool.operators.base import Counted, FunctionOperator, Shifted
from curvtool.operators.hessian import HessianOperator
from tests.objectives import CASES, truth

Array = np.ndarray[Any, Any]
EPS = float(np.finfo(np.float64).eps)


def _matrix(name: str = "tanh") -> Array:
    return truth(name).numpy()


def _operator(name: str = "tanh", dtype: torch.dtype = torch.float64) -> HessianOperator:
    return HessianOperator(CASES[name].objective(dtype=dtype))


def _vector(size: int, *shape: int) -> Array:
    return np.random.default_rng(0).standard_normal((size, *shape))


def test_it_is_public() -> None:
    assert curvtool.as_linear_operator is as_linear_operator


def test_eigsh_finds_the_eigenvalues_of_the_matrix() -> None:
    A = as_linear_operator(_operator())
    found = eigsh(A, k=6, which="LM", v0=_vector(A.shape[0]), return_eigenvectors=False)
    exact = np.linalg.eigvalsh(_matrix())
    expected = np.sort(exact[np.argsort(-np.abs(exact))[:6]])
    # ARPACK stops at residuals of eps |theta|; each of some 40 products rounds 100 times more.
    assert np.abs(np.sort(found) - expected).max() <= 1000 * EPS * np.abs(exact).max()


def test_lobpcg_finds_the_largest() -> None:
    A = as_linear_operator(_operator())
    found, _ = lobpcg(A, _vector(A.shape[0], 4), largest=True, tol=1e-9, maxiter=500)
    exact = np.sort(np.linalg.eigvalsh(_matrix()))[::-1]
    # A residual of r leaves an eigenvalue off by at most r; lobpcg's are absolute.
    assert np.abs(np.sort(found)[::-1] - exact[:4]).max() <= 1e-8


@pytest.mark.parametrize("solver", [cg, minres])
def test_linear_solvers_take_it(solver: Any) -> None:
    shifted = Shifted(_operator(), by=5.0)  # |H| < 2 here, so that this is positive definite
    b = _vector(shifted.size)
    x, info = solver(as_linear_operator(shifted), b, rtol=1e-10)
    assert info == 0
    residual = (_matrix() + 5.0 * np.eye(len(b))) @ x - b
    assert np.linalg.norm(residual) <= 1e-9 * np.linalg.norm(b)  # rtol, times 10 for recurrences


@pytest.mark.parametrize("outer", [np.float32, np.float64])
@pytest.mark.parametrize("inner", [torch.float32, torch.float64])
def test_scipys_type_is_asked_for_apart_from_the_operators(outer: Any, inner: torch.dtype) -> None:
    A = as_linear_operator(_operator(dtype=inner), dtype=outer)
    v = _vector(A.shape[0])
    product = A.matvec(v)
    assert A.dtype == product.dtype == outer
    eps = max(float(np.finfo(outer).eps), torch.finfo(inner).eps)
    # Some hundred roundings a product, in the coarser of the two types.
    assert np.linalg.norm(product - _matrix() @ v) <= 1000 * eps * np.linalg.norm(v)


def test_its_own_type_is_the_operators() -> None:
    assert as_linear_operator(_operator(dtype=torch.float32)).dtype == np.float32
    assert as_linear_operator(_operator()).dtype == np.float64


def test_vectors_of_every_kind_give_one_product() -> None:
    A = as_linear_operator(_operator())
    v = _vector(A.shape[0])
    expected = A.matvec(v)
    frozen = v.copy()
    frozen.setflags(write=False)
    kinds = {
        "read-only": frozen,
        "every other": np.repeat(v, 2)[::2],
        "backwards": v[::-1].copy()[::-1],
        "a column of a block": np.stack([v, -v], axis=1)[:, 0],
    }
    for kind, given in kinds.items():
        assert np.array_equal(A.matvec(given), expected), kind
    column = A.matvec(v[:, None])
    assert column.shape == (len(v), 1)
    assert np.array_equal(column[:, 0], expected)
    assert np.array_equal(A.matvec(np.ones(len(v), dtype=int)), A.matvec(np.ones(len(v))))


def test_a_block_costs_a_product_a_column() -> None:
    counted = Counted(_operator())
    A = as_linear_operator(counted)
    block = np.asfortranarray(_vector(A.shape[0], 3))
    product = A.matmat(block)
    assert counted.calls == 3
    assert np.array_equal(product, np.stack([A.matvec(c) for c in block.T], axis=1))


def test_it_is_its_own_adjoint() -> None:
    A = as_linear_operator(_operator())
    v = _vector(A.shape[0])
    assert np.array_equal(A.rmatvec(v), A.matvec(v))
    assert np.array_equal(A.H @ v, A @ v)


def test_a_product_is_an_array_of_its_own() -> None:
    A = as_linear_operator(FunctionOperator(lambda v: v, 3))
    v = np.ones(3)
    product = A.matvec(v)
    v[:] = 0
    assert np.array_equal(product, np.ones(3))
    product[:] = 5  # writable
    assert not v.any()


def test_a_type_that_numpy_lacks_is_refused() -> None:
    half = FunctionOperator(lambda v: v, 3, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=r"float32 or float64, got torch\.bfloat16"):
        as_linear_operator(half)
