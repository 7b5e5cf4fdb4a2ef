"""How far a study is: a live table on a terminal, one line per event elsewhere."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import math
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from typing_extensions import Self, override

from rldarts_tf.closing import Closing
from rldarts_tf.errors import RunError
from rldarts_tf.runs.summary import read_summary
from rldarts_tf.studies.trials import StudyPaths, Trial
from rldarts_tf.training.progress import duration, is_terminal, short_number

_TAIL_BYTES = 16_384
"""Room for a row of the widest table."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a trial is, of its metrics.csv.

    Attributes:
      step: environment steps made.
      speed: environment steps per second.
      episode_return: mean of the last training episodes.
    """

    step: float = 0.0
    speed: float = math.nan
    episode_return: float = math.nan


class Display(Closing):
    """Shows the trials of a study.

    A display that fails (a closed pipe, a lost terminal) falls silent; it never stops a study.

    Args:
      label: of the study.
      paths: of the study.
      stream: where to show; standard error by default.
    """

    def __init__(self, label: str, paths: StudyPaths, stream: TextIO | None = None) -> None:
        self._label = label
        self._paths = paths
        self._stream = stream if stream is not None else sys.stderr
        self._speeds: dict[str, float] = {}
        self._counts = ""
        self._left = math.inf
        self._live: Any = None
        if is_terminal(self._stream):
            # Without rich the plain lines do.
            with contextlib.suppress(ImportError):
                self._live = _live(self._stream)

    @override
    def __enter__(self) -> Self:
        if self._live is not None:
            with _forgiving():
                self._live.start()
        return self

    @override
    def close(self) -> None:
        if self._live is not None:
            with _forgiving():
                self._live.stop()

    def event(self, trial: Trial, what: str) -> None:
        """Something that happened to a trial, which stays on the screen."""
        text = f"{self._counts}{trial.name}: {what}"
        if what == "finished":
            text += _returns(self._paths, trial)
            if 0 < self._left < math.inf:
                text += f"; {duration(self._left)} left of all"
        with _forgiving():
            if self._live is not None:
                self._live.console.print(text, markup=False, highlight=False)
            else:
                self._stream.write(text + "\n")
                self._stream.flush()

    def show(
        self,
        trials: Sequence[Trial],
        finished: Collection[str],
        running: Collection[str],
        failed: Mapping[str, str],
    ) -> None:
        """Shows how many trials are in which state, and those that run.

        Args:
          trials: all trials.
          finished: names of those that are finished.
          running: of those that run.
          failed: of those that have failed, with the reasons.
        """
        self._counts = f"[{len(finished)}/{len(trials)}] "
        rows = {
            trial.name: read_progress(self._paths, trial)
            for trial in trials
            if trial.name in running
        }
        self._left = self._seconds_left(trials, finished, failed, rows)
        if self._live is None:
            return
        title = (
            f"{self._label}: {len(finished)} of {len(trials)} finished, {len(running)} running"
            f"{f', {len(failed)} failed' if failed else ''}, {duration(self._left)} left"
        )
        with _forgiving():
            self._live.update(_table(title, trials, rows), refresh=True)

    def _seconds_left(
        self,
        trials: Sequence[Trial],
        finished: Collection[str],
        failed: Mapping[str, str],
        rows: Mapping[str, Progress],
    ) -> float:
        """Time for all trials that are left, at the speeds of those that run or ran lately."""
        for trial in trials:
            if trial.name in rows and rows[trial.name].speed > 0:
                self._speeds[trial.stage] = rows[trial.name].speed
        if not self._speeds:
            return math.inf
        # A stage that has not run yet may be as slow as the slowest that has.
        slowest = min(self._speeds.values())
        seconds = 0.0
        for trial in trials:
            if trial.name not in finished and trial.name not in failed:
                left = trial.own_steps - rows.get(trial.name, Progress()).step
                seconds += max(left, 0.0) / self._speeds.get(trial.stage, slowest)
        return seconds / max(len(rows), 1)


def read_progress(paths: StudyPaths, trial: Trial) -> Progress:
    """How far a trial is, from the last line of its metrics.csv, which may be being written."""
    path = paths.run(trial).stage(trial.stage).metrics_path
    try:
        row = _last_row(path)
        return Progress(
            float(row["step"]),
            float(row.get("steps_per_second") or "nan"),
            float(row.get("return_mean") or "nan"),
        )
    except (OSError, ValueError, KeyError, csv.Error):
        return Progress()


def _last_row(path: Path) -> dict[str, str]:
    with path.open("rb") as stream:
        header = stream.readline().decode("utf-8")
        stream.seek(max(stream.tell(), stream.seek(0, os.SEEK_END) - _TAIL_BYTES))
        lines = stream.read().decode("utf-8", "replace").split("\n")[:-1]
    names, values = csv.reader([header, lines[-1] if lines else ""])
    return dict(zip(names, values))


def _returns(paths: StudyPaths, trial: Trial) -> str:
    """The return of a finished trial's last evaluation."""
    with contextlib.suppress(RunError):
        entry = read_summary(paths.run(trial).summary_path)["stages"].get(trial.stage, {})
        value = entry.get("eval_test_return_mean", entry.get("return_mean"))
        if isinstance(value, (int, float)):
            return f", return {value:.4g}"
    return ""


def _live(stream: TextIO) -> Any:
    from rich import console, live

    return live.Live(console=console.Console(file=stream), auto_refresh=False, transient=False)


def _table(title: str, trials: Sequence[Trial], rows: Mapping[str, Progress]) -> Any:
    from rich import box, table, text

    shown = table.Table(
        title=text.Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD
    )
    shown.add_column("running trial", style="cyan", overflow="fold")
    for name in ("steps", "steps/s", "return", "left"):
        shown.add_column(name, justify="right", no_wrap=True)
    for trial in trials:
        if trial.name in rows:
            progress = rows[trial.name]
            left = (
                (trial.steps - progress.step) / progress.speed if progress.speed > 0 else math.inf
            )
            shown.add_row(
                text.Text(trial.name),
                f"{100 * progress.step / trial.steps:.0f} %",
                short_number(progress.speed),
                short_number(progress.episode_return),
                duration(max(left, 0)),
            )
    return shown


def _forgiving() -> contextlib.AbstractContextManager[None]:
    return contextlib.suppress(OSError, ValueError)  # ValueError: the stream is closed
