"""Scalars over time: one CSV table per stage, and the same numbers for TensorBoard.

metrics.csv has the columns `step` (integer), `wall_time` (seconds of this stage, summed over its
restarts) and the stage's own. An empty field means: not measured at that step, or not a number.
"""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import override

from rldarts_tf.closing import Closing
from rldarts_tf.errors import RunError, one_line
from rldarts_tf.files import PathLike, reason, write_text
from rldarts_tf.runs.paths import StagePaths
from rldarts_tf.runs.reading import read_bytes

_FIRST_COLUMNS = ("step", "wall_time")


class MetricsWriter(Closing):
    """Appends rows to metrics.csv and TensorBoard's events; `write` returns when the row is out.

    Resuming a stage drops the rows after the restored checkpoint, because those steps are taken
    again, and adds empty columns that an earlier version had not. TensorBoard's files are only ever
    added to: a new file repeats the steps that an interrupted process had already written, and
    TensorBoard shows the later points.
    """

    def __init__(
        self,
        stage_dir: StagePaths,
        columns: Sequence[str],
        resume_step: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        groups: Mapping[str, str] | None = None,
    ) -> None:
        """Opens the stage's table.

        Args:
          stage_dir: where the files go.
          columns: names after `step` and `wall_time`.
          resume_step: the step of the restored checkpoint: rows up to and including it stay.
              None: nothing was restored, the table begins anew.
          clock: seconds from any origin.
          groups: TensorBoard's group of a column: its tag is "group/column", or the column alone
              where it has none.

        Raises:
          RunError: the files cannot be written, or the table to continue is damaged or has other
              columns.
          ValueError: a column is repeated or reserved.
        """
        self.columns = tuple(columns)
        header = _FIRST_COLUMNS + self.columns
        if len(set(header)) != len(header):
            raise ValueError(f"columns repeat or use a reserved name: {header}")
        path = stage_dir.metrics_path
        rows: list[list[str]] = []
        if resume_step is not None and path.exists():
            old_header, rows = _read_rows(path)
            # An earlier version may have written fewer columns.
            if old_header != [name for name in header if name in old_header]:
                raise RunError(
                    f"{str(path)!r} has the columns {','.join(old_header)}, "
                    f"this run writes {','.join(header)}"
                )
            kept = (dict(zip(old_header, row)) for row in rows if int(row[0]) <= resume_step)
            rows = [[row.get(name, "") for name in header] for row in kept]
        write_text(path, _csv_text([header, *rows]))
        self._last_step = int(rows[-1][0]) if rows else None
        self._tags = {
            column: f"{groups[column]}/{column}" if groups and column in groups else column
            for column in self.columns
        }
        self._clock = clock
        self._origin = clock() - (float(rows[-1][1]) if rows else 0.0)

        # Reading a table, and everything else in this package, works without TensorFlow.
        import tensorflow as tf

        self._summary: Any = tf.summary
        try:
            self._stream = path.open("a", encoding="utf-8", newline="")
            self._events: Any = tf.summary.create_file_writer(str(stage_dir.tensorboard_dir))
        except (OSError, tf.errors.OpError) as error:
            line = one_line(error, None)
            raise RunError(f"{str(stage_dir.path)!r} cannot be written: {line}") from error

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Adds one row.

        Args:
          step: environment steps so far; not smaller than the row before.
          values: numbers (Python, numpy or eager tensors of one element) by column; a column that
              is absent, None or NaN stays empty and is not sent to TensorBoard.

        Raises:
          ValueError: an unknown column, or a step that goes back.
          RunError: the row cannot be written.
        """
        unknown = [name for name in values if name not in self.columns]
        if unknown:
            raise ValueError(f"unknown metrics {unknown}; the columns are {list(self.columns)}")
        step = int(step)
        if self._last_step is not None and step < self._last_step:
            raise ValueError(f"step {step} comes after step {self._last_step}")
        numbers = {name: float(value) for name, value in values.items() if value is not None}
        numbers = {name: number for name, number in numbers.items() if not math.isnan(number)}
        wall_time = f"{self._clock() - self._origin:.3f}"
        fields = [_format(numbers[name]) if name in numbers else "" for name in self.columns]
        try:
            # One call, so that a killed process leaves at most one incomplete line: the last.
            self._stream.write(_csv_text([[str(step), wall_time, *fields]]))
            self._stream.flush()
        except OSError as error:
            raise RunError(f"{self._stream.name!r} cannot be written: {reason(error)}") from error
        # Leaving the context flushes the events.
        with self._events.as_default():
            # As arrays: TensorFlow caches Python numbers (np.float64 is one) for ever.
            # And what overflows TensorBoard's float32 is inf then, not an error.
            event_step = np.array(step, np.int64)
            for name, number in numbers.items():
                self._summary.scalar(
                    self._tags[name], np.array(number, np.float64), step=event_step
                )
        self._last_step = step

    def write_pictures(self, step: int, pictures: Mapping[str, bytes]) -> None:
        """Shows pictures in TensorBoard.

        Args:
          step: environment steps so far.
          pictures: the content of a PNG file by tag.
        """
        import tensorflow as tf

        with self._events.as_default():
            for name, content in pictures.items():
                image = tf.io.decode_png(content, channels=3)
                self._summary.image(name, image[None], step=int(step))

    @override
    def close(self) -> None:
        self._stream.close()
        self._events.close()


def read_metrics(path: PathLike) -> dict[str, np.ndarray]:
    """Reads a metrics.csv, also while it is being written.

    Returns:
      One array [rows] per column: `step` int64, all others float64 with NaN where empty.

    Raises:
      RunError: the file is missing, or damaged before its last line.
    """
    header, rows = _read_rows(Path(path))
    columns = list(zip(*rows)) if rows else [()] * len(header)
    return {
        name: np.array([int(field) for field in column], dtype=np.int64)
        if name == "step"
        else np.array([float(field or "nan") for field in column], dtype=np.float64)
        for name, column in zip(header, columns)
    }


def _read_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """Returns header and rows as text; an incomplete last line is left out."""
    text = read_bytes(path).decode("utf-8", "replace")
    complete, _, _ = text.rpartition("\n")
    lines = complete.split("\n") if complete else []
    if not lines:
        return [], []
    try:
        header = next(csv.reader([lines[0]]), [])
    except csv.Error:
        header = []
    if tuple(header[:2]) != _FIRST_COLUMNS or len(set(header)) != len(header):
        raise RunError(
            f"{str(path)!r} is not a table of metrics: its first columns are not "
            f"{','.join(_FIRST_COLUMNS)}"
        )
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        try:
            row = next(csv.reader([line]))
            np.int64(int(row[0])), float(row[1]), [float(field or 0) for field in row[2:]]
            if len(row) != len(header):
                raise ValueError(f"{len(row)} fields, not {len(header)}")
        except (ValueError, OverflowError, IndexError, StopIteration, csv.Error) as error:
            # A crash of the whole machine may leave garbage where the last row was to be.
            if number == len(lines):
                break
            raise RunError(f"{str(path)!r} is damaged in line {number}: {error}") from error
        rows.append(row)
    return header, rows


def _csv_text(rows: Iterable[Sequence[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def _format(number: float) -> str:
    """Returns the shortest text that reads back as the same number; whole numbers without `.0`."""
    if number.is_integer() and abs(number) < 2**53:
        return str(int(number))
    return repr(number)
