"""When periodic actions of a training are due."""

from __future__ import annotations

import time
from collections.abc import Callable


class StepTrigger:
    """Due whenever the steps reach or pass a multiple of an interval.

    Args:
      interval: steps; 0: never.
      end: the last step of the training.
      at_end: whether it is due when the end is reached (unless it never is), or never there.
    """

    def __init__(self, interval: float, end: int, at_end: bool) -> None:
        self._interval = interval
        self._end = end
        self._at_end = at_end

    def due(self, before: int, step: int) -> bool:
        """Whether it is due after an update from the step `before` to `step`."""
        if not self._interval:
            return False
        if step >= self._end:
            return self._at_end
        return step // self._interval > before // self._interval


class TimeTrigger:
    """Due when some time has passed since the last action, and longer after one that took long.

    Args:
      seconds: the least time between two actions, which is `1 / most_share` times what the last one
        took if that is longer; 0: always due.
      most_share: of the time that actions may take.
      clock: seconds from any origin.
    """

    def __init__(
        self,
        seconds: float,
        most_share: float = 1 / 20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval = self._seconds = seconds
        self._most_share = most_share
        self._clock = clock
        self._last = clock()

    def due(self) -> bool:
        """Whether it is time for the action."""
        return self._clock() - self._last >= self._interval

    def acted(self, seconds: float) -> None:
        """To be called after the action, with the time that it took."""
        self._last = self._clock()
        if self._seconds:
            self._interval = max(self._seconds, seconds / self._most_share)
