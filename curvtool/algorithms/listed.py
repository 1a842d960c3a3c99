"""Certify pairs that a method lists without a Krylov decomposition to vouch for them.

Power iteration and SciPy's solvers hand over vectors. Each is multiplied, in float64 where that can
be had, which gives the best pairs that they span; a probe looks for what the list of one lacks.
Letters: P parameters, k pairs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import final

import numpy as np
import torch
from torch import Tensor

from curvtool.algorithms.certificate import COMBINATIONS, Certificate, Listed
from curvtool.algorithms.completeness import (
    FORECAST_AFTER,
    GIVEN_UP_AFTER,
    Held,
    chance_of_round,
    probe,
    stated,
)
from curvtool.algorithms.elsewhere import noise_elsewhere, too_noisy
from curvtool.algorithms.judging import Judged, judged, outcome_of
from curvtool.algorithms.linalg import rotate_rows
from curvtool.algorithms.settings import EigenSettings
from curvtool.algorithms.space import space_of
from curvtool.operators.base import Counted, SymmetricOperator, Wrapper
from curvtool.random_vectors.purposes import Purpose
from curvtool.results import WHOLE_MATRIX, Completeness, EigenPairs, FloatArray, unproved


@final
class Watched(Wrapper):
    """An operator that remembers the largest |A v| / |v| it has seen, a lower bound of |A|."""

    def __init__(self, inner: SymmetricOperator) -> None:
        self.inner = inner
        self.space = space_of(inner)
        self._largest = torch.zeros((), dtype=torch.float64, device=inner.device)

    @property
    def scale(self) -> float:
        """The largest ratio so far; waits for the device."""
        return float(self._largest)

    def matvec(self, v_P: Tensor, /) -> Tensor:
        """One product of the inner operator."""
        Av_P = self.inner.matvec(v_P)
        ratio = self.space.norm(Av_P) / self.space.norm(v_P).clamp_min(
            torch.finfo(torch.float64).tiny
        )
        self._largest = torch.maximum(self._largest, ratio)
        return Av_P


def products_set_aside(k: int, size: int) -> int:
    """Products that `certified` needs: one a pair, one that tells their noise, the probe's."""
    return k + 1 + min(GIVEN_UP_AFTER, max(size - k, 0))


def certified(
    operator: Counted,
    watched: Watched,
    Y_kP: Tensor,
    settings: EigenSettings,
    *,
    method: str,
    began: float,
    spent: bool,
    proves_nothing: str = "",
    history: Mapping[str, FloatArray] | None = None,
) -> EigenPairs:
    """Turn vectors into pairs with bounds; costs k products, and a probe of six or more.

    Args:
        operator: H with its count and budget; `watched` counts through it.
        watched: the same operator, with the scale seen so far.
        Y_kP: orthonormal rows, at most `settings.k` of them; fewer when the method gave up.
        settings: what was asked.
        method: its name.
        began: `time.perf_counter()` at the start.
        spent: whether the method stopped because its products were spent.
        proves_nothing: why no probe is made; empty where one is.
        history: series of the solve.

    Returns:
        The pairs in the order of `settings.which`.
    """
    settings = replace(settings, certify_fully=True)
    k, solve = len(Y_kP), operator.calls
    Q = torch.zeros((0, Y_kP.shape[1]), dtype=torch.float64, device=Y_kP.device)
    certificate = Certificate(
        settings.reference or watched,
        Listed(
            V=Y_kP, S=np.eye(k), theta=np.zeros(k), Q=Q, Z=np.zeros((0, k)), has_recurrence=False
        ),
        tol=settings.tol,
        largest=watched.scale,
        rounding=settings.noise,
        dtype=operator.dtype,
        seed=settings.seed,
    )
    certificate.multiply(np.ones(k, dtype=np.bool_))
    if settings.reference is not None:
        operator.calls += certificate.products
        if k and operator.left >= 1:
            certificate.hear(_apart(watched, settings.reference, Y_kP[0]))
            operator.calls += 1  # the reference's
    pairs = judged(certificate, settings, {}, left=0, solve=solve)
    proof, probed = _proved(operator, watched, Y_kP, certificate, pairs, settings, proves_nothing)
    if proof is not None and proof[1]:
        pairs = judged(certificate, settings, proof[1], left=0, solve=solve)
    completeness = WHOLE_MATRIX if k == operator.size else _or_unproved(proof, proves_nothing)
    enough = k == settings.k
    rotate_rows(Y_kP, torch.from_numpy(np.ascontiguousarray(pairs.coefficients)))
    return EigenPairs(
        eigenvalues=pairs.theta,
        residual_norms=pairs.norms,
        eigenvalue_errors=pairs.errors,
        converged=pairs.met,
        at_floor=pairs.at_floor,
        outcome=outcome_of(pairs, completeness, settings, enough=enough, spent=spent),
        completeness=completeness,
        certification=pairs.certification,
        which=settings.which,
        method=method,
        tol=settings.tol,
        accuracy=settings.accuracy,
        hvps=operator.calls,
        hvps_by_stage={
            "solve": solve,
            "certify": operator.calls - solve - probed,
            "probe": probed,
        },
        seconds=time.perf_counter() - began,
        noise=settings.noise,
        history=dict(history or {}),
        eigenvectors=Y_kP if settings.vectors else None,
    )


