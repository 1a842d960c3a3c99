"""Is the product that of a Hessian? Asked on a few examples, before hours of work.

PyTorch's second derivatives are silently wrong in several common cases, and symmetry alone does
not show it: so the product is also held against float64 differences of the gradient, and, where
those cannot be had, against a second exact way, or differences in the model's own dtype.
Letters: P parameters.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from curvtool.errors import CurvtoolError, PreflightError
from curvtool.operators.doubts import left_open
from curvtool.operators.hessian import HessianOperator
from curvtool.operators.screening import (
    custom_functions,
    evaluated_twice,
    gradient_hint,
    screen,
)
from curvtool.operators.ways.differences import estimated_error
from curvtool.problem.objective import Evaluation, Objective
from curvtool.problem.wording import first_line, listed
from curvtool.random_vectors import streams
from curvtool.random_vectors.purposes import Purpose
from curvtool.results import Check, Preflight

EXAMPLES = 32
# Relative steps: the larger ones cross ReLU kinks, the smaller ones drown in rounding.
STEPS = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)
STEPS_IN_FLOAT32 = (1e-2, 3e-3, 1e-3, 3e-4)
# For ways that take differences: some vectors cross a ReLU's kink, 30 times off, and some do not.
MORE_PROBES = 8
DIFFERENCES_ALLOWED = 1e-4
SECOND_WAY_ALLOWED = 1e-6
# In float64, where two forms of one function part by rounding.
AS_WRITTEN_ALLOWED = 1e-6
# A gradient of an interpolating model is rounding: what moving the parameters relatively by so much
# changes of it is taken for its size then.
MOVED = 1e-3
# For ways that take differences, for differences in float32, and for a product in float32 against
# float64: what this is off by has a wrong derivative or no use.
ROUGHLY_ALLOWED = 0.1
# Differences in float64 are off by 1e-8 where no kink is crossed.
SYMMETRY_OF_DIFFERENCES = 1e-3
FORWARD, REVERSE = "forward-over-reverse", "reverse-over-reverse"
# Ways that use forward mode: another one has to judge them.
_USE_FORWARD = (FORWARD, "linearized", "reverse-over-forward")
MOST_NAMES = 3
# The least noise of a product that is believed: one that repeats exactly still rounds.
LEAST_NOISE = 10
# A product this small beside what the gradient and the loss round to is zero, in units of eps.
ROUNDING = 100

Product = Callable[[Tensor], Tensor]


def preflight(
    objective: Objective, *, way: str, seed: int, examples: int = EXAMPLES, exact: bool = True
) -> Preflight:
    """Check the product on the first examples and measure its noise.

    Args:
        objective: of the whole dataset; one small batch and a float64 copy of the model are used.
        way: of `HessianOperator`.
        seed: of the test vectors.
        examples: at most so many are used.
        exact: False for a way that takes differences, which a tenth may part from symmetry.

    Returns:
        The checks with their defects, and delta, the relative error of one product. Costs about
        thirty gradients of the examples, in float32 and in float64.

    Raises:
        PreflightError: when a check fails, naming the module where the defect is largest, or what
            `screening` refuses.
    """
    began = time.perf_counter()
    screen(objective)
    sample = objective.sample(examples)
    eps = torch.finfo(sample.dtype).eps
    first, again = evaluated_twice(sample)
    checks = [
        _check(
            "repeat",
            _distance(first.gradient_P, again.gradient_P),
            1e3 * eps,
            "two passes over the same examples give the same gradient",
        )
    ]
    _refuse(checks, "Dropout, random layers or augmentation are active", None, sample)
    custom = custom_functions(sample) if exact else ()
    floor = _rounding(sample, first)
    u_P, v_P = (_direction(sample, i, seed=seed) for i in (0, 1))
    # Copied before products are made, of which models may keep tensors that cannot be copied.
    reference = _reference(objective, way, v_P, examples)
    product = HessianOperator(sample, way=way).matvec
    Hu_P, Hv_P = product(u_P), product(v_P)
    if reference.written is None:
        written = _as_written(sample, first, Hv_P, v_P, allowed=3 * eps**0.5)
    else:
        written = reference.written
    checks.append(written)
    _refuse(
        [written], "A rewriting that makes products possible or cheap is wrong here", None, sample
    )
    asymmetry = _asymmetry(u_P, v_P, Hu_P, Hv_P, floor=floor)
    alike = 3 * eps**0.5 if exact else ROUGHLY_ALLOWED
    checks.append(_check("symmetry", asymmetry, alike, "u'Hv = v'Hu"))
    if not exact and reference.double is not None:
        checks.append(_symmetry_of_differences(reference, u_P.double(), v_P.double()))
    cause = gradient_hint(sample) or "Some operation has a wrong second derivative"
    if not all(check.passed for check in checks):
        guilty = reference.difference_defect(v_P.double())[1] if reference.double else None
        _refuse(checks, cause, guilty, sample)
    gradient_P = first.gradient_P
    probes = [v_P, u_P] if not gradient_P.any() else [v_P, u_P, gradient_P]
    if not exact:
        probes += [_direction(sample, 2 + i, seed=seed) for i in range(MORE_PROBES)]
    second: Check | None = None
    if reference.double is None:
        problem = f"no float64 reference: {reference.problem}"
        checks.append(_unmade("differences", DIFFERENCES_ALLOWED, problem))
        second, where = _second_way(sample, way, Hv_P, v_P, allowed=alike, floor=floor)
        _refuse([second], "Two exact ways disagree", where, sample)
        if second.passed is None:
            checks[-1] = _differences_alone(sample, Hv_P, v_P, floor, problem, second, custom)
    else:
        w_P = v_P.double()
        defect, guilty_P = reference.difference_defect(w_P)
        detail = "central differences of the gradient in float64"
        if custom:
            detail += f", which judge {listed(custom, most=MOST_NAMES)}"
        checks.append(_check("differences", defect, DIFFERENCES_ALLOWED, detail))
        _refuse(checks, cause, guilty_P, sample)
        if sample.dtype == torch.float64:
            # Differences have cleared the product; here a second way measures its noise, which in
            # float32 float64 does. (Its first use costs two seconds of torch's imports.)
            second, _ = _second_way(
                reference.double,
                way,
                reference.Hv_P,
                w_P,
                allowed=SECOND_WAY_ALLOWED if exact else ROUGHLY_ALLOWED,
                floor=reference.floor,
            )
    if second is not None:
        checks.append(second)
    judged = sample.dtype != torch.float64 and reference.double is not None
    if exact or judged or (second is not None and second.passed):
        noise, source = _noise(sample, product, reference, probes, second, floor)
    else:
        noise = max(_error_of_differences(sample, p_P) for p_P in probes)
        source = "by half the step on the preflight batch"
    # Kernels differ by dtype: differences in float64 say nothing of one in float32.
    precise = _check("precision", noise, ROUGHLY_ALLOWED, f"the product {source}")
    remedy = "try --dtype float64" if exact else "use an exact --hvp, or --dtype float64"
    _refuse([precise], f"It rounds too much, or crosses kinks: {remedy}", None, sample)
    doubt = 0.0
    if custom and reference.double is not None:
        directions = (_direction(sample, i, seed=seed).double() for i in range(3))
        doubt = left_open(reference.double, reference.product, directions, STEPS)
    return Preflight(
        checks=tuple(checks),
        noise=max(noise, LEAST_NOISE * eps),
        noise_source=source,
        seconds=time.perf_counter() - began,
        doubt=doubt,
    )


@final
@dataclass(frozen=True, eq=False)
class _Reference:
    """The same few examples in float64, or why there are none."""

    double: Objective | None
    product: Product
    Hv_P: Tensor
    floor: float = 0.0  # of |H v| / |v|, see `_rounding`
    written: Check | None = None
    problem: str = ""

    def difference_defect(self, v_P: Tensor) -> tuple[float, Tensor]:
        """Of the product, in float64."""
        assert self.double is not None
        return _difference_defect(self.double, self.Hv_P, v_P, STEPS, self.floor)


def _reference(objective: Objective, way: str, v_P: Tensor, examples: int) -> _Reference:
    try:
        double = objective.sample(examples, dtype=torch.float64)
        there = double.evaluate()
        product = HessianOperator(double, way=way).matvec
        w_P = v_P.double()
        Hw_P = product(w_P)
        written = _as_written(double, there, Hw_P, w_P, allowed=AS_WRITTEN_ALLOWED)
        return _Reference(double, product, Hw_P, _rounding(double, there), written)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, ValueError, CurvtoolError) as problem:
        # A model may hold tensors that do not follow `.to(float64)`; that is no fault of its H.
        return _Reference(None, lambda v: v, v_P, problem=first_line(problem, most=200))


def _as_written(
    objective: Objective, there: Evaluation, Hv_P: Tensor, v_P: Tensor, *, allowed: float
) -> Check:
    """Hold the gradient that products come from against that of the loss as its code has it."""
    theta_P = objective.theta()
    apart = float((objective.gradient_at(theta_P) - there.gradient_P).norm())
    moved = MOVED * float(theta_P.norm()) * float(Hv_P.norm()) / float(v_P.norm())
    size = max(float(there.gradient_P.norm()), moved)
    detail = "the gradient that is differentiated is that of the loss as written"
    return _check("as written", apart / size if apart else 0.0, allowed, detail)


def _noise(
    sample: Objective,
    product: Product,
    reference: _Reference,
    probes: Sequence[Tensor],
    second: Check | None,
    floor: float,
) -> tuple[float, str]:
    if reference.double is not None and sample.dtype != torch.float64:
        worst = max(
            _distance(
                product(p).double(), reference.product(p.double()), floor=floor * float(p.norm())
            )
            for p in probes
        )
        return worst, "against float64 on the preflight batch"
    if second is not None and second.passed and second.defect is not None:
        return second.defect, f"against {second.detail.split()[0]} on the preflight batch"
    return 0.0, f"assumed: {LEAST_NOISE} eps"


def _difference_defect(
    objective: Objective, exact_P: Tensor, v_P: Tensor, steps: Sequence[float], floor: float
) -> tuple[float, Tensor]:
    """Distance to central differences at the best step, and the vector of differences there."""
    theta_P = objective.theta()
    size = float(theta_P.norm()) or 1.0
    # Rounding of the gradient over the largest step: less than this of a product is nothing.
    floor /= steps[0]
    best, left_P = float("inf"), torch.zeros_like(v_P)
    for step in steps:
        h = step * size / float(v_P.norm())
        ahead_P, behind_P = (objective.gradient_at(theta_P + s * v_P) for s in (h, -h))
        difference_P = (ahead_P - behind_P) / (2 * h)
        defect = _distance(exact_P, difference_P, floor=floor * float(v_P.norm()))
        if defect < best:
            best, left_P = defect, (exact_P - difference_P).abs()
        if best <= DIFFERENCES_ALLOWED:
            break
    return best, left_P


def _differences_alone(
    sample: Objective,
    exact_P: Tensor,
    v_P: Tensor,
    floor: float,
    problem: str,
    second: Check,
    custom: Sequence[str],
) -> Check:
    """Where nothing else can judge: differences in the model's own dtype, which are coarse."""
    if custom:
        # A term that is missing from one of these may be smaller than what they can see.
        raise PreflightError(
            f"The second derivative of {listed(custom, most=MOST_NAMES)} has to be checked, and "
            f"nothing can judge it: {problem}; {second.detail.rstrip('.')}. Make the model work in "
            "float64, give the function a jvp, or take a plain implementation. Nothing was "
            "computed, for its eigenvalues would mean nothing."
        )
    defect, guilty_P = _difference_defect(sample, exact_P, v_P, STEPS_IN_FLOAT32, floor)
    detail = f"central differences of the gradient in the model's dtype ({problem})"
    check = _check("differences", defect, ROUGHLY_ALLOWED, detail)
    _refuse([check], "Some operation has a wrong second derivative", guilty_P, sample)
    return check


