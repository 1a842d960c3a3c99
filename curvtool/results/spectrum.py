"""Eigenpairs, and a run that found them. Letters: k pairs, P parameters."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curvtool.results.completeness import Completeness
from curvtool.results.outcome import FloatArray, Outcome
from curvtool.results.problem import ParameterEntry, ProblemSummary
from curvtool.results.product import Plan, Preflight


class Certification(enum.Enum):
    """How the listed pairs were held against fresh products of the operator."""

    MATRIX = "matrix"
    BLOCK = "block"
    SKETCH = "sketch"
    SKETCH_AND_PAIRS = "sketch_and_pairs"
    OWN_PRODUCTS = "own_products"
    NONE = "none"
    # Of files of schema 1.
    COMBINATIONS = "combinations"
    FULL = "full"

    @property
    def sentence(self) -> str:
        """The sentence a reader of the report sees."""
        return {
            Certification.MATRIX: "bounds from the whole matrix, made of float64 products",
            Certification.BLOCK: "values and bounds from a float64 product of every pair",
            Certification.SKETCH: (
                "bounds from float64 products of random combinations (99.9 % for each value)"
            ),
            Certification.SKETCH_AND_PAIRS: (
                "bounds from float64 products of random combinations (99.9 % for each value), and "
                "of each pair that these left open"
            ),
            Certification.OWN_PRODUCTS: (
                "bounds of the matrix that the products apply; no float64 product could be made"
            ),
            Certification.NONE: "residuals not certified",
            Certification.COMBINATIONS: "residuals certified by products of mixtures (99 %)",
            Certification.FULL: "residuals certified by a product for every pair",
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
        at_floor: shape (k,), whether the pair missed it and stopped at the floor of the
            arithmetic: more products of this dtype bring it no closer.
        eigenvectors: shape (k, P), rows of unit length, or None when not asked for. A torch
            tensor on the operator's device, or a numpy array when read from a file.
        hvps: products of the whole operator, certification in float64 and probes included.
        hvps_by_stage: the same, by what they were spent on (`solve`, `certify`, `probe`).
        noise: delta, the relative error of one product, measured along the pairs found.
        history: named series over the solve, all of one length per solve.
    """

    eigenvalues: FloatArray
    residual_norms: FloatArray
    eigenvalue_errors: FloatArray
    converged: NDArray[np.bool_]
    at_floor: NDArray[np.bool_]
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
