"""What is said of a spectrum: functions of it, counts on both sides of a band about zero.

Letters: P size, t levels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np

from curvtool.algorithms.density.functions import (
    SpectralSum,
    effective_dimension,
    log_determinant,
    schatten_norm,
    trace,
)
from curvtool.algorithms.density.settings import DensitySettings
from curvtool.algorithms.density.view import Beyond, View
from curvtool.results import FloatArray, SpectralFunction

# Effective dimension and log-determinant where no damping is named: of the largest magnitude.
DEFAULT_DAMPING = 1e-3
# Levels between the least one and the largest magnitude; the band ends at a share of that.
LEVELS = 40
WIDEST_BAND = 0.3
# The part of the certain count that the quadratures may leave open in a band that is taken.
OPEN = 0.1
# A certain count that falls by less than this is the same.
FREE = 0.5


@final
@dataclass(frozen=True, eq=False)
class Counts:
    """How many eigenvalues lie where.

    Attributes:
        band: t: what lies within -t..t has no sign that is known.
        interval: shape (4, 2): below -t, within, above t, and beyond either (the rank).
        beyond: at all levels.
    """

    band: float
    interval: FloatArray
    beyond: Beyond


def counted(view: View, settings: DensitySettings) -> Counts:
    """Count eigenvalues beyond a band that is chosen so that little of it is open.

    The band is the smallest level at which the quadratures leave open less than a tenth of what is
    certain, or than what the probes leave open anyway, or a wider one that is as certain and leaves
    less open; where there is none, the one that leaves open the least part, if that is less than
    what is certain; else the one that holds all of the rest. It is chosen with the
    probes that are then counted with; the coverage that was measured includes the choice.

    Args:
        view: of the spectrum.
        settings: for a threshold that the user names, raised to what can be told from zero.

    Returns:
        The counts.
    """
    if view.top == 0:
        nothing = np.zeros((0, 2))
        whole = np.array([[0, 0], [view.size, view.size], [0, 0], [0, 0]], dtype=np.float64)
        return Counts(0.0, whole, Beyond(np.zeros(0), nothing, nothing, nothing, nothing))
    levels = np.geomspace(view.least_level, max(view.top, view.least_level), LEVELS)
    if settings.threshold is not None:
        levels = np.union1d(levels, [max(settings.threshold, view.least_level)])
    beyond = view.beyond(levels)
    if settings.threshold is None:
        at = _chosen(beyond, view.top, settings.probes)
    else:
        at = int(np.searchsorted(levels, max(settings.threshold, view.least_level)))
    both = beyond.both[at]
    within = view.size - both[::-1]
    return Counts(
        float(levels[at]),
        np.stack([beyond.negative[at], within, beyond.positive[at], both]),
        beyond,
    )


def _chosen(beyond: Beyond, top: float, probes: int) -> int:
    """The place of the level that makes the band."""
    inside = beyond.levels <= WIDEST_BAND * top
    certain, possible = beyond.resolved[:, 0], beyond.resolved[:, 1]
    left_open = possible - certain
    allowed = np.maximum(OPEN * certain, 2 * np.sqrt(2 * np.maximum(certain, 0.0) / probes))
    fits = inside & (left_open <= allowed + 1e-9)
    # A band that holds all of the rest tells nothing of it: it comes last.
    telling = inside & (certain >= 1)
    if (fits & telling).any():
        first = int(np.flatnonzero(fits & telling)[0])
        # A wider band that loses nothing certain may leave less open: beside many exact zeros.
        as_good = np.flatnonzero(inside & (certain >= certain[first] - FREE))
        return int(as_good[np.argmin(left_open[as_good].round(1))])
    share = left_open / (certain + 1)
    rough = telling & (left_open <= certain)
    if not rough.any() and fits.any():
        return int(np.flatnonzero(fits)[0])
    return int(np.argmin(np.where(rough if rough.any() else inside, share, np.inf)))


def functions_of(view: View, settings: DensitySettings) -> Iterator[SpectralFunction]:
    """Functions of the spectrum with their intervals.

    Those that need a spectrum without negative eigenvalues are refused in a sentence where they
    were asked for, and left out where they were not.

    Args:
        view: of the spectrum.
        settings: what is asked.

    Yields:
        The functions.
    """
    for wanted in _wanted(view, settings):
        if wanted.definite and view.negative:
            if settings.damping:
                yield SpectralFunction(
                    name=wanted.name,
                    parameter=wanted.parameter,
                    value=None,
                    interval=None,
                    detail=(
                        f"{wanted.detail} has no meaning here: the operator has negative "
                        f"eigenvalues, down to {view.ends[0]:.3g}. Use one that has none, such as "
                        "the Gauss-Newton matrix."
                    ),
                )
            continue
        low, value, high = (wanted.finish(total) for total in view.sum(wanted))
        yield SpectralFunction(
            name=wanted.name,
            parameter=wanted.parameter,
            value=value,
            interval=(low, high),
            detail=wanted.detail,
        )


def narrowest(view: View, settings: DensitySettings) -> float:
    """The largest half-width, over its middle, that any number of probes would leave."""
    worst = 0.0
    for wanted in _wanted(view, settings):
        if not (wanted.definite and view.negative):
            ends = map(wanted.finish, view.open_without_probes(wanted))
            worst = max(worst, relative_width(*ends))
    return worst


def relative_width(low: float, high: float) -> float:
    """Half the width of an interval over its middle; infinite about zero."""
    middle = abs(low + high)
    return 0.0 if high <= low else (high - low) / middle if middle else np.inf


def _wanted(view: View, settings: DensitySettings) -> Iterator[SpectralSum]:
    yield trace()
    for p in settings.schatten:
        yield schatten_norm(p, top=view.top)
    default = (DEFAULT_DAMPING * view.top,) if view.top else ()
    for a in settings.damping or default:
        yield effective_dimension(a)
        yield log_determinant(a, size=view.size)
