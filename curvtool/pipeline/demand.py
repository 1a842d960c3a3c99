"""What a solve takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

Tell = Callable[[str], None]


@final
@dataclass(frozen=True, kw_only=True)
class Demand:
    """What a solve takes, as far as it is known beforehand.

    Attributes:
        products: over the whole dataset: a guess, since the spectrum decides.
        basis_bytes: memory of the vectors that it keeps.
        vector_bytes: of the vectors beside them.
        blocks: whether it multiplies many vectors at once.
        rows: vectors of the basis that a product's result is orthogonalised against, on average.
        certified: whether its figures are held against float64 products of the whole dataset in
            the end, so that noise need not be measured beforehand.
    """

    products: int
    basis_bytes: int
    vector_bytes: int
    blocks: bool = False
    rows: int = 0
    certified: bool = False
