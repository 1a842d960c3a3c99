"""Extreme eigenpairs of a symmetric operator by thick-restart Lanczos.

Letters: P parameters, k wanted pairs, m basis limit, n basis rows in use.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import final

import numpy as np
import torch

from curvtool.algorithms.bounds import Residuals
from curvtool.algorithms.certificate import Certificate
from curvtool.algorithms.completeness import GIVEN_UP_AFTER, Held
from curvtool.algorithms.judging import (
    Judged,
    allowed_errors,
    judged,
    measured,
    outcome_of,
    products_of_certificate,
)
from curvtool.algorithms.krylov import KrylovDecomposition
from curvtool.algorithms.linalg import rotate_rows
from curvtool.algorithms.proving import SPARE_ROWS, Prover
from curvtool.algorithms.ritz import Indices, beyond, gaps, value_bounds, wanted
from curvtool.algorithms.settings import EigenSettings, Progress, Report, silent
from curvtool.algorithms.warm import blurred
from curvtool.operators.base import Counted, SymmetricOperator
from curvtool.random_vectors.purposes import Purpose
from curvtool.results import (
    WHOLE_MATRIX,
    Certification,
    Completeness,
    EigenPairs,
    FloatArray,
    unproved,
)

# Of the tolerance, what the recurrence may use up; the rest is for what products add to it. The
# couplings that are left also cost the probe a part of the gap behind the list: a tenth of it.
_SHARE = 0.1
# The same once it is proved what lies behind the list.
_SHARE_AFTER = 0.5
# Relative residual of a vector of the other end that is worth a row.
_CONVERGED = 1e-2
# Steps that only clear the edge of the list, as a share of the solve.
_CLEARING = 0.25


def default_basis(k: int, size: int) -> int:
    """Basis that pays for k pairs: 3 k, at least k + 40, at most P."""
    return min(size, max(3 * k, k + 40))


def lanczos(
    operator: SymmetricOperator, settings: EigenSettings, *, report: Report = silent
) -> EigenPairs:
    """Extreme eigenpairs by thick-restart Lanczos, certified and probed for completeness.

    Args:
        operator: symmetric operator of size P.
        settings: what is asked; `basis` must be at least k + 12 unless it reaches P, and
            `max_hvps` at least 2.
        report: told of every step.

    Returns:
        The k pairs, or fewer when the products ran out before k directions were seen. Exactly
        one product a step; a certificate takes four in float64 (k where k is no more than that, or
        is asked for), and one more for each pair that these leave open; a probe six to half of
        the solve's. Memory is basis + 12 vectors of P numbers, and k more where every pair is
        multiplied or eigenvectors are asked for.

    Raises:
        ValueError: for k outside 1..P, a basis too small, or fewer than 2 products.
        PreflightError: when the products turn out not to be those of a symmetric matrix.

    References:
        Wu, Simon (2000); Paige (1972); Giraud et al. (2005).
    """
    if not 1 <= settings.k <= operator.size:
        raise ValueError(f"lanczos needs 1 <= k <= P = {operator.size}, got k = {settings.k}.")
    if settings.basis < min(operator.size, settings.k + SPARE_ROWS):
        raise ValueError(
            f"lanczos needs a basis of at least k + {SPARE_ROWS} = {settings.k + SPARE_ROWS} "
            f"vectors (or P), got {settings.basis}."
        )
    if settings.max_hvps < 2:
        raise ValueError(
            "lanczos needs max_hvps >= 2, a product and one that certifies it; got "
            f"{settings.max_hvps}."
        )
    return _Solve(operator, settings, report).run()


@final
@dataclass(frozen=True, eq=False)
class _View:
    """The Ritz pairs of one moment; `order` lists the wanted ones."""

    theta: FloatArray
    S: FloatArray
    rho: FloatArray
    order: Indices
    largest: float  # |theta_1|: over all that was ever seen, since restarts drop the other end


@final
class _Solve:
    """One run: its decomposition, its counters, and what has been proved so far."""

    def __init__(
        self, operator: SymmetricOperator, settings: EigenSettings, report: Report
    ) -> None:
        self.operator = Counted(operator)
        self.settings = settings
        self.report = report
        self.began = time.perf_counter()
        self.krylov = KrylovDecomposition(self.operator, limit=settings.basis, place=settings.place)
        self.prover = Prover(self.operator, settings, self.krylov)
        self.stages = self.prover.stages
        self.streams = 0
        self.history: dict[str, list[float]] = {
            name: [] for name in ("hvps", "seconds", "converged", "worst_ratio")
        }

    def run(self) -> EigenPairs:
        prover = self.prover
        proof: Completeness | None = None
        certificate: Certificate | None = None
        view, enough = self._expand(prover.most)
        while enough and proof is None and not self.krylov.complete:
            held = self._held(view)
            certificate = prover.certificate(held)
            proof = prover.prove(held)
            if proof is None:
                if prover.lost and not self._inject_random():
                    break
                before = view.theta[view.order]
                view, enough = self._expand(prover.most)
                prover.count_found(before, view.theta[view.order], view.largest)
        held_now: Held | None = None
        room = prover.most - self.operator.calls
        if self.krylov.complete:
            held_now, certificate = self._held(view), None
            proof = self._whole(held_now)
        elif proof and certificate and room > 0 and not prover.is_sharp(certificate):
            # Behind a list that is not proved nothing vouches for a gap: residuals must do.
            extra = min(room, max(SPARE_ROWS, self.stages["solve"]))
            view, enough = self._expand(self.operator.calls + extra)
            certificate = None
        if not len(view.order):
            return self._nothing()
        if certificate is None or proof is None:
            certificate = prover.certificate(held_now or self._held(view))
        before_it, left = certificate.products, self.settings.max_hvps - prover.spent
        solve = self.stages["solve"]
        pairs = judged(certificate, self.settings, prover.limits, left=left, solve=solve)
        self.stages["certify"] += certificate.products - before_it
        prover.noise = max(prover.noise, certificate.noise)
        if proof is None:
            proof = unproved("the products ran out before a probe was through")
        return self._result(pairs, proof)

    def _whole(self, held: Held) -> Completeness:
        """What a basis of the whole space proves: all of the matrix that the products apply."""
        settings = self.settings
        if settings.reference is None or self.operator.dtype == torch.float64:
            return WHOLE_MATRIX
        problem = self.prover.noise_problem(held)
        return unproved(problem) if problem else self.prover.spanned(held)

    def _held(self, view: _View) -> Held:
        return self.prover.hold(view.theta, view.S, view.order, view.largest)

    def _expand(self, most: int) -> tuple[_View, bool]:
        """Expand and restart until the pairs converge, or so many products are made."""
        krylov, stage = self.krylov, "probe" if self.prover.probes else "solve"
        clearing = 0
        while True:
            if krylov.full:
                self._restart(self._view(), self._kept())
            if krylov.closed and not self._inject_random():
                return self._view(), True
            if self.operator.calls >= most:
                return self._view(), False
            krylov.expand()
            self.stages[stage] += 1
            krylov.require_symmetry()
            view = self._view()
            ratio_k = self._shortfall(view)
            self._tell(stage, ratio_k)
            met = krylov.size >= self.settings.k and bool(np.all(ratio_k <= 1))
            # A tie at the edge may never clear: then a probe says which of the tied are missing.
            weary = clearing >= max(GIVEN_UP_AFTER, _CLEARING * self.stages["solve"])
            if krylov.complete or (
                met and (weary or self.prover.limits or self._edge_is_clear(view))
            ):
                return view, True
            # Steps that only clear the edge serve completeness, and are counted there.
            stage = "probe" if met or self.prover.probes else "solve"
            clearing += int(met)

    def _edge_is_clear(self, view: _View) -> bool:
        """Whether the next Ritz values in line can no longer overtake the wanted ones."""
        # One that is still on its way, at the other end of the spectrum above all, may belong among
        # the wanted although those have all converged. Twice its residual, for it may itself be a
        # copy on the way to the next one.
        theta_k = view.theta[view.order]
        margin = allowed_errors(theta_k, self.settings, view.largest)
        low, high = beyond(theta_k, self.settings.which, margin=margin)
        rest = np.setdiff1d(np.arange(len(view.theta)), view.order)
        if not len(rest):
            return self.krylov.complete
        top, bottom = rest[np.argmax(view.theta[rest])], rest[np.argmin(view.theta[rest])]
        highest = view.theta[top] + 2 * view.rho[top]
        lowest = view.theta[bottom] - 2 * view.rho[bottom]
        return bool(highest <= high and lowest >= low)

    def _inject_random(self) -> bool:
        """Continue an invariant subspace with a fresh direction; False where none is left."""
        for _ in range(3):  # that a random vector lies in the span to 1e-3 is next to impossible
            self.streams += 1
            start = self.krylov.space.orthonormal_start(
                self.krylov.rows, Purpose.SOLVE_START, self.streams, seed=self.settings.seed
            )
            if start is not None and not self.krylov.size and self.settings.start is not None:
                start = blurred(self.krylov.space.share(self.settings.start), start)
            if start is not None and self.krylov.inject(start):
                return True
        return False

    def _kept(self) -> int:
        """Rows to keep at a restart: the wanted ones and half of the others, nearest first."""
        limit, k = self.krylov.limit, self.settings.k
        return min(k + (limit - k) // 2, limit - 3)

    def _restart(self, view: _View, keep: int) -> None:
        """Keep so many Ritz vectors: the wanted ones, converged ones of the far end, near ones."""
        near = wanted(view.theta, self.settings.which, keep)
        far = self._far(view, (keep - len(view.order)) // 3)
        order = np.concatenate([view.order, far])
        order = np.concatenate([order, near[~np.isin(near, order)]])[:keep]
        self.krylov.restart(view.theta[order], view.S[:, order])

    def _far(self, view: _View, most: int) -> Indices:
        """Ritz vectors of an end that is not asked for: without them the spectrum is narrower."""
        # A solve for the smallest of a network has hundreds of times their width at the other end,
        # which both its steps and its probe would pay for again after each restart.
        if self.settings.which not in {"LA", "SA"}:
            return np.zeros(0, dtype=np.intp)
        far = wanted(view.theta, "SA" if self.settings.which == "LA" else "LA", most)
        known = view.rho[far] <= _CONVERGED * np.abs(view.theta[far])
        return far[known & ~np.isin(far, view.order)]

    def _view(self) -> _View:
        theta, S, rho = self.krylov.ritz()
        order = wanted(theta, self.settings.which, self.settings.k)
        return _View(theta, S, rho, order, max(float(np.abs(theta).max()), self.krylov.scale))

    def _shortfall(self, view: _View) -> FloatArray:
        """By how many times each pair misses its share of the tolerance: ready where <= 1."""
        settings, order = self.settings, view.order
        theta_k, rho_k = view.theta[order], view.rho[order]
        if len(theta_k) < settings.k:
            return np.full(len(theta_k), np.inf)
        allowed = allowed_errors(theta_k, settings, view.largest)
        if self.prover.limits:
            _, C = self.krylov.residual_basis()
            Z = C @ view.S[:, order]
            found = _exact(theta_k, Z.T @ Z)
            held = self.krylov.space.told(measured(found, settings, self.prover.limits)[1])
            ratio_k = _ratio(held, _SHARE_AFTER * allowed)
        elif settings.accuracy == "vectors":
            ratio_k = _ratio(rho_k, _SHARE_AFTER * allowed)
        else:
            bound = value_bounds(rho_k, gaps(view.theta, view.rho)[order])
            ratio_k = _ratio(bound, _SHARE * allowed)
        # Below this a residual is rounding, and more steps do not make it smaller.
        floor = 10 * float(np.finfo(self._numpy_dtype).eps) * view.largest
        return np.where(rho_k <= floor, np.minimum(ratio_k, 1.0), ratio_k)

    @property
    def _numpy_dtype(self) -> str:
        return str(self.krylov.basis.dtype).removeprefix("torch.").replace("bfloat16", "float32")

    def _tell(self, stage: str, ratio_k: FloatArray) -> None:
        settings = self.settings
        enough = len(ratio_k) >= settings.k
        converged = int((ratio_k <= 1).sum()) if enough else 0
        worst = float(ratio_k.max()) if enough else float("inf")
        self.history["hvps"].append(self.prover.spent)
        self.history["seconds"].append(time.perf_counter() - self.began)
        self.history["converged"].append(converged)
        self.history["worst_ratio"].append(worst)
        self.report(
            Progress(
                stage=stage,
                hvps=self.prover.spent,
                max_hvps=settings.max_hvps,
                converged=converged,
                wanted=settings.k,
                worst=worst,
            )
        )

    def _result(self, pairs: Judged, proof: Completeness) -> EigenPairs:
        settings = self.settings
        vectors = None
        if settings.vectors:
            S = np.ascontiguousarray(pairs.coefficients)
            rotate_rows(self.krylov.basis[: len(S)], torch.from_numpy(S))
            vectors = self.krylov.basis[: S.shape[1]].to(self.operator.dtype)
        enough = len(pairs.theta) == settings.k
        spent = settings.max_hvps - self.prover.spent <= products_of_certificate(
            settings, settings.k
        )
        return EigenPairs(
            eigenvalues=pairs.theta,
            residual_norms=pairs.norms,
            eigenvalue_errors=pairs.errors,
            converged=pairs.met,
            at_floor=pairs.at_floor,
            outcome=outcome_of(pairs, proof, settings, enough=enough, spent=spent),
            completeness=proof,
            certification=pairs.certification,
            which=settings.which,
            method="lanczos",
            tol=settings.tol,
            accuracy=settings.accuracy,
            hvps=self.prover.spent,
            hvps_by_stage=dict(self.stages),
            seconds=time.perf_counter() - self.began,
            noise=self.prover.noise,
            history={name: np.array(series) for name, series in self.history.items()},
            eigenvectors=vectors,
        )

    def _nothing(self) -> EigenPairs:
        """The result of a solve that has no value to show."""
        none = np.zeros(0)
        empty = Judged(
            none, none, none, none.astype(bool), none.astype(bool), none[None], Certification.NONE
        )
        return self._result(empty, unproved("no value was found"))


def _exact(theta: FloatArray, gram: FloatArray) -> Residuals:
    """Residuals of a recurrence that is taken to be exact."""
    k = len(theta)
    return Residuals(theta, np.zeros((k, k)), gram, np.zeros(k), joint=True, rounding=0.0)


def _ratio(held: FloatArray, allowed: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = held / allowed
    return np.where(held <= allowed, np.minimum(np.nan_to_num(ratio, nan=0.0), 1.0), ratio)
