"""Runs -> numbers to plot: curves of several seeds on one grid, and which files hold them."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rldarts_tf.errors import RunError
from rldarts_tf.files import PathLike
from rldarts_tf.runs.metrics import read_metrics
from rldarts_tf.runs.paths import TRAINED_STAGES, RunPaths, StagePaths
from rldarts_tf.runs.summary import read_entries, short_game


class NoValuesError(RunError):
    """A table is sound, but has nothing in the column."""


@dataclasses.dataclass(frozen=True)
class Band:
    """Seeds on one grid of steps.

    Attributes:
      steps: environment steps, int64 [T], growing.
      mean: over seeds, float64 [T].
      deviation: sample standard deviation over seeds, float64 [T]; None for one seed.
      num_seeds: how many there are.
      cut: whether a seed has steps after the last one that all seeds have.
    """

    steps: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray | None
    num_seeds: int
    cut: bool


def read_curve(path: PathLike, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads a column of a metrics.csv.

    Returns:
      Steps int64 [T], growing, and finite values float64 [T], T >= 1. Of rows with equal steps the
      last one counts.

    Raises:
      NoValuesError: it has no finite value in the column.
      RunError: it is missing or damaged.
    """
    table = read_metrics(path)
    if column not in table:
        raise NoValuesError(
            f"{str(path)!r} has no column {column!r}; it has {', '.join(table) or 'none at all'}"
        )
    finite = np.isfinite(table[column])
    steps, values = table["step"][finite], table[column][finite].astype(np.float64)
    if not len(steps):
        raise NoValuesError(f"{str(path)!r} has no value in column {column!r}")
    # unique keeps the first of equal entries: reversed, that is the last row.
    steps, rows = np.unique(steps[::-1], return_index=True)
    return steps, values[::-1][rows]


def has_values(path: PathLike, column: str) -> bool:
    """Whether a metrics.csv has a value in a column."""
    try:
        read_curve(path, column)
    except NoValuesError:
        return False
    return True


def read_band(label: str, files: Sequence[PathLike], column: str) -> Band:
    """Reads a column of the metrics.csv of each seed, interpolated on the union of their steps.

    Raises:
      RunError: there are no files, one has no values or is damaged, or they have no steps in
        common; the message names `label`.
    """
    seeds = [read_curve(file, column) for file in files]
    if not seeds:
        raise RunError(f"curves: {label!r} has no files")
    first = max(steps[0] for steps, _ in seeds)
    last = min(steps[-1] for steps, _ in seeds)
    if first > last:
        raise RunError(f"curves: the files of {label!r} have no range of steps in common")
    grid = np.unique(np.concatenate([steps for steps, _ in seeds]))
    grid = grid[(first <= grid) & (grid <= last)]
    values = np.stack([np.interp(grid, steps, of_seed) for steps, of_seed in seeds])
    return Band(
        steps=grid,
        mean=values.mean(axis=0),
        deviation=values.std(axis=0, ddof=1) if len(seeds) > 1 else None,
        num_seeds=len(seeds),
        cut=any(steps[-1] > last for steps, _ in seeds),
    )


def stage_files(run_dirs: Sequence[PathLike], column: str) -> dict[str, list[Path]]:
    """Finds per stage the tables that have values in `column`, one per run.

    A table without a value is left out, with a line on standard error.

    Raises:
      RunError: a directory is no run or is given twice, or no table has a value.
    """
    found: dict[str, list[Path]] = {}
    without: list[NoValuesError] = []
    for table in _tables(run_dirs):
        try:
            read_curve(table, column)
        except NoValuesError as error:
            without.append(error)
        else:
            found.setdefault(table.parent.name, []).append(table)
    if not found:
        raise without[0]
    # A stage may not have begun to measure: worth a word, no reason to show nothing.
    for reason in without:
        print(f"left out: {reason}", file=sys.stderr)
    known = [stage for stage in TRAINED_STAGES if stage in found]
    return {stage: found[stage] for stage in [*known, *sorted(set(found).difference(known))]}


def _tables(run_dirs: Sequence[PathLike]) -> list[Path]:
    """Returns every metrics.csv of the runs, which must be distinct and have one each."""
    tables: list[Path] = []
    seen = set()
    for run_dir in run_dirs:
        root = Path(run_dir)
        if not root.is_dir():
            raise RunError(f"run directory {str(run_dir)!r} does not exist")
        if root.resolve() in seen:
            raise RunError(f"run directory {str(run_dir)!r} is given twice")
        seen.add(root.resolve())
        any_table = StagePaths(Path("*")).metrics_path
        of_run = sorted(root.glob(str(any_table)))
        if not of_run:
            raise RunError(f"run directory {str(run_dir)!r} has no stage with a {any_table.name}")
        tables += of_run
    return tables


def stage_games(run_dirs: Sequence[PathLike]) -> dict[str, str]:
    """Finds the game of each stage, as far as summaries name it.

    Raises:
      RunError: a stage has different games in two runs, or a summary is damaged.
    """
    found: dict[str, tuple[str, PathLike]] = {}
    for run_dir in run_dirs:
        for stage, entry in read_entries(RunPaths(Path(run_dir)).summary_path).items():
            if not isinstance(entry.get("game"), str):
                continue
            game, other = found.setdefault(stage, (entry["game"], run_dir))
            if game != entry["game"]:
                raise RunError(
                    f"the runs are of different games: {game} ({other}), {entry['game']} "
                    f"({run_dir}); draw each game by itself"
                )
    return {stage: short_game(game) for stage, (game, _) in found.items()}


def evaluation_label(run_dirs: Sequence[PathLike], column: str) -> str | None:
    """Words for a column of evaluations, those of its suite; None where no summary has them."""
    for run_dir in run_dirs:
        for entry in read_entries(RunPaths(Path(run_dir)).summary_path).values():
            words = entry.get("evaluations")
            for name, shown in words.items() if isinstance(words, dict) else ():
                if column == f"eval_{name}_return_mean":
                    return f"mean return, evaluation on {shown}"
    return None
