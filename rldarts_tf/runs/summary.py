"""Results of the stages: summary.json for programs, a short table for the terminal."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from rldarts_tf.errors import RunError
from rldarts_tf.files import PathLike, reason, write_text
from rldarts_tf.runs.reading import parse_json, read_bytes

# Name in the summary -> names of the distributions that may provide it.
_DISTRIBUTIONS = {
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
    "tf_agents": ("tf-agents",),
    "dm_acme": ("dm-acme",),
    "dm_reverb": ("dm-reverb",),
    "dm_sonnet": ("dm-sonnet",),
    "procgen": ("procgen",),
    "procgen-mirror": ("procgen-mirror",),
    "numpy": ("numpy",),
    "rldarts_tf": ("rldarts_tf",),
}


def versions() -> dict[str, str]:
    """Returns the versions that a result depends on; packages not installed are absent."""
    found = {"python": platform.python_version()}
    for name, distributions in _DISTRIBUTIONS.items():
        for distribution in distributions:
            try:
                found[name] = importlib.metadata.version(distribution)
                break
            except importlib.metadata.PackageNotFoundError:
                continue
    return found


def write_summary(path: PathLike, stage: str, values: Mapping[str, Any]) -> None:
    """Sets the entry of `stage` in summary.json, and the versions; other stages stay.

    The file is {"stages": {stage: {...}}, "versions": {...}}, strict JSON: NaN and infinities
    become null, numpy numbers and arrays plain numbers and lists. The stage's former entry is
    replaced as a whole, so nothing of an earlier attempt survives in it. A file that is not a
    summary is renamed to `<name>.damaged` with a warning: results must not be lost to it.

    Raises:
      RunError: the file cannot be read or written.
      TypeError: a value has no JSON form.
    """
    target = Path(path)
    plain = _plain(values)
    stages: dict[str, Any] = {}
    if target.exists():
        try:
            stages = read_summary(target)["stages"]
        except _DamagedSummaryError:
            damaged = target.with_name(target.name + ".damaged")
            try:
                os.replace(target, damaged)
            except OSError as error:
                line = f"{str(target)!r} cannot be replaced: {reason(error)}"
                raise RunError(line) from error
            warnings.warn(
                f"{str(target)!r} was not a summary and is now {damaged.name!r}",
                RuntimeWarning,
                stacklevel=2,
            )
    stages[stage] = plain
    content = {"stages": stages, "versions": versions()}
    write_text(target, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_summary(path: PathLike) -> dict[str, Any]:
    """Reads a summary.json.

    Raises:
      RunError: the file is missing or not a summary.
    """
    raw = read_bytes(path)
    try:
        content = parse_json(raw.decode("utf-8"))
    except ValueError as error:
        raise _DamagedSummaryError(f"{str(path)!r} is not JSON: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("stages"), dict):
        raise _DamagedSummaryError(f"{str(path)!r} is not a summary: it has no field 'stages'")
    return content


def read_entries(path: PathLike) -> dict[str, dict[str, Any]]:
    """Reads the entries of a summary.json by stage; none if there is no such file yet.

    Raises:
      RunError: it is not a summary.
    """
    stages = read_summary(path)["stages"] if Path(path).exists() else {}
    return {stage: entry for stage, entry in stages.items() if isinstance(entry, dict)}


def short_game(game: str) -> str:
    """Returns the game of an entry; where it names more than three, only how many."""
    count = len(game.split(", "))
    return game if count <= 3 else f"{count} games"


def print_table(title: str, rows: Sequence[tuple[str, str]], stream: TextIO | None = None) -> None:
    """Prints a table of two columns: with lines and colours on a terminal that has `rich`.

    Args:
      title: the line above.
      rows: (name, value) pairs of text, shown as they are.
      stream: standard output by default.
    """
    stream = stream if stream is not None else sys.stdout
    if stream.isatty():
        try:
            from rich import box, console, table, text
        except ImportError:
            pass
        else:
            shown = table.Table(
                title=text.Text(title, style="bold"),
                title_justify="left",
                box=box.SIMPLE_HEAD,
                show_header=False,
            )
            shown.add_column(style="cyan", no_wrap=True)
            # Paths must stay whole: they are folded, never cut.
            shown.add_column(overflow="fold")
            for name, value in rows:
                shown.add_row(text.Text(name), text.Text(value))
            console.Console(file=stream).print(shown)
            return
    width = max((len(name) for name, _ in rows), default=0)
    lines = [title, *(f"  {name:<{width}}  {value}" for name, value in rows)]
    stream.write("\n".join(line.rstrip() for line in lines) + "\n")
    stream.flush()


class _DamagedSummaryError(RunError):
    """The file is there and readable, but not a summary."""


def _plain(value: Any) -> Any:
    """Returns `value` as JSON data without NaN; raises TypeError for anything else."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{value!r} of type {type(value).__name__} has no JSON form")
