"""What is asked of a diagonal, and what its layers are like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from torch import Tensor

from curvtool.algorithms.estimation import Sharing
from curvtool.algorithms.layers import Layer, entries
from curvtool.operators.base import SymmetricOperator
from curvtool.random_vectors.streams import Kind
from curvtool.results import FloatArray


@final
@dataclass(frozen=True, kw_only=True)
class DiagonalSettings:
    """A request for a diagonal.

    Attributes:
        rel_err: bound of the error over the diagonal, both in 2-norm; None spends `max_hvps`
            products.
        confidence: of that bound, and of the interval of each entry and of each layer's mean.
        max_hvps: products over the whole dataset that may be spent, at least 2.
        probes: kind of the random vectors; Rademacher ones have the least variance there is.
        sharing: one probe for every batch, one for all, or what a first pass finds cheaper.
        layers: to be summarized.
        levels: of their quantiles.
        most_vectors: directions that may be taken out where that pays; 0 for none.
        dense_from: products that give the diagonal itself: a forecast beyond them ends the run.
        seed: of the probes.
        noise: delta, the relative error of one product.
        reference: the operator in float64; see `TraceSettings`.
    """

    rel_err: float | None = 0.1
    confidence: float = 0.95
    max_hvps: int = 10_000
    probes: Kind = "rademacher"
    sharing: Sharing = "auto"
    layers: tuple[Layer, ...] = ()
    levels: tuple[float, ...] = (0.05, 0.25, 0.5, 0.75, 0.95)
    most_vectors: int = 0
    dense_from: int | None = None
    seed: int = 0
    noise: float
    reference: SymmetricOperator | None = None

    def __post_init__(self) -> None:
        if self.rel_err is not None and not self.rel_err > 0:
            raise ValueError(f"DiagonalSettings needs rel_err > 0 or None, got {self.rel_err}.")
        if not 0 < self.confidence < 1:
            raise ValueError(f"DiagonalSettings needs 0 < confidence < 1, got {self.confidence}.")
        if self.max_hvps < 2:
            raise ValueError(
                f"DiagonalSettings needs max_hvps >= 2, since one pass shows no error; got "
                f"{self.max_hvps}."
            )


def quantiles(diagonal_P: Tensor, settings: DiagonalSettings) -> FloatArray:
    """Quantiles of every layer's entries, shape (L, q)."""
    rows: Sequence[FloatArray] = [
        np.quantile(entries(diagonal_P, layer), settings.levels) for layer in settings.layers
    ]
    return np.array(rows).reshape(len(rows), len(settings.levels))
