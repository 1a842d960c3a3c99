"""Summaries of sweeps for the tests of storage, report and command line."""

from __future__ import annotations

from typing import Any

import numpy as np

from curvtool.results import Outcome, Tracked, TrackRun
from tests import runs


def row(name: str = "step_100", **changes: Any) -> Tracked:
    """A checkpoint that was analysed."""
    parts: dict[str, Any] = {
        "name": name,
        "checkpoint": f"run/{name}.pt",
        "file": f"{name}.spectrum.h5",
        "outcome": Outcome.CONVERGED,
        "loss": 0.2394,
        "gradient_norm": 0.05,
        "hvps": 31,
        "seconds": 12.5,
        "eigenvalues": np.array([12.8034, 9.12, -0.51]),
        "eigenvalue_errors": np.array([2e-4, 3e-2, 1e-3]),
        "converged": np.array([True, True, True]),
        "at_floor": np.array([False, False, False]),
        "complete": True,
        "proved_rank": 3,
    }
    return Tracked(**parts | changes)


LATER = row(
    "step_200",
    started_from="step_100",
    compared_with="step_100",
    cosines=np.array([0.99, 0.9, 0.5]),
    hvps=24,
)
FAILED = Tracked(
    name="step_300",
    checkpoint="run/step_300.pt",
    file="step_300.spectrum.h5",
    outcome=Outcome.FAILED,
    message="run/step_300.pt: expected a checkpoint; it is cut short.",
)
TO_COME = Tracked(
    name="step_400",
    checkpoint="run/step_400.pt",
    file="step_400.spectrum.h5",
    outcome=Outcome.INTERRUPTED,
)


def sweep(*rows: Tracked, **changes: Any) -> TrackRun:
    """A whole sweep."""
    parts: dict[str, Any] = {
        "rows": rows or (row(), LATER),
        "problem": runs.problem(checkpoint=""),
        "which": "LM",
        "tol": 1e-3,
        "accuracy": "vectors",
        "config": {"operator": "hessian", "top_k": 3, "problem": {"checkpoint": ""}},
        "environment": {"torch": "2.14.1"},
        "version": "0.1.0",
        "created": "2026-01-31T12:00:00Z",
    }
    return TrackRun(**parts | changes)
