"""What a sweep over the checkpoints of one training found. Letters: k pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curvtool.results.outcome import FloatArray, Outcome, gravest
from curvtool.results.problem import ProblemSummary


def _none() -> FloatArray:
    return np.zeros(0)


def _no_flags() -> NDArray[np.bool_]:
    return np.zeros(0, dtype=np.bool_)


@dataclass(frozen=True, kw_only=True, eq=False)
class Tracked:
    """One checkpoint of a sweep.

    Attributes:
        name: short, that of its run file.
        checkpoint: path as the user gave it.
        file: name of the run file, in the folder of the summary.
        outcome: of its run; FAILED where there is none, INTERRUPTED where its turn has not come.
        message: why it failed.
        loss: the dataset mean at the checkpoint; NaN where there is no run, as below.
        gradient_norm: 2-norm of its gradient.
        hvps: products of its run.
        seconds: of its run.
        eigenvalues: shape (k,), empty where there is no run.
        eigenvalue_errors: shape (k,), absolute bounds.
        converged: shape (k,), whether the pair met the tolerance.
        at_floor: shape (k,), whether the floor of the arithmetic stopped it before.
        complete: whether the list is proved complete.
        proved_rank: values of the list that are proved.
        started_from: name of the checkpoint whose eigenvectors the solve began with; empty for a
            random start.
        compared_with: name of the checkpoint before, whose subspace was compared; empty for none.
        cosines: of the principal angles between the two subspaces, decreasing.
    """

    name: str
    checkpoint: str
    file: str
    outcome: Outcome
    message: str = ""
    loss: float = np.nan
    gradient_norm: float = np.nan
    hvps: int = 0
    seconds: float = 0.0
    eigenvalues: FloatArray = field(default_factory=_none)
    eigenvalue_errors: FloatArray = field(default_factory=_none)
    converged: NDArray[np.bool_] = field(default_factory=_no_flags)
    at_floor: NDArray[np.bool_] = field(default_factory=_no_flags)
    complete: bool = False
    proved_rank: int = 0
    started_from: str = ""
    compared_with: str = ""
    cosines: FloatArray = field(default_factory=_none)

    @property
    def overlap(self) -> float:
        """Mean squared cosine; NaN where nothing was compared."""
        return float(np.mean(self.cosines**2)) if len(self.cosines) else float("nan")


@dataclass(frozen=True, kw_only=True, eq=False)
class TrackRun:
    """A whole sweep: the summary of its runs.

    Attributes:
        rows: the checkpoints, in their order.
        problem: of the last run; None where there is none.
        which: end of the spectrum.
        tol: relative tolerance.
        accuracy: what it bounds.
        config: of all runs; the checkpoint is empty.
        environment: of the last run, without what belongs to its checkpoint.
    """

    rows: Sequence[Tracked]
    problem: ProblemSummary | None
    which: str
    tol: float
    accuracy: str
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    version: str
    created: str

    @property
    def outcome(self) -> Outcome:
        """The gravest of all."""
        return gravest(row.outcome for row in self.rows)

    @property
    def hvps(self) -> int:
        """Products of all runs."""
        return sum(row.hvps for row in self.rows)

    @property
    def seconds(self) -> float:
        """Of all runs together, whoever made them."""
        return sum(row.seconds for row in self.rows)
