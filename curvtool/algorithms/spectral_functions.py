"""Sums of a function over the spectrum, from the nodes of a quadrature, with errors over probes.

The error is that of the probes alone: a quadrature of m steps resolves smooth functions far better
than steps such as the rank's.

Letters: P size, n probes, m steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from curvtool.algorithms.quadrature import standard_error
from curvtool.results import DensityEstimate, FloatArray, SpectralFunction

EPS = float(np.finfo(np.float64).eps)


def effective_dimension(density: DensityEstimate, a: float) -> SpectralFunction:
    """Sum l / (l + a) over a positive semidefinite spectrum.

    Args:
        density: nodes and weights; eigenvalues above -tau count as no less than zero.
        a: positive.

    Returns:
        The sum, or no value where the spectrum is not semidefinite.

    Raises:
        ValueError: for a <= 0.
    """
    _require_positive("effective_dimension", "a", a)
    name, formula = "effective dimension", "sum l / (l + a)"
    refused = _indefinite(density, name, a, formula)
    return refused or _evaluated(
        density, name, a, formula, lambda x: _clipped(x) / (_clipped(x) + a)
    )


def log_determinant(density: DensityEstimate, a: float) -> SpectralFunction:
    """The logarithm of det(H + a I) of a positive semidefinite H.

    Args:
        density: nodes and weights; eigenvalues above -tau count as no less than zero.
        a: positive.

    Returns:
        Sum log(l + a), or no value where the spectrum is not semidefinite.

    Raises:
        ValueError: for a <= 0.
    """
    _require_positive("log_determinant", "a", a)
    name, formula = "log-determinant", "sum log(l + a)"
    refused = _indefinite(density, name, a, formula)
    return refused or _evaluated(density, name, a, formula, lambda x: np.log(_clipped(x) + a))


def schatten_norm(density: DensityEstimate, p: float) -> SpectralFunction:
    """(sum |l|^p)^(1/p), its error carried through the root to first order.

    Args:
        density: nodes and weights.
        p: positive.

    Returns:
        The norm.

    Raises:
        ValueError: for p <= 0.
    """
    _require_positive("schatten_norm", "p", p)
    # In units of the largest, lest a high power overflows.
    largest = float(np.nanmax(np.abs(density.nodes))) or 1.0
    inner = _evaluated(density, "Schatten norm", p, "", lambda x: (np.abs(x) / largest) ** p)
    assert inner.value is not None
    value = inner.value ** (1 / p) * largest
    stderr = inner.stderr
    if stderr is not None and inner.value > 0:
        stderr *= value / (p * inner.value)
    return SpectralFunction(
        name="Schatten norm",
        parameter=p,
        value=value,
        stderr=stderr,
        detail="(sum |l|^p)^(1/p)",
    )


def numerical_rank(density: DensityEstimate, threshold: float) -> SpectralFunction:
    """How many eigenvalues exceed a threshold in magnitude.

    Args:
        density: nodes and weights.
        threshold: not negative.

    Returns:
        The count, not rounded.

    Raises:
        ValueError: for a negative threshold.
    """
    if not threshold >= 0:
        raise ValueError(f"numerical_rank needs threshold >= 0, got {threshold}.")
    (least, most), (less, more) = density.below(-threshold), density.below(threshold)
    ends = (density.size * (1 - (more - least)), density.size * (1 - max(0.0, less - most)))
    return _evaluated(
        density,
        "rank",
        threshold,
        f"eigenvalues with |l| > threshold; the nodes allow {ends[0]:,.0f} to {ends[1]:,.0f}",
        lambda x: (np.abs(x) > threshold).astype(np.float64),
    )


def _require_positive(who: str, what: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{who} needs {what} > 0, got {value}.")


def _clipped(x: FloatArray) -> FloatArray:
    return np.maximum(x, 0.0)


def _indefinite(
    density: DensityEstimate, name: str, parameter: float, formula: str
) -> SpectralFunction | None:
    """A refusal where there is spectrum below -tau."""
    lowest = float(np.nanmin(density.nodes))
    if lowest >= -density.tau:
        return None
    return SpectralFunction(
        name=name,
        parameter=parameter,
        value=None,
        stderr=None,
        detail=(
            f"{formula} has no meaning here: the operator has negative eigenvalues (a node at "
            f"{lowest:.3g}, {density.negative_mass:.2%} of the spectrum). Use one that has none, "
            "such as the Gauss-Newton matrix."
        ),
    )


def _evaluated(
    density: DensityEstimate,
    name: str,
    parameter: float,
    formula: str,
    f: Callable[[FloatArray], FloatArray],
) -> SpectralFunction:
    there = np.isfinite(density.nodes)
    values = np.where(there, f(np.where(there, density.nodes, 1.0)), 0.0)
    sums = density.size * (density.weights * values).sum(axis=1)
    stderr = float(standard_error(sums))
    if stderr <= 100 * EPS * float(np.abs(sums).max()):
        stderr = 0.0  # all probes agree but for roundings
    return SpectralFunction(
        name=name,
        parameter=parameter,
        value=float(sums.mean()),
        stderr=None if math.isnan(stderr) else stderr,
        detail=formula,
    )
