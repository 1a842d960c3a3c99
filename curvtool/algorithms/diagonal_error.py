"""How far an estimated diagonal may be off: as a whole, and entry by entry.

The mean of R samples x = z * Az has the error e, of covariance C / R. Under signs

    C_ii = D_i = sum over j != i of A_ij^2,      C_ij = A_ij A_ji,

and by Schwarz tr C^2 <= 2 sum D_i^2, whatever A is: the entries of e cannot conspire to be one
random number unless few entries carry the variance. (Gaussian z add A_ii^2 to D_i. Terms with
probes of their own add their C.) So |e|^2 is to its estimate, the sum of the sample variances, as
F is with nu = (sum D)^2 / (2 sum D_i^2) and (R - 1) nu degrees of freedom, by Satterthwaite.

Letters: P parameters, R passes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import scipy.stats
import torch
from torch import Tensor

from curvtool.algorithms.space import Space

# More are not told apart, and overflow the quantile's series.
MOST_DEGREES = 1e8
# Standard deviations by which d'e may lengthen an estimate.
ALONG = 2.0


@final
@dataclass(frozen=True)
class DiagonalError:
    """In 2-norm over all entries.

    Attributes:
        sampled: bound of |e|.
        degrees: nu.
        arithmetic: bound of what the arithmetic adds.
        least: bound of |diagonal| from below; 0 where it may be zero.
        likely: estimate of |diagonal|, without the error that is in it; to plan with.
    """

    sampled: float
    degrees: float
    arithmetic: float
    least: float
    likely: float

    @property
    def relative(self) -> float:
        """Bound of the error over the diagonal; infinite where that may be zero."""
        both = self.sampled + self.arithmetic
        if not both:
            return 0.0
        return both / self.least if self.least > 0 else math.inf


def diagonal_error(
    space: Space,
    diagonal_P: Tensor,
    variance_P: Tensor,
    *,
    passes: int,
    level: float,
    arithmetic: float,
) -> DiagonalError:
    """The error of a whole estimate.

    Args:
        space: of the vectors.
        diagonal_P: the estimate.
        variance_P: squared standard errors of its entries.
        passes: R, at least 2.
        level: with which |e| lies below its bound.
        arithmetic: bound of the arithmetic's part.

    Returns:
        The bounds.
    """
    # In units of the largest, lest squares of squares vanish.
    largest = _largest(space, variance_P)
    expected = 0.0  # of |e|^2
    if largest == 0:
        sampled, nu = 0.0, MOST_DEGREES
    else:
        unit_P = variance_P.double() / largest
        both = torch.stack([unit_P.sum(), unit_P.square().sum()])
        total, squares = space.sum(both).tolist()
        nu = min(max(total**2 / (2 * squares), 1.0), MOST_DEGREES)
        factor = float(scipy.stats.f.ppf(level, nu, (passes - 1) * nu))
        expected = total * largest
        sampled = math.sqrt(expected * factor)
    length = float(space.norm(diagonal_P))
    # |d|^2 = |estimate|^2 - |e|^2 - 2 d'e, and d'e has variance d'C d / R <= |d|^2 |C| / R with
    # |C| <= sqrt(tr C^2) = tr C / sqrt(nu); or at the worst e lies along d.
    along = min(1.0, ALONG * nu**-0.25) * sampled
    root = along**2 + length**2 - sampled**2
    least = max(math.sqrt(root) - along, 0.0) if root > 0 else 0.0
    likely = math.sqrt(max(length**2 - expected, 0.0))
    return DiagonalError(sampled, nu, arithmetic, max(least - arithmetic, 0.0), likely)


def _largest(space: Space, variance_P: Tensor) -> float:
    """Of all ranks' entries."""
    ours = float(variance_P.max()) if len(variance_P) else 0.0
    if space.alone:
        return ours
    each = torch.zeros(space.group.size, dtype=torch.float64, device=variance_P.device)
    each[space.group.rank] = ours
    return float(space.sum(each).max())
