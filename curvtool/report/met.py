"""How many pairs met the tolerance, and how many the arithmetic stopped before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.text import Text

from curvtool.report import numbers
from curvtool.report.style import BAD, GOOD, WARNING, Page
from curvtool.results import EigenPairs, FloatArray, Outcome, SpectrumBlocksRun, SpectrumRun

UNCONVERGED = "NOT CONVERGED"
AT_FLOOR = "at the limit"


@dataclass(frozen=True, kw_only=True)
class Met:
    """Pairs of one list or of several, by what became of them.

    Attributes:
        met: that met the tolerance.
        at_floor: that missed it, stopped by the floor of the arithmetic.
        unfinished: that would come closer with more products.
        largest: error of those at the floor; None where there is none.
    """

    met: int
    at_floor: int
    unfinished: int
    largest: float | None


def met_by(each: Sequence[EigenPairs]) -> Met:
    """Count the pairs of one list or of several.

    Args:
        each: the lists.

    Returns:
        The counts.
    """
    errors: list[FloatArray] = [pairs.eigenvalue_errors[pairs.at_floor] for pairs in each]
    stopped: FloatArray = np.concatenate(errors) if errors else np.zeros(0)
    closed = [pairs.converged | pairs.at_floor for pairs in each]
    return Met(
        met=sum(int(np.count_nonzero(pairs.converged)) for pairs in each),
        at_floor=len(stopped),
        unfinished=sum(int(np.count_nonzero(~flags)) for flags in closed),
        largest=float(stopped.max()) if len(stopped) else None,
    )


def met_facts(found: Met, run: SpectrumRun | SpectrumBlocksRun, page: Page) -> list[Text]:
    """Say how many pairs met the tolerance: all of them, or each kind apart.

    Args:
        found: the counts.
        run: they belong to.
        page: to be printed on.

    Returns:
        One or two short facts.
    """
    facts = []
    if found.largest is not None:
        limit, remedy = _limit(run)
        error = f"{page.glyphs.plus_minus} {numbers.bound(found.largest)}"
        said = (
            f"{numbers.count(found.met)} met the tolerance, {numbers.count(found.at_floor)} "
            f"stopped at {limit} ({error}){remedy}"
        )
        facts.append(Text(said, WARNING))
    if found.unfinished:
        facts.append(Text(f"{numbers.count(found.unfinished)} {UNCONVERGED}", BAD))
    return facts or [Text("all converged", GOOD)]


def floor_is_failure(config: Any) -> bool:
    """Whether the floor of the arithmetic fails a run: its tolerance was asked for.

    Args:
        config: of the run, as it is stored.

    Returns:
        False for runs of versions that did not tell.
    """
    return bool(config.get("tol_given", False))


def reached(outcome: Outcome, found: Met, config: Any) -> bool:
    """Whether a run reached what was asked of it.

    Args:
        outcome: of the run.
        found: its counts.
        config: of the run, as it is stored.

    Returns:
        True as well for a run that the arithmetic stopped, where no tolerance was asked for.
    """
    if outcome is Outcome.FLOOR:
        return not found.unfinished and not floor_is_failure(config)
    return outcome is Outcome.CONVERGED and not found.unfinished and not found.at_floor


def asked_below_floor(outcome: Outcome, config: Any) -> str:
    """Say that a tolerance was asked for which the arithmetic cannot reach.

    Args:
        outcome: of the run.
        config: of the run, as it is stored.

    Returns:
        A sentence; empty where nobody asked, or it was reached.
    """
    fails = outcome is Outcome.FLOOR and floor_is_failure(config)
    return "the tolerance that was asked for lies below that floor" if fails else ""


def _limit(run: SpectrumRun | SpectrumBlocksRun) -> tuple[str, str]:
    """What stopped the pairs, and what goes on where something does."""
    if run.config.get("basis_dtype") == "bfloat16":
        return "the limit of a basis in bfloat16", "; --basis-dtype auto goes on"
    remedy = "; --dtype float64 goes on" if run.plan.dtype != "float64" else ""
    return f"{run.plan.dtype}'s limit", remedy
