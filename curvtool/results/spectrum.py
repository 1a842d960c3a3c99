"""Eigenpairs, and a run that found them. Letters: k pairs, P parameters."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curvtool.results.outcome import FloatArray, Outcome
from curvtool.results.problem import ParameterEntry, ProblemSummary
from curvtool.results.product import Plan, Preflight


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
