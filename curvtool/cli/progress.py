"""Progress on stderr: a live line on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol, final

from curvtool.cli.console import write_line
from curvtool.cli.guard import end_if_interrupted
from curvtool.report.numbers import counted, duration

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


class Step(Protocol):
    """What a solver tells of a step (see `algorithms.settings.Progress`)."""

    @property
    def hvps(self) -> int:
        """Products so far."""
        ...

    @property
    def max_hvps(self) -> int:
        """Products that may be spent."""
        ...

    @property
    def converged(self) -> int:
        """Pairs that met the tolerance."""
        ...

    @property
    def wanted(self) -> int:
        """Pairs asked for."""
        ...

    @property
    def worst(self) -> float:
        """Largest error over tolerance of the wanted pairs."""
        ...


class Estimation(Protocol):
    """What an estimator tells of a pass (see `algorithms.estimation.EstimateProgress`)."""

    @property
    def stage(self) -> str:
        """What the products are spent on."""
        ...

    @property
    def hvps(self) -> float:
        """Products so far."""
        ...

    @property
    def max_hvps(self) -> float:
        """Products that may be spent."""
        ...

    @property
    def ratio(self) -> float:
        """Error over the error asked for; infinite while unknown."""
        ...


# A plain line at most so often: a log of a night's run stays readable.
PLAIN_SECONDS = 15.0
# Steps that the rate of convergence is read from.
WINDOW = 30


@final
class Forecast:
    """Seconds that are left, from the rate at which the worst error has been falling."""

    def __init__(self) -> None:
        self._steps: deque[tuple[float, int, float]] = deque(maxlen=WINDOW)

    def add(self, step: Step, now: float) -> None:
        """Take a step into account."""
        self._steps.append((now, step.hvps, step.worst))

    def seconds_left(self, step: Step) -> float | None:
        """Seconds until the worst pair meets its tolerance; None while nothing can be said."""
        if len(self._steps) < 5:
            return None
        began, first_hvps, _ = self._steps[0]
        ended, last_hvps, _ = self._steps[-1]
        if last_hvps <= first_hvps:
            return None
        per_product = (ended - began) / (last_hvps - first_hvps)
        most = per_product * (step.max_hvps - step.hvps)
        known = [(h, math.log(w)) for _, h, w in self._steps if 0 < w < math.inf]
        if len(known) < 5 or step.worst <= 1:
            return None
        mean_h = sum(h for h, _ in known) / len(known)
        mean_w = sum(w for _, w in known) / len(known)
        spread = sum((h - mean_h) ** 2 for h, _ in known)
        slope = sum((h - mean_h) * (w - mean_w) for h, w in known) / spread if spread else 0.0
        if slope >= 0:
            return None
        return min(most, per_product * math.log(step.worst) / -slope)


@final
class ProgressDisplay:
    """Shows stages and steps on stderr.

    Attributes:
        listener: told of the products so far at every step.
        prefix: before all that is shown: which of several runs it is.
    """

    def __init__(self, live: RichProgress | None, *, quiet: bool) -> None:
        self._live = live
        self._quiet = quiet
        self._task: TaskID | None = None
        self._forecast = Forecast()
        self._last_line = time.monotonic()
        self.listener: Callable[[float], None] = lambda _: None
        self.prefix = ""

    def tell(self, stage: str) -> None:
        """Announce a stage."""
        if self._quiet:
            return
        if self._live is None:
            write_line(f"curvtool: {self.prefix}{stage}")
            return
        if self._task is not None:
            self._live.remove_task(self._task)
        from rich.markup import escape

        self._task = self._live.add_task(escape(self.prefix) + stage, total=None, figures="")

    def step(self, step: Step) -> None:
        """Show a step of the solve."""
        end_if_interrupted()
        self.listener(step.hvps)
        now = time.monotonic()
        self._forecast.add(step, now)
        if self._quiet:
            return
        if self._live is None:
            if now - self._last_line < PLAIN_SECONDS:
                return
            self._last_line = now
            write_line(f"curvtool: {self.prefix}{self._figures(step)}")
        elif self._task is not None:
            # A dense solve knows its length; an iteration counts converged pairs.
            iterative = math.isfinite(step.worst) or step.converged > 0
            self._live.update(
                self._task,
                total=step.wanted if iterative else step.max_hvps,
                completed=step.converged if iterative else step.hvps,
                figures=self._figures(step),
            )

    def estimate(self, step: Estimation) -> None:
        """Show a pass of an estimate."""
        end_if_interrupted()
        self.listener(step.hvps)
        if self._quiet:
            return
        figures = f"{counted(round(step.hvps), 'product')}, {step.stage}"
        total = float(step.max_hvps)
        if 1 < step.ratio < math.inf:
            # The error falls with the root of the passes.
            total = min(total, step.hvps * step.ratio**2)
            figures += f", error {step.ratio:.2g} times the one asked for"
        if self._live is not None and self._task is not None:
            self._live.update(self._task, total=total, completed=step.hvps, figures=figures)
        elif self._live is None and time.monotonic() - self._last_line >= PLAIN_SECONDS:
            self._last_line = time.monotonic()
            write_line(f"curvtool: {figures}")

    def _figures(self, step: Step) -> str:
        text = f"{counted(step.hvps, 'product')}, {step.converged} of {step.wanted} converged"
        left = self._forecast.seconds_left(step)
        return text if left is None else f"{text}, about {duration(max(1.0, left))} left"


@contextlib.contextmanager
def progress_display(*, quiet: bool) -> Iterator[ProgressDisplay]:
    """A display for the time of a run, cleared at its end."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet or not sys.stderr.isatty() or console.is_dumb_terminal:
        yield ProgressDisplay(None, quiet=quiet)
        return
    from rich.progress import BarColumn, SpinnerColumn, TextColumn
    from rich.progress import Progress as RichProgress

    live = RichProgress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        TextColumn("[dim]{task.fields[figures]}"),
        console=console,
        transient=True,
    )
    with live:
        yield ProgressDisplay(live, quiet=False)