def _apart(operator: Watched, reference: SymmetricOperator, y_P: Tensor) -> float:
    """What a product is off from that of the reference."""
    exact_P = reference.matvec(y_P.double())
    return float(operator.space.norm(operator.matvec(y_P).double() - exact_P))


_Proof = tuple[Completeness, Mapping[bool, FloatArray]]


def _or_unproved(proof: _Proof | None, reason: str) -> Completeness:
    if proof is not None:
        return proof[0]
    return unproved(reason or "the products ran out before a probe could be made")


def _proved(
    operator: Counted,
    watched: Watched,
    Y_kP: Tensor,
    certificate: Certificate,
    pairs: Judged,
    settings: EigenSettings,
    proves_nothing: str,
) -> tuple[_Proof | None, int]:
    """What a probe proves of the list, and its products."""
    k, size = len(Y_kP), operator.size
    left = int(min(operator.left, size))
    if proves_nothing or not 0 < k == settings.k < size or left < 1:
        return None, 0
    largest = max(watched.scale, float(np.abs(pairs.theta).max()))
    noise, reference = settings.noise * largest, settings.reference
    if reference is not None and operator.dtype != torch.float64:
        if left < 2 * COMBINATIONS:
            return None, 0
        noise = noise_elsewhere(watched, reference, Y_kP, seed=settings.seed, first=0)
        operator.calls += COMBINATIONS
        problem = too_noisy(noise, pairs.theta, settings.tol, largest)
        if problem:
            return (unproved(problem), {}), 0
        left -= 2 * COMBINATIONS
    rows = Y_kP.clone()
    rotate_rows(rows, torch.from_numpy(np.ascontiguousarray(pairs.coefficients)))
    held = Held(
        rows=rows,
        theta=pairs.theta,
        R=certificate.couplings(pairs.coefficients),
        k=k,
        which=settings.which,
        tol=settings.tol,
        largest=largest,
        noise=noise + settings.doubt,
    )
    space, chance = space_of(watched), chance_of_round(0)
    start = space.orthonormal_start(rows, Purpose.COMPLETENESS, 0, seed=settings.seed)
    assert start is not None
    cap = max(FORECAST_AFTER, operator.calls // 2)
    room = max(1, min(left, size - k))
    scratch = space.empty(min(room, cap))
    cap = room if settings.complete else cap
    found = probe(watched, held, start, scratch, chance=chance, cap=cap, most=room, finds=False)
    proof = stated(held, found, size, chance=chance, spent=found.products, found=0)
    return proof, found.products
