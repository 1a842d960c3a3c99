"""What is proved about eigenvalues that a list might lack. Letters: r proved rank, Y a limit."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

# Of files that an earlier version wrote, whose probe could not prove what it said.
EARLIER = "an earlier version of curvtool did not prove it"


@dataclass(frozen=True, kw_only=True)
class EndProof:
    """What is proved at one end of the spectrum.

    Attributes:
        listed: values of the list that belong to this end.
        proved_rank: r: the r outermost values of this end are listed, copies counted.
        nothing_beyond: Y: at most r eigenvalues lie beyond it, outward; None where no limit is
            known.
        unseen: the chance that a probe as clean as this one had missed a value beyond the list; 1
            where nothing was excluded.
    """

    listed: int
    proved_rank: int
    nothing_beyond: float | None
    unseen: float = 1.0

    @property
    def complete(self) -> bool:
        """Whether the whole list of this end is proved."""
        return self.proved_rank >= self.listed


@dataclass(frozen=True, kw_only=True)
class Completeness:
    """Whether a list holds the eigenvalues that were asked for, and what is known if not.

    Attributes:
        complete: whether it is proved; only a condition of `upper` and `lower` together, or a
            whole matrix, makes it so.
        probability: with which all statements hold together; 1 for a whole matrix, None where
            nothing is stated.
        upper: what is proved at the upper end; None where it was not asked for.
        lower: likewise.
        margin: what a listed value may be short by, relative to its magnitude.
        least_margin: the same, absolute, for values of which `margin` is less: a hundredth of the
            tolerance of |H|, or the noise of a product where that is more.
        products: that the statements cost.
        found: values that a probe found missing, and that the list has now.
        reason: why nothing is proved; empty where something is.
    """

    complete: bool
    probability: float | None
    upper: EndProof | None = None
    lower: EndProof | None = None
    margin: float = 0.0
    least_margin: float = 0.0
    products: int = 0
    found: int = 0
    reason: str = ""

    @property
    def ends(self) -> tuple[tuple[str, EndProof], ...]:
        """The ends that were asked for, by name."""
        named = (("upper", self.upper), ("lower", self.lower))
        return tuple((name, end) for name, end in named if end is not None)

    @property
    def listed(self) -> int:
        """Values of the list."""
        return sum(end.listed for _, end in self.ends)

    @property
    def proved_rank(self) -> int:
        """Values of the list that are proved, of both ends together."""
        return sum(min(end.proved_rank, end.listed) for _, end in self.ends)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the run file and for JSON; an end that was not asked for is None."""
        plain = asdict(self)
        ends = {name: plain.pop(name) for name in ("upper", "lower")}
        head = {name: plain.pop(name) for name in ("complete", "probability")}
        return {**head, "ends": ends, **plain}


WHOLE_MATRIX = Completeness(complete=True, probability=1.0)


def unproved(reason: str) -> Completeness:
    """Nothing is stated, for a reason that is a sentence without its full stop."""
    return Completeness(complete=False, probability=None, reason=reason)
