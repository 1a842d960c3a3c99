"""What is asked of a density."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from curvtool.operators.base import SymmetricOperator

# Probability that an interval may miss; of each figure by itself.
ALPHA = 0.05


@final
@dataclass(frozen=True, kw_only=True)
class DensitySettings:
    """A request for a spectral density, and for functions of the spectrum.

    Attributes:
        steps: k, Lanczos steps of a probe.
        probes: n, Gaussian.
        deflate: d, pairs of largest magnitude that are taken out first, where that is to be had.
        reorthogonalize: keep the bases orthogonal, for d + k vectors of P numbers; else a
            recurrence of three vectors, whose nodes come in copies that share their weight.
        sigma: width of the Gaussians that are drawn; None takes the spectrum's range over 2 k.
        points: of the grid.
        damping: numbers a of effective dimensions and log-determinants; empty for one that is
            sensible, where they have a meaning.
        schatten: orders of Schatten norms.
        threshold: beyond which eigenvalues are counted; None where the brackets decide.
        rel_err: half the width over the middle of every function's interval, for which probes go
            on; None for n probes.
        max_hvps: products that may be spent.
        seed: of the probes.
        noise: delta, the relative error of one product, as far as it is known beforehand.
        reference: H in float64, that the extreme pairs are held against; None where there is none.
        rounding: relative error of a product of the reference.
    """

    steps: int = 40
    probes: int = 4
    deflate: int = 20
    reorthogonalize: bool = True
    sigma: float | None = None
    points: int = 1024
    damping: Sequence[float] = ()
    schatten: Sequence[float] = (1.0, 2.0)
    threshold: float | None = None
    rel_err: float | None = None
    max_hvps: int = 10_000
    seed: int = 0
    noise: float
    reference: SymmetricOperator | None = None
    rounding: float = 0.0

    @property
    def certifying(self) -> float:
        """Relative error of a product that the extreme pairs are held against."""
        return self.noise if self.reference is None else self.rounding

    def __post_init__(self) -> None:
        for name, value in (
            ("steps", self.steps),
            ("probes", self.probes),
            ("points", self.points),
            ("max_hvps", self.max_hvps),
        ):
            if value < 1:
                raise ValueError(f"DensitySettings needs {name} >= 1, got {value}.")
        if self.deflate < 0:
            raise ValueError(f"DensitySettings needs deflate >= 0, got {self.deflate}.")
        for name, number in (
            ("sigma", self.sigma),
            ("rel_err", self.rel_err),
            *(("damping", a) for a in self.damping),
            *(("schatten", p) for p in self.schatten),
        ):
            if number is not None and not (number > 0 and math.isfinite(number)):
                raise ValueError(f"DensitySettings needs {name} > 0, got {number}.")
        if self.threshold is not None and not self.threshold >= 0:
            raise ValueError(f"DensitySettings needs threshold >= 0, got {self.threshold}.")
