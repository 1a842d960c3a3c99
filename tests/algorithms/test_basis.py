"""A basis in another place gives the same bits, one in fewer digits bounds that hold."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from curvtool.algorithms.basis import BasisPlace
from curvtool.algorithms.lanczos import lanczos
from curvtool.algorithms.settings import EigenSettings
from curvtool.errors import InputError
from curvtool.operators.base import FunctionOperator
from curvtool.results import Outcome

P, K = 300, 6


def made(seed: int) -> tuple[np.ndarray, FunctionOperator, FunctionOperator]:
    """A matrix with outliers above a bulk, as Hessians have: its products in float32 and 64."""
    draw = np.random.default_rng(seed)
    values = np.concatenate([100.0 / (1 + np.arange(K)), draw.uniform(-1, 3, P - K)])
    Q = np.linalg.qr(draw.standard_normal((P, P)))[0]
    A = torch.from_numpy((Q * values) @ Q.T).float()
    double = A.double()
    values = np.linalg.eigvalsh(((double + double.T) / 2).numpy())[::-1]
    return (
        values,
        FunctionOperator(lambda v: A @ v, P, torch.float32),
        FunctionOperator(lambda v: double @ v, P),
    )


def settings(place: BasisPlace, reference: FunctionOperator, *, tol: float) -> EigenSettings:
    # A is symmetric to its last digit in float32 only.
    return EigenSettings(
        k=K, tol=tol, basis=60, noise=1e-7, place=place, vectors=True, reference=reference
    )


def test_a_basis_on_disk_gives_the_same_bits_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    _, A, double = made(0)
    here = lanczos(A, settings(BasisPlace(), double, tol=1e-4))
    there = lanczos(A, settings(BasisPlace("disk"), double, tol=1e-4))
    assert np.array_equal(here.eigenvalues, there.eigenvalues)
    assert here.eigenvectors is not None
    assert there.eigenvectors is not None
    assert torch.equal(here.eigenvectors, there.eigenvectors)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(InputError, match="TMPDIR"):
        BasisPlace("disk").rows(3, 10, torch.float32, torch.device("cpu"))


@pytest.mark.parametrize("seed", range(12))
def test_bounds_hold_with_a_basis_in_bfloat16(seed: int) -> None:
    values, A, double = made(seed)
    found = lanczos(A, settings(BasisPlace(dtype="bfloat16"), double, tol=0.05))
    assert found.outcome is Outcome.CONVERGED
    wanted = np.sort(values)[::-1][:K]
    assert np.all(np.abs(found.eigenvalues - wanted) <= found.eigenvalue_errors)
    # Rows are rounded by 2^-9 of themselves: the errors say so, and are no more than some tens of
    # that times |theta_1|.
    assert found.eigenvalue_errors.max() <= 50 * 2**-9 * wanted[0]


def test_bfloat16_never_claims_what_it_cannot_have() -> None:
    values, A, double = made(3)
    found = lanczos(A, settings(BasisPlace(dtype="bfloat16"), double, tol=1e-7))
    wanted = np.sort(values)[::-1][: len(found.eigenvalues)]
    assert np.all(np.abs(found.eigenvalues - wanted) <= found.eigenvalue_errors)
    assert np.all(found.eigenvalue_errors[found.converged] <= 2e-6 * wanted[0] + 1e-7 * wanted[0])
