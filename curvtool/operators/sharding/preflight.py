"""Checks of a product whose parameters no rank holds, against float64, before the solve.

Letters: p numbers of this rank's part of a vector.
"""

from __future__ import annotations

import math
import time
from typing import final

import torch
from torch import Tensor

from curvtool.distributed.group import Group
from curvtool.distributed.shares import Shares
from curvtool.errors import PreflightError
from curvtool.operators.preflight import (
    DIFFERENCES_ALLOWED,
    LEAST_NOISE,
    ROUGHLY_ALLOWED,
    STEPS,
)
from curvtool.operators.sharding.hessian import ShardedHessian
from curvtool.random_vectors import streams
from curvtool.random_vectors.purposes import Purpose
from curvtool.results import Check, Preflight

# Rounding of products that are zero, or nearly so, beside what the gradient rounds to.
_ROUNDING = 100.0


@final
class _Vectors:
    """Sums over the ranks."""

    def __init__(self, group: Group) -> None:
        self._group = group

    def dot(self, a_p: Tensor, b_p: Tensor) -> float:
        return float(self._group.sum_((a_p.double() @ b_p.double()).view(1)))

    def norm(self, a_p: Tensor) -> float:
        return math.sqrt(self.dot(a_p, a_p))


def preflight_sharded(sample: ShardedHessian, twin: ShardedHessian, *, seed: int) -> Preflight:
    """Hold a product against differences in float64, and against its own transpose.

    Args:
        sample: H on a few examples.
        twin: the same on the same examples, in float64.
        seed: of the test vectors.

    Returns:
        The checks, the same on all ranks. Costs 4 products and at most 14 gradients of the
        examples; memory is 6 parts of vectors in float64.

    Raises:
        PreflightError: where the product is not that of a Hessian.
    """
    began = time.perf_counter()
    group = sample.group
    of = _Vectors(group)
    eps = torch.finfo(sample.dtype).eps
    u_p, v_p = (_direction(sample, i, seed=seed) for i in (0, 1))
    Hu_p, Hv_p = sample.matvec(u_p), sample.matvec(v_p)
    again_p = sample.matvec(v_p)
    exact_p = twin.matvec(v_p.double())
    there = twin.evaluate()
    size = of.norm(exact_p)
    theta_p = twin.sharded.store.part_p.clone()
    scale = of.norm(theta_p) or 1.0
    # What rounding leaves of a product that is zero: that of the gradient, over the parameters.
    floor = _ROUNDING * eps * of.norm(there.gradient_p) * of.norm(v_p) / scale

    def relative(difference: float, of_size: float) -> float:
        return difference / max(of_size, floor) if difference else 0.0

    checks = [
        _check("repeat", relative(of.norm(again_p - Hv_p), size), 1e3 * eps, "two products"),
    ]
    skew = abs(of.dot(u_p, Hv_p) - of.dot(v_p, Hu_p))
    reach = max(of.norm(u_p) * of.norm(Hv_p), of.norm(v_p) * of.norm(Hu_p))
    checks.append(_check("symmetry", relative(skew, reach), 3 * eps**0.5, "u'Hv and v'Hu"))
    best = float("inf")
    for step in STEPS:
        h = step * scale / of.norm(v_p)
        ends = []
        for sign in (h, -h):
            twin.sharded.store.part_p.copy_(theta_p + sign * v_p.double())
            ends.append(twin.evaluate().gradient_p.clone())
        twin.sharded.store.part_p.copy_(theta_p)
        apart = of.norm((ends[0] - ends[1]) / (2 * h) - exact_p)
        # The gradient rounds, too, and is divided by the step.
        rounding = of.norm(there.gradient_p) * torch.finfo(torch.float64).eps / h
        best = min(best, apart / max(size, _ROUNDING * rounding) if apart else 0.0)
        if best <= DIFFERENCES_ALLOWED:
            break
    detail = "central differences of the gradient in float64"
    checks.append(_check("differences", best, DIFFERENCES_ALLOWED, detail))
    noise = relative(of.norm(Hv_p.double() - exact_p), size)
    checks.append(_check("precision", noise, ROUGHLY_ALLOWED, "against the product in float64"))
    for check in checks:
        if not check.passed:
            raise PreflightError(
                f"The product is not that of a Hessian: {check.name} is off by {check.defect:.1e}, "
                f"{check.allowed:.1e} is allowed ({check.detail}). Some operation has a wrong "
                "second derivative, or changes from product to product (dropout, shuffling). "
                "Nothing was computed, for its eigenvalues would mean nothing."
            )
    return Preflight(
        checks=tuple(checks),
        noise=max(noise, LEAST_NOISE * eps),
        noise_source="against float64 on the preflight batch",
        seconds=time.perf_counter() - began,
    )


def _direction(H: ShardedHessian, number: int, *, seed: int) -> Tensor:
    """This rank's part of a random vector."""
    return streams.normal(
        Purpose.PREFLIGHT,
        number,
        seed=seed,
        size=H.size,
        part=Shares(H.size, H.group.size).part(H.group.rank),
        dtype=H.dtype,
        device=H.device,
    )


def _check(name: str, defect: float, allowed: float, detail: str) -> Check:
    return Check(name=name, defect=defect, allowed=allowed, passed=defect <= allowed, detail=detail)
