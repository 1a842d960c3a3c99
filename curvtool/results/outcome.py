"""How a run ended, in a word for the file and a sentence for the reader."""

from __future__ import annotations

import enum
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


class Outcome(enum.Enum):
    """How a solve ended: the value goes to the run file, `sentence` to the report."""

    CONVERGED = "converged"
    FLOOR = "floor"
    MAX_HVPS = "max_hvps"
    STAGNATED = "stagnated"
    INCOMPLETE = "incomplete"
    INTERRUPTED = "interrupted"
    FAILED = "failed"

    @property
    def sentence(self) -> str:
        """The sentence a reader of the report sees."""
        return _SENTENCES[self]


_SENTENCES = {
    Outcome.CONVERGED: "all requested pairs met the tolerance",
    Outcome.FLOOR: "every pair met the tolerance or stopped at the floor of the arithmetic",
    Outcome.MAX_HVPS: "stopped at the limit of products before every pair met the tolerance",
    Outcome.STAGNATED: "stopped because more products no longer brought the pairs closer",
    Outcome.INCOMPLETE: "the pairs are as exact as asked, but the list was not proved complete",
    Outcome.INTERRUPTED: "interrupted before every pair met the tolerance",
    Outcome.FAILED: "could not be computed: nothing is known of it",
}
# What stopped a part stopped the whole; of several reasons, the first of these is told.
_GRAVEST_FIRST = (
    Outcome.INTERRUPTED,
    Outcome.FAILED,
    Outcome.INCOMPLETE,
    Outcome.STAGNATED,
    Outcome.MAX_HVPS,
    Outcome.FLOOR,
)


def gravest(outcomes: Iterable[Outcome]) -> Outcome:
    """Say how a run of several parts ended.

    Args:
        outcomes: of the parts.

    Returns:
        The gravest one; converged only where every part did.
    """
    ended = set(outcomes)
    return next((outcome for outcome in _GRAVEST_FIRST if outcome in ended), Outcome.CONVERGED)
