"""Extreme eigenpairs of a symmetric operator by thick-restart Lanczos.

Letters: P parameters, k wanted pairs, m basis limit, n basis rows in use.
"""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from curvtool.algorithms.certify import COMBINATIONS, recurrence_defect, true_residuals
from curvtool.algorithms.completeness import PROBE_STEPS, Seen, probe
from curvtool.algorithms.krylov import KrylovDecomposition
from curvtool.algorithms.ritz import (
    Indices,
    beyond,
    gaps,
    shortfall,
    value_bounds,
    wanted,
)
from curvtool.algorithms.settings import EigenSettings, Progress, Report, silent
from curvtool.algorithms.warm import blurred
from curvtool.operators.base import Counted, SymmetricOperator
from curvtool.random_vectors.purposes import Purpose
from curvtool.results import Certification, Completeness, EigenPairs, FloatArray, Outcome

# Rows that a restarted basis needs above the wanted pairs: the probe works in them.
SPARE_ROWS = PROBE_STEPS + 2
# A combination of rows in bfloat16 is of unit length to 1e-2 or so, and residuals are for such.
ROUNDED = 1.05


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
            `max_hvps` at least 3.
        report: told of every step.

    Returns:
        The k pairs, or fewer when the products ran out before k directions were seen. Exactly
        one product a step, two for each certification (or four or k more where these do not
        suffice), ten or a few more for each probe. Memory is basis + 5 vectors of P numbers, and
        k more when eigenvectors are asked for.

    Raises:
        ValueError: for k outside 1..P, a basis too small, or fewer than 3 products.
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
    if settings.max_hvps <= COMBINATIONS:
        raise ValueError(
            f"lanczos needs max_hvps > {COMBINATIONS}, since so many products certify the rest; "
            f"got {settings.max_hvps}."
        )
    return _Solve(operator, settings, report).run()


