"""What reading a dataset may do and take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from curvtool.errors import InputError
from curvtool.problem.wording import in_bytes

UNBOUNDED = 2**62
# Of the memory allowed, data that is kept; the rest is worth more as graphs.
_KEPT = 4


@final
@dataclass(frozen=True)
class Allowance:
    """What reading may take.

    Attributes:
        memory: bytes; what unfolds into more is refused, whatever its size on disk.
        download: whether torchvision may fetch what is not there.
    """

    memory: int = UNBOUNDED
    download: bool = False

    @property
    def kept(self) -> int:
        """Bytes of data that are kept in memory; more than that is read in every pass."""
        return self.memory // _KEPT

    def require(self, place: object, needed: int, what: str, remedy: str) -> None:
        """Refuse what does not fit.

        Args:
            place: the file, for the message.
            needed: bytes.
            what: that takes them, as a noun in the plural.
            remedy: what to do, as a sentence.

        Raises:
            InputError: where more is needed than there is.
        """
        if needed > self.memory:
            raise InputError(
                f"{place}: expected {what} that fit into the memory allowed "
                f"({in_bytes(self.memory)}); they take {in_bytes(needed)}. {remedy}"
            )