def _second_way(
    objective: Objective, way: str, exact_P: Tensor, v_P: Tensor, *, allowed: float, floor: float
) -> tuple[Check, Tensor | None]:
    name, other = "second way", REVERSE if way in _USE_FORWARD else FORWARD
    try:
        other_P = HessianOperator(objective, way=other).matvec(v_P)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, ValueError, CurvtoolError) as problem:
        # Code of the user among them: dual tensors are new to it.
        reason = first_line(problem, most=200)
        return _unmade(name, allowed, f"{other} is not possible: {reason}"), None
    detail = f"{other} gives the same product"
    defect = _distance(exact_P, other_P, floor=floor * float(v_P.norm()))
    return _check(name, defect, allowed, detail), (exact_P - other_P).abs()


def _rounding(objective: Objective, there: Evaluation) -> float:
    """What of |H v| / |v| may be rounding alone: H is zero where a loss is flat or linear."""
    size = float(objective.theta().norm()) or 1.0
    gradient = float(there.gradient_P.norm())
    eps = torch.finfo(objective.dtype).eps
    return ROUNDING * eps * max(gradient / size, abs(there.loss) / (size * size))


def _distance(a_P: Tensor, b_P: Tensor, *, floor: float = 0.0) -> float:
    """|a - b| / max(|a|, |b|), zero where both are below the floor."""
    larger = max(float(a_P.norm()), float(b_P.norm()))
    apart = float((a_P - b_P).norm())
    if larger <= floor or apart == 0.0:
        return 0.0
    return apart / larger


