"""How far a stage is: a live display on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import collections
import contextlib
import math
import os
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from typing_extensions import Self, override

from rldarts_tf.closing import Closing

_WINDOW_S = 30.0


class Progress(Closing):
    """Shows steps, steps per second, chosen numbers and the time left.

    On a terminal (with `rich` installed) a bar and a line of numbers are redrawn in place.
    Otherwise a line is printed at the first `update`, then at most one every `min_interval_s`, and
    one at the end.
    A display that fails (a closed pipe, a lost terminal) falls silent; it never stops a training.

        with Progress(total_steps=25_000_000, label="search", start_step=restored) as progress:
            progress.update(step, return_mean=3.2)
    """

    def __init__(
        self,
        total_steps: int,
        label: str,
        start_step: int = 0,
        stream: TextIO | None = None,
        min_interval_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepares a display; it appears with the first `update` or with `with`.

        Args:
          total_steps: environment steps at which the stage ends.
          label: the stage's name.
          start_step: steps made before this process began; they do not count for the speed.
          stream: where to show; standard error by default.
          min_interval_s: seconds between two plain lines.
          clock: seconds from any origin.
        """
        self._total = int(total_steps)
        self._label = label
        self._stream = stream if stream is not None else sys.stderr
        self._min_interval_s = min_interval_s
        self._clock = clock
        self._step = int(start_step)
        self._numbers: dict[str, Any] = {}
        self._recent = collections.deque([(clock(), self._step)])
        self._last_line_at = -math.inf
        self._last_line = ""
        self._failed = False
        self._closed = False
        self._live: Any = None
        self._task: Any = None
        if is_terminal(self._stream):
            # Without rich the plain lines do.
            with contextlib.suppress(ImportError):
                self._live = _live_display(self._stream)
        if self._live is not None:
            self._task = self._live.add_task("", total=max(self._total, 1), **self._texts())

    @property
    def steps_per_second(self) -> float:
        """Speed over the last half minute, without the steps before `start_step`; 0 if unknown."""
        (first_time, first_step), (last_time, last_step) = self._recent[0], self._recent[-1]
        if last_time <= first_time:
            return 0.0
        return max(0.0, (last_step - first_step) / (last_time - first_time))

    @property
    def seconds_left(self) -> float:
        """Time to `total_steps` at the present speed; infinite while the speed is unknown."""
        remaining = self._total - self._step
        if remaining <= 0:
            return 0.0
        speed = self.steps_per_second
        return remaining / speed if speed > 0 else math.inf

    def update(self, step: int, **numbers: Any) -> None:
        """Shows that `step` steps are done; numbers not given keep their last value."""
        now = self._clock()
        self._step = int(step)
        self._numbers.update(numbers)
        self._recent.append((now, self._step))
        # Two points always stay, however slow the updates are.
        while len(self._recent) > 2 and now - self._recent[0][0] > _WINDOW_S:
            self._recent.popleft()
        if self._live is not None:
            with self._forgiving():
                self._start()
                self._live.update(self._task, completed=self._step, **self._texts())
        elif now - self._last_line_at >= self._min_interval_s:
            self._print_line()
            self._last_line_at = now

    @override
    def close(self) -> None:
        """Shows the last state and gives the terminal back; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._live is not None:
            # The cursor must come back even where drawing has failed.
            self._failed = False
            with self._forgiving():
                self._live.stop()
        elif self._last_line_at > -math.inf:
            self._print_line()

    @override
    def __enter__(self) -> Self:
        if self._live is not None:
            with self._forgiving():
                self._start()
        return self

    def _start(self) -> None:
        if not self._failed and not self._closed and not self._live.live.is_started:
            self._live.start()

    @contextlib.contextmanager
    def _forgiving(self) -> Any:
        try:
            yield
        except (OSError, ValueError):  # ValueError: the stream is closed
            self._failed = True

    def _texts(self) -> dict[str, str]:
        return {
            "label": self._label,
            "steps": f"{self._step:,}/{self._total:,}",
            "speed": f"{short_number(self.steps_per_second)} steps/s",
            "numbers": "  ".join(f"{k} {short_number(v)}" for k, v in self._numbers.items()),
            "left": f"{duration(self.seconds_left)} left",
        }

    def _print_line(self) -> None:
        if self._failed:
            return
        texts = self._texts()
        # The last update may go beyond the end.
        percent = 100.0 * min(1.0, self._step / self._total) if self._total > 0 else 100.0
        parts = [f"{texts['steps']} steps ({percent:.1f} %)", texts["speed"]]
        parts += [texts["numbers"]] if self._numbers else []
        line = f"{self._label}: " + ", ".join([*parts, texts["left"]])
        if line == self._last_line:
            return
        self._last_line = line
        with self._forgiving():
            self._stream.write(line + "\n")
            self._stream.flush()


def is_terminal(stream: TextIO) -> bool:
    """Whether a stream is a terminal that can redraw lines."""
    try:
        return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")
    except (AttributeError, ValueError):
        return False


def _live_display(stream: TextIO) -> Any:
    from rich import console as rich_console
    from rich import progress as rich_progress
    from rich import table as rich_table
    from rich import text as rich_text

    class TwoLines(rich_progress.Progress):
        """The bar, and the numbers below it: side by side they would not fit 80 columns."""

        def get_renderables(self) -> Any:
            for task in self.tasks:
                yield self.make_tasks_table([task])
                yield rich_text.Text.assemble(
                    ("  " + task.fields["speed"], "cyan"),
                    ("  " + task.fields["numbers"], "green"),
                    no_wrap=True,
                    overflow="ellipsis",
                )

    def column(field: str, style: str = "none") -> Any:
        # No markup: a label may well contain square brackets.
        return rich_progress.TextColumn(
            "{task.fields[" + field + "]}",
            style=style,
            markup=False,
            table_column=rich_table.Column(no_wrap=True),
        )

    def shown_on_terminal(name: str) -> bool:
        return is_terminal(getattr(sys, name))

    return TwoLines(
        column("label", "bold"),
        rich_progress.BarColumn(bar_width=None, table_column=rich_table.Column(ratio=1)),
        column("steps"),
        column("left", "yellow"),
        console=rich_console.Console(file=stream),
        refresh_per_second=4,
        # Prints pass above the bar, but output that goes to a file must still reach the file.
        redirect_stdout=shown_on_terminal("stdout"),
        redirect_stderr=shown_on_terminal("stderr"),
        expand=True,
    )


def short_number(value: Any) -> str:
    """Returns a short text for a number; `-` where there is none yet."""
    if value is None:
        return "-"
    number = float(value)
    if math.isnan(number):
        return "-"
    if math.isinf(number):
        return "inf" if number > 0 else "-inf"
    if abs(number) >= 1000 or number.is_integer():
        return f"{number:,.0f}" if abs(number) < 1e9 else f"{number:.3e}"
    return f"{number:.3g}"


def duration(seconds: float) -> str:
    """Returns e.g. `2 d 3 h`, `1 h 05 min`, `4 min 10 s`, `9 s`; `?` for an unknown time."""
    if not math.isfinite(seconds):
        return "?"
    whole = math.ceil(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    if minutes:
        return f"{minutes} min {whole % 60:02d} s"
    return f"{whole} s"
