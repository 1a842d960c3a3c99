"""How products are made: ways that were tried, the plan, the checks."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace


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
        seconds_per_product: over the whole dataset, with what the solver does beside it.
        seconds: of the whole solve, graphs and compilation included.
        bytes: most memory at any time beyond model, data and libraries.
    """

    products: int
    seconds_per_product: float
    seconds: float
    bytes: int

    def with_beside(self, seconds: float) -> Forecast:
        """The forecast of a solver that takes so many seconds beside every product."""
        return replace(
            self,
            seconds_per_product=self.seconds_per_product + seconds,
            seconds=self.seconds + seconds * self.products,
        )


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
        ranks: processes that computed together.
        bytes_moved: of vectors, through every rank in a product.
        waiting: seconds of the run that rank 0 spent exchanging numbers, and waiting for others.
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
    ranks: int = 1
    bytes_moved: float = 0.0
    waiting: float = 0.0


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
    """The checks before the solve.

    Attributes:
        checks: each with its defect.
        noise: delta, the relative error of one product, on the examples of the checks.
        noise_source: how that was measured.
        seconds: what the checks took.
        doubt: how far the products' matrix may be from H, absolute, as far as the checks leave that
            open: where a derivative is a user's word, a custom autograd function's.
    """

    checks: Sequence[Check]
    noise: float
    noise_source: str
    seconds: float
    doubt: float = 0.0