def _error_of_differences(sample: Objective, v_P: Tensor) -> float:
    index = sample.active[0]
    return estimated_error(sample, index, sample.layout.split(v_P))


def _symmetry_of_differences(reference: _Reference, u_P: Tensor, v_P: Tensor) -> Check:
    """In float64, since a tenth would hide a gradient that is not the loss's own."""
    asymmetry = _asymmetry(u_P, v_P, reference.product(u_P), reference.Hv_P, floor=reference.floor)
    detail = "u'Hv = v'Hu in float64"
    return _check("symmetry", asymmetry, SYMMETRY_OF_DIFFERENCES, detail)


def _asymmetry(u_P: Tensor, v_P: Tensor, Hu_P: Tensor, Hv_P: Tensor, *, floor: float) -> float:
    """|u'Hv - v'Hu| over the size that u'Hv has for independent u and v, |u| |Hv| / sqrt(P)."""
    u, v = float(u_P.norm()), float(v_P.norm())
    typical = max(u * float(Hv_P.norm()), v * float(Hu_P.norm()))
    apart = abs(float(u_P.double() @ Hv_P.double() - v_P.double() @ Hu_P.double()))
    if apart == 0.0 or typical <= floor * u * v:
        return 0.0
    return apart * math.sqrt(len(u_P)) / typical


