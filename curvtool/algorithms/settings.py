"""What is asked of an eigensolver, and what it tells while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, final

from torch import Tensor

from curvtool.algorithms.basis import BasisPlace
from curvtool.operators.base import SymmetricOperator

BESIDE = BasisPlace()
Which = Literal["LM", "LA", "SA", "BE"]
Accuracy = Literal["values", "vectors"]


@final
@dataclass(frozen=True, kw_only=True)
class EigenSettings:
    """A request for eigenpairs.

    Attributes:
        k: number of pairs, 1 <= k <= P.
        which: LM largest magnitude, LA largest, SA smallest (most negative), BE both ends.
        tol: relative tolerance.
        accuracy: `values`: the eigenvalue's error bound <= tol |theta|; `vectors`: the residual
            norm <= tol |theta|.
        max_hvps: products that may be spent, certification and probe included.
        basis: vectors the Krylov basis may hold.
        place: where these lie, and in which type.
        seed: of the random starts.
        noise: relative rounding of a product that certifies: of the reference's where there is
            one, else delta, the relative error of the operator's own.
        reference: H in float64, on the same shares of vectors, that the pairs are held against;
            None where float64 cannot be had, so that the operator's own products serve.
        doubt: how far the operator's matrix may be from the wanted one, absolute; it enters every
            error, and no number of products makes it smaller.
        certify_fully: hold every pair against a product of its own.
        complete: prove the list complete, whatever it costs.
        proves: whether a probe looks for what the list lacks; where not, nothing is stated of it.
        vectors: whether the eigenvectors are wanted.
        momentum: of power iteration, 0 for none.
        start: a direction, shape (P,), that is thought to be rich in the wanted eigenvectors; of
            `lanczos`, which takes a random one where there is none.
    """

    k: int
    which: Which = "LM"
    tol: float = 1e-4
    accuracy: Accuracy = "values"
    max_hvps: int = 2000
    basis: int = 60
    place: BasisPlace = BESIDE
    seed: int = 0
    noise: float
    reference: SymmetricOperator | None = None
    doubt: float = 0.0
    complete: bool = False
    proves: bool = True
    certify_fully: bool = False
    vectors: bool = False
    momentum: float = 0.0
    start: Tensor | None = None


@final
@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a solve stands. `worst` is the largest bound / tolerance over the wanted pairs."""

    stage: str
    hvps: int
    max_hvps: int
    converged: int
    wanted: int
    worst: float


Report = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """A `Report` that tells nobody."""
