"""Run directory -> the data of a report; runs that differ in their seed alone in groups."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from rldarts_tf.envs.suite import games_of, suite_names
from rldarts_tf.errors import RLDartsError, RunError
from rldarts_tf.genotype import Genotype
from rldarts_tf.pictures import video
from rldarts_tf.runs.alpha_history import read_alphas
from rldarts_tf.runs.configs import canonical_settings, read_config, read_settings
from rldarts_tf.runs.contribution_history import read_contributions
from rldarts_tf.runs.metrics import read_metrics
from rldarts_tf.runs.paths import TRAINED_STAGES, RunPaths
from rldarts_tf.runs.search_log import read_genotypes
from rldarts_tf.runs.summary import read_summary, short_game

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Run:
    """A run directory.

    Attributes:
      root: its path.
      settings: config.gin, {setting: value as text}.
      planned_games: the games of each stage, by config.gin.
      results: summary.json, {stage: entry}.
      versions: those that summary.json names.
      metrics: the stages that have a metrics.csv with rows, and its path.
      alphas: path of the search's alphas.npz, or None.
      contributions: path of its contributions.npz, or None.
      genotypes: the distinct cells that the search passed through, with the step of each.
      genotype: the final cell, or None.
      videos: the stages whose policy `watch` has recorded, and the file's path.
      problems: what could not be read, one line each.
    """

    root: Path
    settings: Mapping[str, str]
    planned_games: Mapping[str, str]
    results: Mapping[str, Mapping[str, Any]]
    versions: Mapping[str, str]
    metrics: Mapping[str, Path]
    alphas: Path | None
    contributions: Path | None
    genotypes: Sequence[tuple[int, Genotype]]
    genotype: Genotype | None
    videos: Mapping[str, Path]
    problems: Sequence[str]

    @property
    def name(self) -> str:
        """Name of the run directory."""
        return self.root.resolve().name

    @property
    def game(self) -> str:
        """The game or task, that of the search first."""
        games = self.games or self.planned_games
        return games.get("search", next(iter(games.values()), "?"))

    @property
    def games(self) -> dict[str, str]:
        """The games of the stages that have begun: a cell may be evaluated on other ones."""
        ended = {
            stage: short_game(entry["game"])
            for stage, entry in self.results.items()
            if isinstance(entry.get("game"), str)
        }
        begun = {k: self.planned_games[k] for k in self.metrics if k in self.planned_games}
        return {**begun, **ended}

    @property
    def last_step(self) -> int:
        """Environment steps of the search so far."""
        return int(read_metrics(self.metrics["search"])["step"][-1])

    @property
    def kind(self) -> tuple[Any, ...]:
        """A given cell, and the settings but the seed: equal for runs that are seeds of one."""
        searched = "search" in self.metrics or "search" in self.results
        cell = None if searched else self.genotype
        return cell, *sorted((k, v) for k, v in self.settings.items() if not k.endswith(".seed"))


def read_run(root: Path) -> Run:
    """Reads a run directory; what is damaged in it becomes a line in `problems`.

    Raises:
      RunError: it is no run directory.
    """
    if not root.is_dir():
        raise RunError(f"run directory {str(root)!r} does not exist")
    paths = RunPaths(root)
    search = paths.stage("search")
    tables = {stage: paths.stage(stage).metrics_path for stage in TRAINED_STAGES}
    if not paths.config_path.exists() and not any(path.exists() for path in tables.values()):
        raise RunError(
            f"{str(root)!r} is no run directory: it has no {paths.config_path.name} "
            f"and no {search.metrics_path.name}"
        )
    problems: list[str] = []

    def attempt(read: Callable[[Path], _T], path: Path, otherwise: _T) -> _T:
        try:
            return read(path) if path.exists() else otherwise
        except RLDartsError as error:
            problems.append(str(error))
            return otherwise

    no_summary: dict[str, Any] = {"stages": {}}
    summary = attempt(read_summary, paths.summary_path, no_summary)
    versions = summary.get("versions")
    return Run(
        root=root,
        settings=attempt(_read_settings, paths.config_path, {}),
        planned_games=attempt(_read_games, paths.config_path, {}),
        results={k: v for k, v in summary["stages"].items() if isinstance(v, dict)},
        versions=versions if isinstance(versions, dict) else {},
        metrics={stage: path for stage, path in tables.items() if attempt(_has_rows, path, False)},
        alphas=search.alphas_path if attempt(_has_records, search.alphas_path, False) else None,
        contributions=search.contributions_path
        if attempt(_has_contributions, search.contributions_path, False)
        else None,
        genotypes=attempt(_read_cells, search.genotypes_path, []),
        genotype=attempt(_read_genotype, paths.genotype_path, None),
        videos=_videos(paths),
        problems=list(dict.fromkeys(problems)),
    )


def _videos(paths: RunPaths) -> dict[str, Path]:
    """The newest video of each stage."""
    newest = {}
    for stage in TRAINED_STAGES:
        made = [paths.video_path(stage, file_format) for file_format in video.FORMATS]
        for path in sorted(filter(Path.is_file, made), key=lambda path: path.stat().st_mtime):
            newest[stage] = path
    return newest


def _read_settings(path: Path) -> dict[str, str]:
    return canonical_settings(read_config(path), repr(str(path)))


def _read_games(path: Path) -> dict[str, str]:
    games = {}
    for stage in TRAINED_STAGES:
        settings = read_settings(path, stage)
        for name in suite_names():
            if name in settings:
                games[stage] = short_game(", ".join(games_of(name, settings[name])))
    return games


def _has_rows(metrics: Path) -> bool:
    return len(read_metrics(metrics).get("step", ())) > 0


def _has_records(alphas: Path) -> bool:
    return len(read_alphas(alphas)) > 0


def _has_contributions(contributions: Path) -> bool:
    return len(read_contributions(contributions)) > 0


def _read_cells(log: Path) -> list[tuple[int, Genotype]]:
    return [(step, Genotype.from_dict(data)) for step, data in read_genotypes(log)]


def _read_genotype(path: Path) -> Genotype | None:
    return Genotype.load(path)


def group(runs: Sequence[Run]) -> list[list[Run]]:
    """Puts runs of one `kind` together; in the order given."""
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.kind, []).append(run)
    return list(groups.values())


def differing_settings(groups: Sequence[Sequence[Run]]) -> dict[str, list[str]]:
    """Returns {setting: its value in each group}, for those that are not the same in all."""
    names = dict.fromkeys(name for members in groups for name in members[0].settings)
    return {
        name: values
        for name in names
        if not name.endswith(".seed")
        for values in [[members[0].settings.get(name, "–") for members in groups]]
        if len(set(values)) > 1
    }


def spans(run: Run) -> list[tuple[int, int, Genotype]]:
    """Returns (first step, step at which the next new cell appeared, cell) of a search."""
    ends = [step for step, _ in run.genotypes[1:]] + [run.last_step]
    return [(step, end, genotype) for (step, genotype), end in zip(run.genotypes, ends)]


def chosen(items: Sequence[_T], most: int) -> list[_T]:
    """Returns at most `most` items: the first, the last, and evenly spaced ones between."""
    if len(items) <= most:
        return list(items)
    return [items[int(i)] for i in np.linspace(0, len(items) - 1, most).round()]
