"""Ways tried on the first batch: seconds, bytes, and whether they give the same product."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch

from curvtool.errors import CurvtoolError
from curvtool.operators.measure import interleaved, median, memory_use, seconds, spread
from curvtool.operators.memory import is_shortage
from curvtool.operators.ways.base import Pieces, Way
from curvtool.problem.objective import Objective
from curvtool.random_vectors import streams
from curvtool.random_vectors.purposes import Purpose
from curvtool.results import Verdict, WayTrial

# Two right ways differ by rounding: some ten sums of some thousand terms.
ROUNDINGS = 1e4


@final
@dataclass(eq=False)
class Trial:
    """A way on one batch.

    Attributes:
        way: that was tried.
        work: makes the product once more.
        found: the product.
        setup: seconds that it took once, to build what is kept and to run for the first time.
        bytes_kept: that stay between products.
        bytes_peak: that a product takes while it is made, beyond what is kept.
        times: seconds of products.
    """

    way: Way
    work: Callable[[], Pieces]
    found: Pieces
    setup: float
    bytes_kept: int
    bytes_peak: int
    times: list[float]

    @property
    def seconds(self) -> float:
        """Of one product of the batch."""
        return median(self.times)

    def record(self, verdict: Verdict, *, error: float | None, gradient: float) -> WayTrial:
        """For the report; `gradient` in seconds."""
        return WayTrial(
            way=self.way.name,
            verdict=verdict,
            exact=self.way.exact,
            seconds=self.seconds,
            spread=spread(self.times),
            setup_seconds=self.setup,
            gradients=self.seconds / gradient if gradient else None,
            bytes_kept=self.bytes_kept,
            bytes_peak=self.bytes_kept + self.bytes_peak,
            error=error,
        )


@final
class FirstBatch:
    """A batch of an objective to try ways on, with a random vector."""

    def __init__(self, objective: Objective, *, seed: int, index: int | None = None) -> None:
        self.objective = objective
        self.index = objective.active[0] if index is None else index
        self.v_P = streams.normal(
            Purpose.TIMING,
            seed=seed,
            size=objective.size,
            dtype=objective.dtype,
            device=objective.device,
        )
        self.v = objective.layout.split(self.v_P)

    def tried(self, way: Way) -> Trial:
        """Build what the way keeps of the batch, and make three products with it.

        Args:
            way: any.

        Returns:
            The trial, timed once. What the way raises where it cannot go comes through.
        """
        objective, index, v = self.objective, self.index, self.v
        setup, kept = 0.0, 0
        with objective.missing_derivatives_named(index):
            if way.keeper is not None:
                keeper = way.keeper(objective)
                setup = seconds(
                    lambda: keeper.keep(index, room=sys.float_info.max), objective.device
                )
                kept = keeper.bytes

                def work() -> Pieces:
                    return keeper.product(v)

            else:
                rebuild = way.rebuild
                assert rebuild is not None

                def work() -> Pieces:
                    return rebuild(objective, index, v)

            found: list[Pieces] = []

            def first() -> None:
                found.append(tuple(piece.clone() for piece in work()))

            # First runs are slow and not representative; the second is the one looked at.
            slow = seconds(first, objective.device)
            use = memory_use(work, objective.device)
            once = seconds(work, objective.device)
        setup += max(0.0, slow - once)
        return Trial(way, work, found[0], setup, kept, use.peak, [once])

    def tried_against(self, way: Way, known: Trial) -> Trial | WayTrial:
        """A trial, or a record of why the way is out: torch refuses it, or it is wrong.

        Args:
            way: to try.
            known: a trial of a way that is right.

        Returns:
            One or the other. Want of memory comes through.
        """  # noqa: DOC501  # which is all that is raised
        try:
            trial = self.tried(way)
        except (RuntimeError, TypeError, ValueError, CurvtoolError) as error:
            if is_shortage(error):
                raise
            return WayTrial(
                way=way.name, verdict=Verdict.REFUSED, exact=way.exact, detail=_first_line(error)
            )
        distance = apart(trial.found, known.found)
        if way.exact and distance > ROUNDINGS * torch.finfo(self.objective.dtype).eps:
            detail = f"off by {distance:.1e} from {known.way.name}"
            return WayTrial(way=way.name, verdict=Verdict.WRONG, error=distance, detail=detail)
        return trial

    def sharpen(self, *trials: Trial, rounds: int) -> None:
        """Time the trials in turns."""
        works = {trial.way.name: trial.work for trial in trials}
        found = interleaved(works, rounds=rounds, device=self.objective.device)
        for trial in trials:
            times = found[trial.way.name]
            trial.times = times if rounds > 1 else trial.times + times


def apart(a: Pieces, b: Pieces) -> float:
    """|a - b| / |b|, of vectors in pieces."""
    difference = sum(float((x - y).double().square().sum()) for x, y in zip(a, b, strict=True))
    size = sum(float(y.double().square().sum()) for y in b)
    return float((difference / size) ** 0.5) if size else float(difference > 0)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