def _direction(objective: Objective, number: int, *, seed: int) -> Tensor:
    return streams.normal(
        Purpose.PREFLIGHT,
        number,
        seed=seed,
        size=objective.size,
        dtype=objective.dtype,
        device=objective.device,
    )


def _check(name: str, defect: float, allowed: float, detail: str) -> Check:
    return Check(name=name, defect=defect, allowed=allowed, passed=defect <= allowed, detail=detail)


def _unmade(name: str, allowed: float, detail: str) -> Check:
    return Check(name=name, defect=None, allowed=allowed, passed=None, detail=detail)


def _refuse(
    checks: Sequence[Check], cause: str, guilty_P: Tensor | None, objective: Objective
) -> None:
    """Raise on the first check that failed, with the modules where the defect is largest."""
    for check in checks:
        if check.passed is False:
            place = "" if guilty_P is None else f", most of all in {_worst(guilty_P, objective)}"
            raise PreflightError(
                f"The product is not that of a Hessian: check {check.name!r} ({check.detail}) is "
                f"off by {check.defect:.1e}, {check.allowed:.1e} is allowed{place}. {cause}. "
                "Nothing was computed, for its eigenvalues would mean nothing."
            )


def _worst(guilty_P: Tensor, objective: Objective) -> str:
    """Name of the parameter tensor with the largest share of the difference."""
    pieces = objective.layout.split(guilty_P)
    sizes = [float(piece.norm()) for piece in pieces]
    name = objective.layout.names[max(range(len(sizes)), key=sizes.__getitem__)]
    module_name, _, parameter_name = name.rpartition(".")
    modules = dict(objective.module.named_modules())
    kind = type(modules[module_name]).__name__ if module_name in modules else "module"
    return f"{parameter_name!r} of {module_name or 'the model'} ({kind})"
