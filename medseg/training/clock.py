"""What keeps a training to its time, once it is under way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

OVER_BY = 0.3
"""Share of an epoch by which the last may end late, before there is one fewer."""


@dataclass
class Clock:
    """Shortens a training whose epochs take longer than the few steps had shown.

    Attributes:
        ends_by: of the monotonic clock, when the last epoch should have ended.
        on_fewer: called with the new number of epochs.
        began: when the first epoch of this sitting began, and how many there were before it.
    """

    ends_by: float
    on_fewer: Callable[[int], object]
    began: tuple[float, int] = (0.0, 0)

    def begin(self, epoch: int) -> None:
        """Before the first epoch of this sitting."""
        self.began = time.monotonic(), epoch

    def fitting(self, epoch: int, of: int) -> int:
        """How many epochs there are to be, after one of them; never more than there were to be."""
        now = time.monotonic()
        start, before = self.began
        pace = (now - start) / (epoch - before)
        fit = max(epoch, epoch + math.floor((self.ends_by - now) / pace + OVER_BY))
        if fit >= of:
            return of
        self.on_fewer(fit)
        return fit
