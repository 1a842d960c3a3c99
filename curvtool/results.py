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


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How the products were made, and what was foreseen of their cost.

    Attributes:
        way: name of the HVP way, e.g. `retained-graph`.
        device: e.g. `cpu` or `cuda:0`.
        dtype: of parameters and vectors, e.g. `float32`.
        batches_kept: batches whose graph stays in memory between products.
        num_batches: batches in all.
        bytes_kept: memory of the kept graphs.
        bytes_basis: memory of the Krylov basis.
        memory_limit: bytes that `--memory` (or the default) allows in all.
        seconds_per_product: measured.
    """

    way: str
    device: str
    dtype: str
    batches_kept: int
    num_batches: int
    bytes_kept: int
    bytes_basis: int
    memory_limit: int
    seconds_per_product: float


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
