"""Every way on one batch of a model, side by side: speed, price, memory, error."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import final

import torch

from curvtool.operators.measure import interleaved, median
from curvtool.operators.memory import is_shortage
from curvtool.operators.planning.trials import ROUNDINGS, FirstBatch, Trial, apart
from curvtool.operators.ways.base import Pieces
from curvtool.operators.ways.compile_probe import CompileFailure, probe_compilation
from curvtool.operators.ways.registry import way_named
from curvtool.operators.ways.traced import traced_reverse
from curvtool.problem.objective import Objective
from curvtool.results import Verdict, WayTrial

# A compiler that is not done by then is given up.
MOST_COMPILE_SECONDS = 600.0

Tell = Callable[[str], None]


@final
@dataclass(frozen=True)
class Comparison:
    """The rows, and the seconds of the gradient that prices are in."""

    trials: tuple[WayTrial, ...]
    gradient_seconds: float


def compare_ways(
    objective: Objective,
    double: Objective | None,
    ways: Sequence[str],
    *,
    checked: str,
    noise: float,
    rounds: int,
    seed: int,
    tell: Tell,
) -> Comparison:
    """Make products of one batch in every way, in turns.

    Args:
        objective: of one batch.
        double: the same in float64; None where the model does not cast.
        ways: names.
        checked: a way that the preflight has cleared.
        noise: of that way's product, as the preflight measured it.
        rounds: products of each way that are timed.
        seed: of the vector.
        tell: told of every way.

    Returns:
        A row for each way. Costs four products of each and `rounds` more, and a compilation.
    """
    batch = FirstBatch(objective, seed=seed)
    truth: Pieces | None = None
    if double is not None:
        there = FirstBatch(double, seed=seed)
        # The vector as it was rounded, or its rounding would count as the product's.
        exact_v = objective.layout.split(batch.v_P.double())
        truth = _once(there, checked, exact_v)
    tried = [_tried(batch, name, tell) for name in ways]
    runs = [t for t in tried if isinstance(t, Trial)]
    tell(f"timing {len(runs)} ways in {rounds} rounds")

    def gradient() -> object:
        loss = objective.batch_loss(batch.index)
        return torch.autograd.grad(loss, objective.parameters, materialize_grads=True)

    gradient()
    works: dict[str, Callable[[], object]] = {"gradient": gradient}
    works |= {t.way.name: t.work for t in runs}
    times = interleaved(works, rounds=rounds, device=objective.device)
    price = median(times["gradient"])
    for trial in runs:
        trial.times = times[trial.way.name]
    reference = truth if truth is not None else _reference(runs, checked)
    allowed = max(10 * noise, ROUNDINGS * torch.finfo(objective.dtype).eps)
    rows = [
        _judged(t, reference, allowed=allowed, price=price) if isinstance(t, Trial) else t
        for t in tried
    ]
    return Comparison(_with_the_fastest_marked(rows), price)


def _once(batch: FirstBatch, way: str, v: Pieces) -> Pieces:
    found = way_named(way)
    if found.rebuild is not None:
        return tuple(found.rebuild(batch.objective, batch.index, v))
    assert found.keeper is not None
    keeper = found.keeper(batch.objective)
    keeper.keep(batch.index, room=math.inf)
    return tuple(keeper.product(v))


def _tried(batch: FirstBatch, name: str, tell: Tell) -> Trial | WayTrial:
    way = way_named(name)
    tell(f"trying {name}: {way.summary}")
    try:
        if name == "compiled":
            # In a process of its own first: a compiler that fails or hangs leaves this one alone.
            probed = probe_compilation(
                traced_reverse(batch.objective, batch.index),
                batch.v,
                device=batch.objective.device,
                most_seconds=MOST_COMPILE_SECONDS,
            )
            trial = batch.tried(way)
            # This process found the compiled code in the cache on disk.
            trial.setup = max(trial.setup, probed.compile_seconds)
            return trial
        return batch.tried(way)
    except CompileFailure as error:
        said = str(error)
    except Exception as error:  # noqa: BLE001  # the row says it; the other ways go on
        if is_shortage(error):
            said = "there is not enough memory for it"
        else:
            lines = str(error).strip().splitlines() or [""]
            said = f"{type(error).__name__}: {lines[0][:200]}"
    return WayTrial(way=name, verdict=Verdict.REFUSED, exact=way.exact, detail=said)


def _reference(runs: Sequence[Trial], checked: str) -> Pieces | None:
    return next((t.found for t in runs if t.way.name == checked), None)


def _judged(trial: Trial, reference: Pieces | None, *, allowed: float, price: float) -> WayTrial:
    error = None if reference is None else apart(trial.found, reference)
    verdict = Verdict.RIGHT
    if not trial.way.exact:
        verdict = Verdict.INEXACT
    elif error is not None and not error <= allowed:
        verdict = Verdict.WRONG
    return trial.record(verdict, error=error, gradient=price)


def _with_the_fastest_marked(rows: Sequence[WayTrial]) -> tuple[WayTrial, ...]:
    right = [r for r in rows if r.verdict is Verdict.RIGHT and r.seconds is not None]
    fastest = min(right, key=lambda r: r.seconds or math.inf, default=None)
    return tuple(replace(r, verdict=Verdict.CHOSEN) if r is fastest else r for r in rows)
