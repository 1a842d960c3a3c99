"""What is asked of a stochastic estimate, and what it tells while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, final

from curvtool.algorithms.layers import Layer
from curvtool.operators.base import SymmetricOperator
from curvtool.random_vectors.streams import Kind

Sharing = Literal["auto", "per-batch", "shared"]


@final
@dataclass(frozen=True, kw_only=True)
class TraceSettings:
    """A request for a trace.

    Attributes:
        rel_err: half the interval's width over |trace|.
        abs_err: half the interval's width. Where both are given, either will do; where neither
            is, `max_hvps` products are spent.
        confidence: of the interval, in (0, 1).
        max_hvps: products over the whole dataset that may be spent, deflation's included.
        probes: kind of the random vectors.
        sharing: one probe for every batch, one for all, or what the pilot finds cheaper.
        frobenius: whether |H|_F^2 is wanted too.
        layers: whose own traces are wanted.
        lanczos: whether a short Lanczos may be tried where it seems to pay.
        most_vectors: vectors of P numbers that it, or a sketch, may hold.
        seed: of the probes.
        noise: delta, the relative error of one product.
        reference: the operator in float64, which says what the arithmetic adds over the whole
            data; None leaves that to `noise`.
    """

    rel_err: float | None = 0.01
    abs_err: float | None = None
    confidence: float = 0.95
    max_hvps: int = 10_000
    probes: Kind = "rademacher"
    sharing: Sharing = "auto"
    frobenius: bool = False
    layers: tuple[Layer, ...] = ()
    lanczos: bool = True
    most_vectors: int = 32
    seed: int = 0
    noise: float
    reference: SymmetricOperator | None = None

    def __post_init__(self) -> None:
        for name, asked in (("rel_err", self.rel_err), ("abs_err", self.abs_err)):
            if asked is not None and not asked > 0:
                raise ValueError(f"TraceSettings needs {name} > 0 or None, got {asked}.")
        if not 0 < self.confidence < 1:
            raise ValueError(f"TraceSettings needs 0 < confidence < 1, got {self.confidence}.")
        if self.max_hvps < 1:
            raise ValueError(f"TraceSettings needs max_hvps >= 1, got {self.max_hvps}.")

    @property
    def open_ended(self) -> bool:
        """Whether no accuracy is asked for, only a number of products."""
        return self.rel_err is None and self.abs_err is None

    def allowed(self, value: float) -> float:
        """Half-width that is good enough for an estimate."""
        relative = 0.0 if self.rel_err is None else self.rel_err * abs(value)
        return max(relative, self.abs_err or 0.0)


@final
@dataclass(frozen=True, kw_only=True)
class EstimateProgress:
    """Where an estimate stands. `ratio` is error / error asked for; infinite while unknown."""

    stage: str
    hvps: float
    max_hvps: int
    ratio: float


Report = Callable[[EstimateProgress], None]


def silent(progress: EstimateProgress) -> None:
    """A `Report` that tells nobody."""
