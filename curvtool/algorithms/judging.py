"""Which pairs meet their tolerance, which stop at the floor of the arithmetic, which are open.

Letters: k pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from curvtool.algorithms.bounds import Residuals, value_errors
from curvtool.algorithms.certificate import COMBINATIONS, FEW, Certificate
from curvtool.algorithms.ritz import Indices, wanted
from curvtool.algorithms.settings import EigenSettings, Which
from curvtool.results import Certification, Completeness, FloatArray, Outcome

# An error of this share of |H| is nothing in any arithmetic: a zero eigenvalue meets its tolerance.
NOTHING = 1e-13


@final
@dataclass(frozen=True, eq=False)
class Judged:
    """Pairs in the order of `which`, as they are printed.

    Attributes:
        theta: values, shape (k,).
        errors: an eigenvalue lies within each, shape (k,).
        norms: bounds of the residual norms, shape (k,).
        met: whether a pair met its tolerance, shape (k,).
        at_floor: whether one missed it for the noise of products alone, shape (k,).
        coefficients: of the vectors over the rows of the solve, in columns, shape (n, k).
        certification: how all this is known.
    """

    theta: FloatArray
    errors: FloatArray
    norms: FloatArray
    met: NDArray[np.bool_]
    at_floor: NDArray[np.bool_]
    coefficients: FloatArray
    certification: Certification


def products_of_certificate(settings: EigenSettings, k: int) -> int:
    """Products that are set aside for what `judged` needs at least."""
    few = settings.certify_fully or k <= FEW
    return k if few else COMBINATIONS


def allowed_errors(theta: FloatArray, settings: EigenSettings, largest: float) -> FloatArray:
    """Tolerances, absolute, shape (k,)."""
    return np.maximum(settings.tol * np.abs(theta), NOTHING * largest)


def of_upper_end(theta: FloatArray, which: Which) -> NDArray[np.bool_]:
    """Which values of a list belong to the upper end, shape (k,)."""
    if which == "LM":
        return theta >= 0
    if which == "BE":
        top = (len(theta) + 1) // 2
        upper = np.zeros(len(theta), dtype=np.bool_)
        upper[np.argsort(-theta, kind="stable")[:top]] = True
        return upper
    return np.full(len(theta), which == "LA")


def measured(
    found: Residuals, settings: EigenSettings, limits: Mapping[bool, FloatArray]
) -> tuple[FloatArray, FloatArray]:
    """Errors of the values, and what is held against the tolerance: these, or residual norms."""
    errors = value_errors(found, of_upper_end(found.theta, settings.which), limits)
    errors += settings.doubt
    return errors, errors if settings.accuracy == "values" else found.norms + settings.doubt


def resolvable(
    certificate: Certificate, settings: EigenSettings, limits: Mapping[bool, FloatArray]
) -> NDArray[np.bool_]:
    """Which pairs would meet their tolerance if products had no noise, shape (k,)."""
    ideal = certificate.ideal()
    _, held = measured(ideal, replace(settings, doubt=0.0), limits)
    return held <= allowed_errors(ideal.theta, settings, certificate.largest)


def judged(
    certificate: Certificate,
    settings: EigenSettings,
    limits: Mapping[bool, FloatArray],
    *,
    left: float,
) -> Judged:
    """Hold pairs against their tolerance, with as many products as that takes.

    Args:
        certificate: of the pairs; sketched already, or not.
        settings: what was asked.
        limits: see `value_errors`.
        left: products that may be made.

    Returns:
        The pairs. None further where a sketch suffices; a product for each pair that it leaves
        open, then for all of them where that is not enough.
    """
    k = len(certificate.listed.theta)
    everything = np.ones(k, dtype=np.bool_)
    budget = certificate.products + left
    sketched = False
    if (settings.certify_fully or k <= FEW) and int((~certificate.exact).sum()) <= left:
        certificate.multiply(everything)  # those that are known already cost nothing
    else:
        sketched = True
        if not certificate.sketched:
            certificate.sketch(int(min(COMBINATIONS, left)))
    could = resolvable(certificate, settings, limits)
    found, rotation, errors, missed = _held(certificate, settings, limits)
    for which in (missed, everything):
        more = which & ~certificate.exact
        best = _held(certificate, settings, limits, at_best=True)[-1]
        if not (missed & could & ~best).any() or not more.any():
            break
        if certificate.products + int(more.sum()) > budget:
            break
        certificate.multiply(which)
        found, rotation, errors, missed = _held(certificate, settings, limits)
    kind = Certification.OWN_PRODUCTS
    if certificate.in_float64:
        kind = Certification.BLOCK if certificate.exact.all() else Certification.SKETCH
        if sketched and certificate.exact.any() and not certificate.exact.all():
            kind = Certification.SKETCH_AND_PAIRS
    order = wanted(found.theta, settings.which, k)
    # A pair that products without noise would have brought within the tolerance is at the floor
    # once nothing of it is left to a sketch.
    floor = missed & could & certificate.exact
    return Judged(
        theta=found.theta[order],
        errors=errors[order],
        norms=found.norms[order] + settings.doubt,
        met=~missed[order],
        at_floor=floor[order],
        coefficients=certificate.vectors(rotation)[:, order],
        certification=kind,
    )


def outcome_of(
    pairs: Judged, proof: Completeness, settings: EigenSettings, *, enough: bool, spent: bool
) -> Outcome:
    """How a solve ended.

    Args:
        pairs: as they are printed.
        proof: what is known of further ones.
        settings: what was asked.
        enough: whether there are as many pairs as were asked for.
        spent: whether the products were spent.

    Returns:
        `CONVERGED` where every pair met its tolerance, and the list is proved complete if that was
        asked for.
    """
    if not enough or not (pairs.met | pairs.at_floor).all():
        return Outcome.MAX_HVPS if spent or not enough else Outcome.STAGNATED
    if settings.complete and not proof.complete:
        return Outcome.INCOMPLETE
    return Outcome.CONVERGED if pairs.met.all() else Outcome.FLOOR


def _held(
    certificate: Certificate,
    settings: EigenSettings,
    limits: Mapping[bool, FloatArray],
    *,
    at_best: bool = False,
) -> tuple[Residuals, FloatArray, FloatArray, NDArray[np.bool_]]:
    """Pairs, their rotation, their errors, and which of them miss their tolerance."""
    found, rotation = certificate.rotated(at_best=at_best)
    # Eigenvalues come in increasing order; back to the places that they grew out of.
    if certificate.exact.any():
        places = _places(rotation)
        found, rotation = found.taken(places), rotation[:, places]
    errors, held = measured(found, settings, limits)
    missed = held > allowed_errors(found.theta, settings, certificate.largest)
    return found, rotation, errors, missed


def _places(rotation: FloatArray) -> Indices:
    """For each old vector the new one that has most of it, each once."""
    return np.asarray(linear_sum_assignment(-np.abs(rotation))[1])
