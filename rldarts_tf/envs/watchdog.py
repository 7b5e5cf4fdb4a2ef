"""Ends the process where foreign code does not return.

Python cannot interrupt a call into a compiled simulator: without this a run whose simulator hangs
would stand still for days, and SIGTERM would not end it either.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from types import TracebackType

EXIT_CODE = 2


class Watchdog:
    """A context that must be left in time; otherwise the process ends with one line on stderr.

    Nothing is saved then: the thread that could save is the one that hangs. A restart resumes from
    the last checkpoint. A call that hangs and keeps Python's global lock stops this thread too.

    Args:
      seconds: the most that the context may take. Time in which the whole process is stopped does
        not count.
      what: what hangs, such as "the simulator of starpilot".
    """

    def __init__(self, seconds: float, what: str) -> None:
        self._seconds = seconds
        self._what = what
        self._entered = 0  # counts, so that the thread can tell one context from the next
        self._inside = False
        # The thread lives no longer than this object.
        threading.Thread(target=_watch, args=(weakref.ref(self), seconds / 20), daemon=True).start()

    def __enter__(self) -> None:
        self._entered += 1
        self._inside = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._inside = False

    def _bark(self) -> None:
        line = f"error: {self._what} has not answered for {self._seconds:g} s"
        try:
            os.write(sys.__stderr__.fileno(), f"\n{line}; the last checkpoint stays\n".encode())
        finally:  # Whoever read standard error may be gone.
            os._exit(EXIT_CODE)


def _watch(reference: weakref.ref[Watchdog], tick: float) -> None:
    seen, ticks = 0, 0
    while True:
        time.sleep(tick)
        watchdog = reference()
        if watchdog is None:
            return
        if watchdog._inside and watchdog._entered == seen:
            ticks += 1
            # Ticks, not a clock: it would run on while the process is stopped.
            if ticks >= 20:
                watchdog._bark()
        else:
            seen, ticks = watchdog._entered, 0
        del watchdog
