"""Seconds that a program spends in its parts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator


class Stopwatch:
    """Sums up the seconds of named parts; a measurement costs about a microsecond.

    Parts may be nested: the seconds of the inner one are not those of the outer one.

    Args:
      *parts: their names; each has 0 seconds until it is first measured.
      clock: seconds from any origin.
    """

    def __init__(self, *parts: str, clock: Callable[[], float] = time.perf_counter) -> None:
        self._seconds = dict.fromkeys(parts, 0.0)
        self._total = 0.0
        self._clock = clock

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the parts."""
        return tuple(self._seconds)

    @contextlib.contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Adds the seconds of the context to a part, also where it raises.

        Raises:
          KeyError: there is no such part.
        """
        begun, before = self._clock(), self._total
        try:
            yield
        finally:
            elapsed, inner = self._clock() - begun, self._total - before
            self._seconds[part] += elapsed - inner
            self._total = before + elapsed

    def take(self) -> dict[str, float]:
        """The seconds of each part since the last call."""
        taken = self._seconds
        self._seconds = dict.fromkeys(taken, 0.0)
        return taken
