"""Algorithms under a recorder, which is killed at a boundary and continued."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from curvtool.algorithms.dense import dense
from curvtool.algorithms.density.driver import density, exact_density
from curvtool.algorithms.density.settings import DensitySettings
from curvtool.algorithms.diagonal import stochastic_diagonal
from curvtool.algorithms.diagonal_settings import DiagonalSettings
from curvtool.algorithms.estimation import TraceSettings
from curvtool.algorithms.exact import exact_trace
from curvtool.algorithms.exact_diagonal import dense_diagonal
from curvtool.algorithms.external import scipy_eigsh, scipy_lobpcg
from curvtool.algorithms.hutchinson import hutchinson
from curvtool.algorithms.lanczos import lanczos
from curvtool.algorithms.layers import Layer
from curvtool.algorithms.power import power_iteration
from curvtool.algorithms.settings import EigenSettings
from curvtool.algorithms.sketched import hutch_plus_plus, xtrace
from curvtool.operators.hessian import HessianOperator
from curvtool.operators.recorded import Recorded, RecordedSum
from curvtool.operators.recording import recorder_of
from curvtool.operators.reference import ReferenceHessian, Twin
from curvtool.operators.restricted import RestrictedHessian
from curvtool.operators.workers import Workers
from curvtool.resuming.recorder import JournalRecorder
from curvtool.resuming.saving import Schedule
from curvtool.resuming.stopping import Stopping
from tests.objectives import CASES

NOISE = 1e-12
# Nothing that a run computes, but how long it took.
NOT_RESULTS = {"seconds"}


class Killed(BaseException):
    """SIGKILL, as far as that can be had inside a process: nothing more is saved."""


@dataclass
class Fate:
    """Asked at every boundary whether to leave; ends the run at one of them."""

    after: float
    kill: bool
    boundaries: int = 0

    def __call__(self) -> str | None:
        self.boundaries += 1
        if self.boundaries < self.after:
            return None
        if self.kill:
            raise Killed
        return "SIGTERM"


def recorder(
    folder: Path, *, after: float = float("inf"), kill: bool = False, every: float = 0.0
) -> tuple[JournalRecorder, Fate]:
    """A recorder that leaves at its n-th boundary; replays do not count."""
    fate = Fate(after, kill)
    stopping = Stopping()
    found = JournalRecorder(folder, schedule=Schedule(every), stopping=stopping)
    stopping.reason = fate  # type: ignore[method-assign]
    return found, fate


def hessian(way: str = "retained-graph", *, name: str = "weight-decay") -> HessianOperator:
    """Of seven batches, the last one short."""
    return HessianOperator(CASES[name].objective(3), way=way)


def single() -> HessianOperator:
    """The same in float32, so that `hessian` is its reference."""
    objective = CASES["weight-decay"].objective(3, dtype=torch.float32)
    return HessianOperator(objective)


def with_rest() -> HessianOperator:
    """Three batches are kept, the others rebuilt."""
    return HessianOperator(CASES["tanh"].objective(3), most_kept=3)


def with_workers() -> HessianOperator:
    """Two threads share the batches, an odd one is left to the caller."""
    operator = hessian()
    operator.workers = Workers(2, operator.dtype)
    return operator


def halved() -> HessianOperator:
    """Terms of several batches each."""
    objective = CASES["tanh"].objective(6)
    assert objective.halve_batches()
    return HessianOperator(objective)


def block() -> RestrictedHessian:
    """The rows and columns of two tensors."""
    return RestrictedHessian(with_rest(), [0, 2])


def in_float32() -> HessianOperator:
    """Products in float32, which those in float64 are held against."""
    return HessianOperator(CASES["tanh"].objective(3, dtype=torch.float32), way="retained-graph")


def against_float64(operator: Any, settings: EigenSettings) -> Any:
    """A solve whose reference stands under the recorder of its operator."""
    recorder = recorder_of(operator)
    whole = operator.inner if recorder is not None else operator
    twin = Twin(whole.objective, way="retained-graph", room=2**30)
    reference: Any = ReferenceHessian(twin)
    if recorder is not None:
        reference.recorder = recorder
        reference = Recorded(reference, recorder, "float64: ")
    return lanczos(operator, _changed(settings, reference=reference))


LAYERS = (Layer("a", ((0, 10),)), Layer("b", ((10, 5), (20, 3))))
EIGEN = EigenSettings(k=3, basis=18, tol=1e-8, noise=NOISE, vectors=True)
TRACE = TraceSettings(rel_err=0.05, max_hvps=60, noise=NOISE, layers=LAYERS)
SKETCH = TraceSettings(rel_err=1e-4, max_hvps=40, noise=NOISE, most_vectors=16)
DIAGONAL = DiagonalSettings(rel_err=0.3, max_hvps=24, noise=NOISE, layers=LAYERS)
DENSITY = DensitySettings(steps=7, probes=3, deflate=3, noise=NOISE)


def directions(operator: Any) -> torch.Tensor:
    """Two rows to deflate by."""
    generator = torch.Generator().manual_seed(9)
    return torch.randn(2, operator.size, generator=generator, dtype=operator.dtype)


def _changed(settings: Any, **changes: Any) -> Any:
    return type(settings)(**{f.name: getattr(settings, f.name) for f in fields(settings)} | changes)


Case = tuple[Callable[[], Any], Callable[[Any], Any]]
RUNS: dict[str, Case] = {
    "lanczos": (hessian, lambda A: lanczos(A, EIGEN)),
    "lanczos-rest": (with_rest, lambda A: lanczos(A, EIGEN)),
    "lanczos-workers": (with_workers, lambda A: lanczos(A, EIGEN)),
    "lanczos-block": (block, lambda A: lanczos(A, EIGEN)),
    "lanczos-float64": (in_float32, lambda A: against_float64(A, _changed(EIGEN, tol=1e-4))),
    "lanczos-sketch": (
        in_float32,
        lambda A: against_float64(
            A, _changed(EIGEN, k=6, basis=22, tol=1e-6, which="BE", complete=True)
        ),
    ),
    "power": (
        hessian,
        lambda A: power_iteration(A, _changed(EIGEN, k=2, tol=1e-3, max_hvps=40)),
    ),
    "eigsh": (hessian, lambda A: scipy_eigsh(A, EIGEN)),
    "lobpcg": (hessian, lambda A: scipy_lobpcg(A, _changed(EIGEN, which="LA", tol=1e-3))),
    "dense": (hessian, lambda A: dense(A, EIGEN)),
    "trace": (hessian, lambda A: hutchinson(A, TRACE)),
    "trace-halved": (
        halved,
        lambda A: hutchinson(A, _changed(TRACE, sharing="per-batch", lanczos=False)),
    ),
    "trace-shared": (
        with_rest,
        lambda A: hutchinson(A, _changed(TRACE, sharing="shared", frobenius=True)),
    ),
    "trace-deflated": (hessian, lambda A: hutchinson(A, TRACE, vectors=directions(A))),
    "trace-exact": (hessian, lambda A: exact_trace(A, TRACE)),
    "hutch++": (hessian, lambda A: hutch_plus_plus(A, _changed(SKETCH, layers=()))),
    "xtrace": (hessian, lambda A: xtrace(A, _changed(SKETCH, layers=()))),
    "density": (hessian, lambda A: density(A, DENSITY)),
    "density-without-basis": (
        with_rest,
        lambda A: density(A, _changed(DENSITY, reorthogonalize=False)),
    ),
    "density-exact": (hessian, lambda A: exact_density(A, DENSITY)),
    "diag": (hessian, lambda A: stochastic_diagonal(A, DIAGONAL)),
    "diag-shared": (
        with_workers,
        lambda A: stochastic_diagonal(A, _changed(DIAGONAL, sharing="shared")),
    ),
    "diag-deflated": (
        hessian,
        lambda A: stochastic_diagonal(A, DIAGONAL, vectors=directions(A)),
    ),
    "diag-krylov": (
        hessian,
        lambda A: stochastic_diagonal(
            A, _changed(DIAGONAL, rel_err=None, max_hvps=60, most_vectors=12)
        ),
    ),
    "diag-float64": (
        single,
        lambda A: stochastic_diagonal(A, _changed(DIAGONAL, reference=hessian())),
    ),
    "trace-float64": (
        single,
        lambda A: hutchinson(A, _changed(TRACE, frobenius=True, reference=hessian())),
    ),
    "trace-exact-float64": (single, lambda A: exact_trace(A, _changed(TRACE, reference=hessian()))),
    "diag-exact": (hessian, lambda A: dense_diagonal(A, DIAGONAL)),
}


def attached(operator: Any, found: JournalRecorder) -> Any:
    """The operator under the recorder."""
    if isinstance(operator, RestrictedHessian):
        operator.whole.recorder = found
        return Recorded(operator, found, "block: ")
    operator.recorder = found
    return RecordedSum(operator, found)


def result(record: Any) -> dict[str, Any]:
    """What a run found, in a form that `==` compares bit by bit."""

    def plain(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            value = value.numpy()
        if isinstance(value, np.ndarray):
            return (value.dtype.str, value.shape, value.tobytes())
        if isinstance(value, dict):
            return {n: plain(item) for n, item in value.items() if n not in NOT_RESULTS}
        return repr(value)

    return {
        f.name: plain(getattr(record, f.name)) for f in fields(record) if f.name not in NOT_RESULTS
    }