class _Verdict(enum.Enum):
    MET = enum.auto()
    GO_ON = enum.auto()  # the defect fits into the tolerance, the recurrence's residual must shrink
    HOPELESS = enum.auto()  # the defect alone exceeds the tolerance


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
    """One run: its decomposition, its counters, and what has been certified so far."""

    def __init__(
        self, operator: SymmetricOperator, settings: EigenSettings, report: Report
    ) -> None:
        self.operator = Counted(operator)
        self.settings = settings
        self.report = report
        self.began = time.perf_counter()
        self.krylov = KrylovDecomposition(self.operator, limit=settings.basis, place=settings.place)
        self.stages = {"solve": 0, "certify": 0, "probe": 0}
        self.streams = 0
        self.defect = 0.0  # of the recurrence, as last measured
        self.certification = Certification.NONE
        self.exact: tuple[FloatArray, FloatArray] | None = None
        self.crowded: bool | NDArray[np.bool_] = False  # wanted pairs whose gap a probe found taken
        self.rotated = False  # whether the first rows are the wanted pairs
        self.history: dict[str, list[float]] = {
            name: [] for name in ("hvps", "seconds", "converged", "worst_ratio")
        }

    def run(self) -> EigenPairs:
        completeness: Completeness | None = None
        outcome = Outcome.CONVERGED
        while completeness is None:
            view, converged = self._expand()
            verdict = self._certify(view)
            if not converged:
                outcome = Outcome.MAX_HVPS
                break
            if verdict is _Verdict.GO_ON:
                if self._affords_a_step():
                    continue
                outcome = Outcome.MAX_HVPS
                break
            if verdict is _Verdict.HOPELESS:
                outcome = Outcome.STAGNATED
                break
            completeness = self._probe(view)
        if self.krylov.complete:
            completeness = Completeness.EXHAUSTIVE
        if completeness is None:
            completeness = Completeness.NOT_PROBED
        unproved = completeness in {Completeness.NOT_PROBED, Completeness.MISSING}
        if (unproved or np.any(self._shortfall(view) > 1)) and outcome is Outcome.CONVERGED:
            outcome = Outcome.MAX_HVPS
        return self._result(view, outcome, completeness)

    def _expand(self) -> tuple[_View, bool]:
        """Expand and restart until the pairs converge, or the products run out."""
        krylov, k = self.krylov, self.settings.k
        self.certification, self.exact, self.rotated = Certification.NONE, None, False
        self.crowded = False
        stage, probed = "solve", self.stages["probe"]
        while True:
            if krylov.full:
                self._restart(self._view(), self._kept())
            if krylov.closed and not self._inject_random():
                return self._view(), True
            krylov.expand()
            self.stages[stage] += 1
            krylov.require_symmetry()
            view = self._view()
            ratio_k = self._shortfall(view)
            self._tell(stage, ratio_k)
            met = krylov.size >= k and bool(np.all(ratio_k <= 1))
            # A tie at the edge may never clear: then it matters not which of the tied is listed.
            weary = self.stages["probe"] - probed >= max(2 * PROBE_STEPS, self.stages["solve"])
            if krylov.complete or (met and (weary or self._edge_is_clear(view))):
                return view, True
            # Steps that only clear the edge serve completeness, and are counted there.
            stage = "probe" if met else "solve"
            if not self._affords_a_step():
                return view, False

    def _affords_a_step(self) -> bool:
        """Whether products are left for a step and to certify what it gives."""
        settings = self.settings
        certify = min(settings.k, self.krylov.size + 1) if settings.certify_fully else COMBINATIONS
        return self.operator.calls + 1 + certify <= settings.max_hvps

    def _edge_is_clear(self, view: _View) -> bool:
        """Whether the next Ritz values in line can no longer overtake the wanted ones."""
        # One that is still on its way, at the other end of the spectrum above all, may belong among
        # the wanted although those have all converged. Twice its residual, for it may itself be a
        # copy on the way to the next one (with once, 1 in 240 runs on dense edges missed a value).
        theta_k, _, bound_k = self._figures(view)
        low, high = beyond(theta_k, self.settings.which, margin=bound_k)
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

    def _restart(self, view: _View, keep: int) -> Indices:
        """Keep so many Ritz vectors, the wanted ones first; returns which."""
        near = wanted(view.theta, self.settings.which, keep)
        order = np.concatenate([view.order, near[~np.isin(near, view.order)]])[:keep]
        self.krylov.restart(view.theta[order], view.S[:, order])
        return order

    def _certify(self, view: _View) -> _Verdict:
        """Measure the recurrence's defect and hold the pairs with it against the tolerance."""
        krylov, settings, order = self.krylov, self.settings, view.order
        before = self.operator.calls
        if not settings.certify_fully:
            self.certification = Certification.COMBINATIONS
            # Four combinations bound the same defect 3.2 times tighter than two: four more products
            # often save the k that a look at every pair costs.
            for combinations in (COMBINATIONS, 2 * COMBINATIONS):
                if self.operator.calls + combinations > settings.max_hvps:
                    break
                self.defect = recurrence_defect(
                    self.operator,
                    krylov.rows,
                    view.S[:, order],
                    view.theta[order],
                    krylov.residual,
                    combinations=combinations,
                    seed=settings.seed,
                )
                if np.all(self._shortfall(view) <= 1):
                    break
        affordable = self.operator.calls + len(order) <= settings.max_hvps
        # Combinations overestimate one pair's defect by sqrt(k) or so: a look at each may clear it.
        if affordable and (settings.certify_fully or np.any(self._shortfall(view) > 1)):
            rows, S = krylov.rows, view.S
            self.exact = true_residuals(
                self.operator,
                len(order),
                lambda i: krylov.space.combination(rows, torch.from_numpy(S[:, order[i]].copy())),
            )
            self.defect = float(np.maximum(self.exact[1] - view.rho[order], 0).max(initial=0))
            self.certification = Certification.FULL
        self.stages["certify"] += self.operator.calls - before
        if np.all(self._shortfall(view) <= 1):
            return _Verdict.MET
        if krylov.complete:
            return _Verdict.HOPELESS
        ideal = replace(view, rho=np.zeros_like(view.rho))
        exact, self.exact = self.exact, None
        hopeless = np.any(self._shortfall(ideal) > 1)
        self.exact = exact
        return _Verdict.HOPELESS if hopeless else _Verdict.GO_ON

    def _probe(self, view: _View) -> Completeness | None:
        """Probe for missed eigenvalues; None when one was found and the solve must go on."""
        krylov, settings = self.krylov, self.settings
        if krylov.complete:
            return Completeness.EXHAUSTIVE
        room = settings.max_hvps - self.operator.calls
        if room < min(PROBE_STEPS, krylov.operator.size - settings.k):
            return Completeness.NOT_PROBED
        # What was certified stays so: a restart only rotates. As many rows as can be are kept: the
        # near misses of the wanted pairs sharpen the probe.
        theta_k, _, bound_k = self._figures(view)
        scratch = max(PROBE_STEPS, (krylov.limit - settings.k) // 2)
        kept = self._restart(view, max(settings.k, min(krylov.limit - scratch, krylov.size)))
        self.rotated = True
        low, high = beyond(theta_k, settings.which, margin=bound_k)
        self.streams += 1
        found = probe(
            self.operator,
            Seen(krylov.rows, view.theta[kept], view.rho[kept], self._gaps(view)),
            krylov.basis[krylov.size :],
            low=low,
            high=high,
            # A fifth of the solve is what completeness may cost beyond the ten steps.
            steps=min(room, max(PROBE_STEPS, self.stages["solve"] // 5)),
            seed=settings.seed,
            stream=self.streams,
        )
        self.stages["probe"] += found.products
        self.crowded = found.crowded
        direction = found.missing
        if direction is None and np.any(self._shortfall(view) > 1):
            direction = found.neighbour
        if direction is None:
            return Completeness.PROBED
        if self._affords_a_step() and krylov.inject(direction):
            return None
        return Completeness.PROBED if found.missing is None else Completeness.MISSING

    @property
    def _noise(self) -> float:
        return self.settings.noise + self.krylov.drift

    def _view(self) -> _View:
        theta, S, rho = self.krylov.ritz()
        order = wanted(theta, self.settings.which, self.settings.k)
        return _View(theta, S, rho, order, max(float(np.abs(theta).max()), self.krylov.scale))

    def _figures(self, view: _View) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Values, residual norms with their defect, and error bounds of the wanted pairs."""
        theta_k = view.theta[view.order]
        r_k = (view.rho[view.order] + self.defect) * (ROUNDED if self.krylov.rounded else 1.0)
        if self.exact is not None:
            theta_k, r_k = self.exact
        bound_k = value_bounds(r_k, self._gaps(view), noise=self._noise, largest=view.largest)
        return theta_k, r_k, bound_k

    def _gaps(self, view: _View) -> FloatArray:
        """Gaps of the wanted pairs, zero where nothing vouches for them."""
        few = len(view.theta) <= self.settings.k and len(view.theta) < self.operator.size
        # Of rounded rows T's values are no Rayleigh quotients, for which alone r^2 / gap holds.
        rough = self.krylov.rounded and self.exact is None
        gap_k = gaps(view.theta, view.rho)[view.order]
        return np.where(self.crowded | few | rough, 0.0, gap_k)

    def _shortfall(self, view: _View) -> FloatArray:
        theta_k, r_k, bound_k = self._figures(view)
        if len(theta_k) < self.settings.k:
            return np.full(len(theta_k), np.inf)
        return shortfall(
            theta_k, bound_k, r_k, self.settings, noise=self._noise, largest=view.largest
        )

    def _tell(self, stage: str, ratio_k: FloatArray) -> None:
        settings = self.settings
        enough = len(ratio_k) >= settings.k
        converged = int((ratio_k <= 1).sum()) if enough else 0
        worst = float(ratio_k.max()) if enough else float("inf")
        self.history["hvps"].append(self.operator.calls)
        self.history["seconds"].append(time.perf_counter() - self.began)
        self.history["converged"].append(converged)
        self.history["worst_ratio"].append(worst)
        self.report(
            Progress(
                stage=stage,
                hvps=self.operator.calls,
                max_hvps=settings.max_hvps,
                converged=converged,
                wanted=settings.k,
                worst=worst,
            )
        )

    def _result(self, view: _View, outcome: Outcome, completeness: Completeness) -> EigenPairs:
        settings = self.settings
        theta_k, r_k, bound_k = self._figures(view)
        met = self._shortfall(view) <= 1
        # Rayleigh quotients of fresh products may order close pairs anew.
        order = wanted(theta_k, settings.which, len(theta_k))
        vectors = None
        if settings.vectors:
            if not self.rotated:
                self._restart(view, len(theta_k))
            vectors = self.krylov.basis[torch.from_numpy(order.copy())].to(self.operator.dtype)
        return EigenPairs(
            eigenvalues=theta_k[order],
            residual_norms=(r_k + self._noise * view.largest)[order],
            eigenvalue_errors=bound_k[order],
            converged=met[order],
            outcome=outcome,
            completeness=completeness,
            certification=self.certification,
            which=settings.which,
            method="lanczos",
            tol=settings.tol,
            accuracy=settings.accuracy,
            hvps=self.operator.calls,
            hvps_by_stage=dict(self.stages),
            seconds=time.perf_counter() - self.began,
            noise=self._noise,
            history={name: np.array(series) for name, series in self.history.items()},
            eigenvectors=vectors,
        )
