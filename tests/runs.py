"""Realistic runs for the tests of storage, report and command line; drawn from a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curvtool.results import (
    BenchRun,
    Certification,
    Check,
    CheckRun,
    Completeness,
    EigenPairs,
    EndProof,
    Forecast,
    Outcome,
    ParameterEntry,
    Plan,
    Preflight,
    ProblemSummary,
    SpectrumRun,
    Verdict,
    WayTrial,
)

NOISE = 2.4e-7


def spectrum(k: int, seed: int = 0, negative: float = 0.15) -> NDArray[np.float64]:
    """k eigenvalues as trained networks have them: few large, a bulk, some negative; LM order."""
    rng = np.random.default_rng(seed)
    magnitudes = np.sort(12.8 * rng.power(0.9, k) * (1 + np.arange(k)) ** -0.4)[::-1]
    signs = np.where((rng.random(k) < negative) & (np.arange(k) > 1), -1.0, 1.0)
    return magnitudes * signs


def pairs(
    values: Sequence[float] | NDArray[np.float64],
    *,
    errors: Sequence[float] | NDArray[np.float64] | None = None,
    unconverged: Sequence[int] = (),
    at_floor: Sequence[int] = (),
    outcome: Outcome | None = None,
    completeness: Completeness | None = None,
    which: str = "LM",
    eigenvectors: Any = None,
    seed: int = 0,
) -> EigenPairs:
    """Pairs around given eigenvalues; bounds of converged ones are small, of others large.

    All of `unconverged` and `at_floor` missed the tolerance. Without one that is open the list is
    proved complete.
    """
    rng = np.random.default_rng(seed)
    theta = np.asarray(values, dtype=np.float64)
    top = float(np.max(np.abs(theta), initial=0.0))
    converged = np.ones(len(theta), dtype=np.bool_)
    converged[[*unconverged, *at_floor]] = False
    stopped = np.zeros(len(theta), dtype=np.bool_)
    stopped[list(at_floor)] = True
    closed = bool((converged | stopped).all())
    ended = Outcome.MAX_HVPS
    if closed:
        ended = Outcome.FLOOR if stopped.any() else Outcome.CONVERGED
    residuals = np.where(converged, 1e-3, 4e-2) * top * rng.uniform(0.1, 1, len(theta))
    if errors is None:
        errors = residuals**2 / max(top, 1e-300) * rng.uniform(1, 40, len(theta)) + NOISE * top
    return EigenPairs(
        eigenvalues=theta,
        residual_norms=residuals,
        eigenvalue_errors=np.asarray(errors, dtype=np.float64),
        converged=converged,
        at_floor=stopped,
        outcome=outcome or ended,
        completeness=completeness or proved(theta, which, all_of_it=closed),
        certification=Certification.SKETCH,
        which=which,
        method="thick-restart Lanczos",
        tol=1e-4,
        accuracy="values",
        hvps=214,
        hvps_by_stage={"solve": 194, "certify": 8, "probe": 12},
        seconds=99.8,
        noise=NOISE,
        history={
            "hvps": np.arange(1.0, 9.0) * 25,
            "largest": top * (1 - 0.5 ** np.arange(8.0)),
        },
        eigenvectors=eigenvectors,
    )


def proved(
    values: NDArray[np.float64], which: str = "LM", *, all_of_it: bool = True
) -> Completeness:
    """What a probe proves of a list: all of it, or all but three values of each end."""

    def end(listed: int, beyond: float) -> EndProof:
        rank = listed if all_of_it else max(listed - 3, 0)
        return EndProof(
            listed=listed,
            proved_rank=rank,
            nothing_beyond=beyond,
            unseen=2e-5 if all_of_it else 6.4e-3,
        )

    above = int(np.count_nonzero(values > 0))
    numbers = {
        "LM": (above, len(values) - above),
        "BE": (-(-len(values) // 2), len(values) // 2),
    }
    upper, lower = numbers.get(which, (len(values), len(values)))
    return Completeness(
        complete=all_of_it,
        probability=0.999 if which in numbers else 0.9995,
        upper=None if which == "SA" else end(upper, 0.071_94),
        lower=None if which == "LA" else end(lower, -0.023_41),
        margin=1e-4,
        least_margin=1.2e-5,
        products=12,
    )


def problem(**changes: Any) -> ProblemSummary:
    """A classifier on images."""
    facts: dict[str, Any] = {
        "checkpoint": "runs/cifar10/resnet18-sgd-lr0.1/epoch_090.pt",
        "model": "torchvision:resnet18",
        "data": "torchvision:CIFAR10",
        "loss": "cross_entropy",
        "num_parameters": 11_173_962,
        "num_examples": 50_000,
        "num_batches": 98,
        "total_weight": 50_000.0,
        "loss_value": 0.021_314_2,
        "gradient_norm": 0.041_173,
        "accuracy": 0.993_06,
    }
    return ProblemSummary(**facts | changes)


def preflight(*extra: Check) -> Preflight:
    """Four checks that passed, and `extra` ones."""
    return Preflight(
        checks=(
            Check(
                name="determinism",
                defect=0.0,
                allowed=1.2e-6,
                passed=True,
                detail="two passes over one batch give the same loss and gradient",
            ),
            Check(
                name="symmetry",
                defect=3.1e-7,
                allowed=1e-5,
                passed=True,
                detail="u'Hv against v'Hu",
            ),
            Check(
                name="second way",
                defect=2.2e-7,
                allowed=1e-4,
                passed=True,
                detail="retained-graph against forward-over-reverse",
            ),
            Check(
                name="differences",
                defect=6.3e-8,
                allowed=1e-4,
                passed=True,
                detail="central differences in float64 at relative step 1e-6",
            ),
            *extra,
        ),
        noise=NOISE,
        noise_source="against float64 on the preflight batch",
        seconds=3.4,
    )


def plan(**changes: Any) -> Plan:
    """Some batches kept, the rest rebuilt."""
    facts: dict[str, Any] = {
        "way": "retained-graph",
        "device": "cuda:0",
        "dtype": "float32",
        "batches_kept": 61,
        "num_batches": 98,
        "bytes_kept": 5_712_306_176,
        "bytes_basis": 2_681_750_880,
        "memory_limit": 8 * 2**30,
        "seconds_per_product": 0.4664,
    }
    return Plan(**facts | changes)


PARAMETERS = (
    ParameterEntry(name="conv1.weight", shape=(4, 3, 3, 3), offset=0, size=108),
    ParameterEntry(name="scale", shape=(), offset=108, size=1),
    ParameterEntry(name="fc.bias", shape=(10,), offset=109, size=10),
)


def run(found: EigenPairs | None = None, **changes: Any) -> SpectrumRun:
    """A whole run; `changes` replace its parts."""
    config: Mapping[str, Any] = {"operator": "hessian", "top_k": 20, "seed": 0, "params": None}
    parts: dict[str, Any] = {
        "pairs": found or pairs(spectrum(20)),
        "problem": problem(),
        "plan": plan(),
        "preflight": preflight(),
        "parameters": PARAMETERS,
        "config": config,
        "environment": {"torch": "2.14.1", "checkpoint_sha256": "5f" * 32},
        "seconds": 112.4,
        "version": "0.1.0",
        "created": "2026-01-31T12:00:00Z",
    }
    return SpectrumRun(**parts | changes)


def trial(way: str = "retained-graph", **changes: Any) -> WayTrial:
    """A way that ran and is right."""
    facts: dict[str, Any] = {
        "way": way,
        "verdict": Verdict.RIGHT,
        "seconds": 0.0437,
        "spread": 0.03,
        "setup_seconds": 0.06,
        "gradients": 1.57,
        "bytes_kept": 59_700_000,
        "bytes_peak": 84_300_000,
        "error": 5.1e-7,
    }
    return WayTrial(**facts | changes)


TRIALS = (
    trial(),
    trial("compiled", verdict=Verdict.CHOSEN, seconds=0.0328, gradients=1.18, setup_seconds=36.2),
    trial("reverse-over-forward", verdict=Verdict.WRONG, gradients=3.2, error=7e-2),
    trial(
        "finite-difference",
        verdict=Verdict.INEXACT,
        exact=False,
        seconds=0.0561,
        gradients=2.01,
        error=2.4e-4,
    ),
    WayTrial(way="linearized", verdict=Verdict.REFUSED, detail="NotImplementedError: no rule"),
)
FORECAST = Forecast(products=221, seconds_per_product=0.45, seconds=103.0, bytes=9_123_456_789)


def bench_run(*trials: WayTrial, **changes: Any) -> BenchRun:
    """A whole comparison of ways."""
    parts: dict[str, Any] = {
        "problem": problem(),
        "trials": trials or TRIALS,
        "gradient_seconds": 0.0279,
        "batches_timed": 1,
        "rounds": 7,
        "threads": 2,
        "device": "cpu",
        "dtype": "float32",
        "outcome": Outcome.CONVERGED,
        "preflight": preflight(),
        "parameters": PARAMETERS,
        "config": {"operator": "hessian", "rounds": 7},
        "environment": {"torch": "2.14.1"},
        "seconds": 61.3,
        "version": "0.1.0",
        "created": "2026-01-31T12:00:00Z",
    }
    return BenchRun(**parts | changes)


def check_run(**changes: Any) -> CheckRun:
    """A whole check, its solve planned."""
    parts: dict[str, Any] = {
        "problem": problem(),
        "plan": plan(
            seconds_per_product=None,
            reason="1.27 times as fast as retained-graph on the first batch",
            forecast=FORECAST,
            trials=TRIALS,
            way_of_rest="reverse-over-reverse",
        ),
        "preflight": preflight(),
        "config": {"operator": "hessian", "top_k": 20},
        "environment": {"torch": "2.14.1"},
        "seconds": 4.2,
        "version": "0.1.0",
        "created": "2026-01-31T12:00:00Z",
    }
    return CheckRun(**parts | changes)
