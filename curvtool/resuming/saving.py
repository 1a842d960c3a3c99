"""When to save: often enough to lose little, seldom enough to cost little."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import final

# Of the run's time, that saving may take.
MOST_SHARE = 0.05


@final
class Schedule:
    """Decides at every boundary whether to save.

    Args:
        every: seconds between saves; 0 for every product, negative for none at all.
        clock: seconds that never go back.
    """

    def __init__(self, every: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.every = every
        self._clock = clock
        self._ended = clock()
        self._took = 0.0
        self.spent = 0.0

    @property
    def off(self) -> bool:
        """Whether nothing is saved."""
        return self.every < 0

    def due(self, *, product: bool) -> bool:
        """Whether to save now.

        Args:
            product: whether a product was just completed; otherwise a part of one was.

        Returns:
            Whether the time has come.
        """
        if self.off:
            return False
        if self.every == 0 and product:
            return True
        # The last save's duration foretells the next one's.
        apart = max(self.every, self._took / MOST_SHARE)
        return self._clock() - self._ended >= apart

    def began(self) -> float:
        """To be handed to `ended`."""
        return self._clock()

    def ended(self, began: float) -> None:
        """Take a save's duration into account."""
        self._ended = self._clock()
        self._took = self._ended - began
        self.spent += self._took
