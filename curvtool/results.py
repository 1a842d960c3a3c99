"""What a run found: frozen records that know no network, no file and no terminal.

Nothing here needs torch, so that a stored run can be shown where torch is not installed.
Letters: k pairs, P parameters.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


class Outcome(enum.Enum):
    """How a solve ended: the value goes to the run file, `sentence` to the report."""

    CONVERGED = "converged"
    MAX_HVPS = "max_hvps"
    STAGNATED = "stagnated"
    INCOMPLETE = "incomplete"
    INTERRUPTED = "interrupted"

    @property
    def sentence(self) -> str:
        """The sentence a reader of the report sees."""
        return _SENTENCES[self]


_SENTENCES = {
    Outcome.CONVERGED: "all requested pairs met the tolerance",
    Outcome.MAX_HVPS: "stopped at the limit of products before every pair met the tolerance",
    Outcome.STAGNATED: "stopped because more products no longer brought the pairs closer",
    Outcome.INCOMPLETE: (
        "every pair met the tolerance, but a probe found a wanted eigenvalue that is not among them"
    ),
    Outcome.INTERRUPTED: "interrupted before every pair met the tolerance",
}


class Completeness(enum.Enum):
    """What is known about eigenvalues that the listed ones might hide."""

    EXHAUSTIVE = "exhaustive"
    PROBED = "probed"
    MISSING = "missing"
    NOT_PROBED = "not_probed"

    @property
    def sentence(self) -> str:
        """The sentence a reader of the report sees."""
        return {
            Completeness.EXHAUSTIVE: "complete: every eigenvalue of H was computed",
            Completeness.PROBED: "completeness probed: a fresh random start found none missing",
            Completeness.MISSING: "incomplete: a fresh random start found a further eigenvalue",
            Completeness.NOT_PROBED: "completeness not probed: an eigenvalue may be missing",
        }[self]


class Certification(enum.Enum):
    """How the residuals were held against fresh products of the operator."""

    COMBINATIONS = "combinations"
    FULL = "full"
    NONE = "none"

    @property
    def sentence(self) -> str:
        """The sentence a reader of the report sees."""
        return {
            Certification.COMBINATIONS: "residuals certified by fresh products of mixtures (99 %)",
            Certification.FULL: "residuals certified by a fresh product for every pair",
            Certification.NONE: "residuals not certified",
        }[self]


@dataclass(frozen=True, kw_only=True, eq=False)
class EigenPairs:
    """Eigenvalues of a symmetric operator with what is known about their errors.

    Attributes:
        eigenvalues: shape (k,); decreasing magnitude for LM, decreasing for LA and BE,
            increasing for SA.
        residual_norms: shape (k,), absolute: |H y - theta y|_2 of each unit vector y, with the
            certified defect and the noise of the product included.
        eigenvalue_errors: shape (k,), absolute: an eigenvalue of H lies within this distance.
        converged: shape (k,), whether the pair met the tolerance.
        eigenvectors: shape (k, P), rows of unit length, or None when not asked for. A torch
            tensor on the operator's device, or a numpy array when read from a file.
        hvps: products of the whole operator, certification and probes included.
        hvps_by_stage: the same, by what they were spent on (`solve`, `certify`, `probe`).
        noise: delta, the relative error of one product.
        history: named series over the solve, all of one length per solve.
    """

    eigenvalues: FloatArray
    residual_norms: FloatArray
    eigenvalue_errors: FloatArray
    converged: NDArray[np.bool_]
    outcome: Outcome
    completeness: Completeness
    certification: Certification
    which: str
    method: str
    tol: float
    accuracy: str
    hvps: int
    hvps_by_stage: Mapping[str, int]
    seconds: float
    noise: float
    history: Mapping[str, FloatArray] = field(default_factory=dict)
    eigenvectors: Any = None


@dataclass(frozen=True, kw_only=True)
class ParameterEntry:
    """One parameter tensor inside the flat vector: elements offset .. offset + size."""

    name: str
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True, kw_only=True)
class ProblemSummary:
    """What was differentiated, and its value at the checkpoint.

    Attributes:
        checkpoint: path as the user gave it.
        model: e.g. `cnn` or `models.py:build`.
        data: e.g. `npz:digits.npz`.
        loss: e.g. `cross_entropy`.
        num_parameters: P, the size of the flat vector.
        num_examples: examples in the mean.
        num_batches: batches they came in.
        total_weight: denominator of the dataset mean (examples, tokens, ...).
        loss_value: the dataset mean at the checkpoint.
        gradient_norm: 2-norm of its gradient.
        accuracy: share of right predictions in 0..1, None where the loss has no classes.
        notes: sentences the reader must know (attention on the math kernel, frozen tensors, ...).
    """

    checkpoint: str
    model: str
    data: str
    loss: str
    num_parameters: int
    num_examples: int
    num_batches: int
    total_weight: float
    loss_value: float
    gradient_norm: float
    accuracy: float | None = None
    weight_decay: float = 0.0
    train_mode: bool = False
    notes: Sequence[str] = ()


class Verdict(enum.Enum):
    """What became of a way to make products that was tried."""

    CHOSEN = "chosen"
    RIGHT = "right"
    INEXACT = "inexact"
    WRONG = "wrong"
    REFUSED = "refused"
    NOT_TRIED = "not_tried"

    @property
    def sentence(self) -> str:
        """The sentence a reader of the report sees."""
        return {
            Verdict.CHOSEN: "the fastest right way here",
            Verdict.RIGHT: "right",
            Verdict.INEXACT: "right to a few digits: differences depend on their step",
            Verdict.WRONG: "wrong: the product is not that of the Hessian",
            Verdict.REFUSED: "torch refuses it for this model",
            Verdict.NOT_TRIED: "not tried: it cannot pay for itself here",
        }[self]


@dataclass(frozen=True, kw_only=True)
class WayTrial:
    """One way to make products, as it went for this model on this machine.

    Attributes:
        way: its name, e.g. `retained-graph`.
        verdict: what became of it.
        exact: whether it differentiates; False for differences of the gradient.
        seconds: median of one product over the batches tried, what is kept being there already;
            None where it did not run.
        spread: half the distance between the quartiles of `seconds`, relative.
        setup_seconds: what it takes once: graphs, traces, compilation.
        gradients: `seconds` over those of one gradient of the same batches.
        bytes_kept: memory between products.
        bytes_peak: the most that a product took above what was there before, kept bytes included.
        error: |H v - w| / |w| with w the product in float64; None where there is none.
        detail: a sentence: why it did not run, or what it cannot do.
    """

    way: str
    verdict: Verdict
    exact: bool = True
    seconds: float | None = None
    spread: float | None = None
    setup_seconds: float | None = None
    gradients: float | None = None
    bytes_kept: int | None = None
    bytes_peak: int | None = None
    error: float | None = None
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What the planner expects of a solve, from products of one batch.

    Attributes:
        products: products that it reckons with: a guess, since the spectrum decides.
        seconds_per_product: over the whole dataset.
        seconds: of the whole solve, graphs and compilation included.
        bytes: most memory at any time beyond model, data and libraries.
    """

    products: int
    seconds_per_product: float
    seconds: float
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How the products are made, why so, and what was foreseen of their cost.

    Attributes:
        way: name of the HVP way, e.g. `retained-graph`.
        device: e.g. `cpu` or `cuda:0`.
        dtype: of parameters and vectors, e.g. `float32`.
        batches_kept: batches whose graph stays in memory between products.
        num_batches: batches in all.
        bytes_kept: memory of the kept graphs.
        bytes_basis: memory of the Krylov basis.
        memory_limit: bytes that `--memory` (or the default) allows in all.
        seconds_per_product: measured over the solve; None where nothing was solved.
        way_of_rest: how batches that are not kept are multiplied; empty where all are.
        reason: a sentence: why this way.
        forecast: what was expected, None where nothing was planned.
        trials: what was measured to choose.
        planning_seconds: what that took.
        adjustments: sentences: what was given up when memory ran out.
    """

    way: str
    device: str
    dtype: str
    batches_kept: int
    num_batches: int
    bytes_kept: int
    bytes_basis: int
    memory_limit: int
    seconds_per_product: float | None
    way_of_rest: str = ""
    reason: str = ""
    forecast: Forecast | None = None
    trials: Sequence[WayTrial] = ()
    planning_seconds: float = 0.0
    adjustments: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Check:
    """One preflight check: a measured defect against what is allowed.

    Attributes:
        name: e.g. `symmetry`.
        defect: relative; None where the check could not be made.
        allowed: the defect may not exceed it.
        passed: whether it did not. None where the check could not be made.
        detail: a sentence: what was compared with what, or why it could not be.
    """

    name: str
    defect: float | None
    allowed: float
    passed: bool | None
    detail: str


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """The checks before the solve. `noise` is delta, the relative error of one product."""

    checks: Sequence[Check]
    noise: float
    noise_source: str
    seconds: float


@dataclass(frozen=True, kw_only=True, eq=False)
class SpectrumRun:
    """A whole `spectrum` run: all that the run file holds and the report shows."""

    pairs: EigenPairs
    problem: ProblemSummary
    plan: Plan
    preflight: Preflight
    parameters: Sequence[ParameterEntry]
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    seconds: float
    version: str
    created: str


@dataclass(frozen=True, kw_only=True, eq=False)
class CheckRun:
    """What `check` shows: the problem, whether its product is right, and the plan of a solve."""

    problem: ProblemSummary
    plan: Plan
    preflight: Preflight
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    seconds: float
    version: str
    created: str


@dataclass(frozen=True, kw_only=True, eq=False)
class BenchRun:
    """A whole `bench` run: every way to make a product, on this model and machine.

    Attributes:
        trials: one for each way, in the order of `--help`.
        gradient_seconds: median of one gradient of the batches that were timed.
        batches_timed: of `problem.num_batches`; seconds are those of so many.
        rounds: interleaved repetitions that the medians are of.
        threads: that torch computed with.
        device: e.g. `cpu` or `cuda:0`.
        dtype: of parameters and vectors.
        outcome: how the comparison ended.
    """

    problem: ProblemSummary
    trials: Sequence[WayTrial]
    gradient_seconds: float
    batches_timed: int
    rounds: int
    threads: int
    device: str
    dtype: str
    outcome: Outcome
    preflight: Preflight
    parameters: Sequence[ParameterEntry]
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    seconds: float
    version: str
    created: str
