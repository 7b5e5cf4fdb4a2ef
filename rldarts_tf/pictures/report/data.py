"""What a report shows, read from run directories."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rldarts_tf.errors import RLDartsError, RunError
from rldarts_tf.genotype import Genotype
from rldarts_tf.runs.alpha_history import read_alphas
from rldarts_tf.runs.configs import canonical_settings, read_config
from rldarts_tf.runs.metrics import read_metrics
from rldarts_tf.runs.paths import TRAINED_STAGES, RunPaths
from rldarts_tf.runs.search_log import read_genotypes
from rldarts_tf.runs.summary import read_summary, short_game


@dataclasses.dataclass(frozen=True)
class Run:
    """A run directory.

    Attributes:
      root: its path.
      settings: config.gin, {setting: value as text}.
      results: summary.json, {stage: entry}.
      versions: those that summary.json names.
      metrics: the stages that have a metrics.csv with rows, and its path.
      alphas: path of the search's alphas.npz, or None.
      genotypes: the distinct cells that the search passed through, with the step of each.
      genotype: the final cell, or None.
      problems: what could not be read, one line each.
    """

    root: Path
    settings: Mapping[str, str]
    results: Mapping[str, Mapping[str, Any]]
    versions: Mapping[str, str]
    metrics: Mapping[str, Path]
    alphas: Path | None
    genotypes: Sequence[tuple[int, Genotype]]
    genotype: Genotype | None
    problems: Sequence[str]

    @property
    def name(self) -> str:
        """Of the directory."""
        return self.root.resolve().name

    @property
    def game(self) -> str:
        """The game or task, of the search before others, as the summary or the settings tell."""
        if self.games:
            return self.games.get("search", next(iter(self.games.values())))
        for setting in ("ProcgenSettings.game", "DMControlSettings.domain_name"):
            found = {n: v for n, v in self.settings.items() if n.endswith(setting)}
            for name in sorted(found, key=lambda name: not name.startswith("search/")):
                return found[name].strip("'\"")
        return "?"

    @property
    def games(self) -> dict[str, str]:
        """The games of the stages that have ended: a cell may be evaluated on other ones."""
        return {
            stage: short_game(entry["game"])
            for stage, entry in self.results.items()
            if isinstance(entry.get("game"), str)
        }

    @property
    def last_step(self) -> int:
        """Environment steps of the search so far."""
        return int(read_metrics(self.metrics["search"])["step"][-1])

    @property
    def kind(self) -> tuple[tuple[str, str], ...]:
        """What runs have in common that differ in nothing but their seed."""
        return tuple(sorted((k, v) for k, v in self.settings.items() if not k.endswith(".seed")))


def read_run(root: Path) -> Run:
    """Reads a run directory; what is damaged in it becomes a line in `problems`.

    Raises:
      RunError: it is no run directory.
    """
    problems: list[str] = []

    def attempt(read: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return read()
        except RLDartsError as error:
            problems.append(str(error))
            return otherwise

    if not root.is_dir():
        raise RunError(f"run directory {str(root)!r} does not exist")
    paths = RunPaths(root)
    search, config = paths.stage("search"), paths.config_path
    tables = {stage: paths.stage(stage).metrics_path for stage in TRAINED_STAGES}
    tables = {stage: path for stage, path in tables.items() if path.exists()}
    if not config.exists() and not tables:
        raise RunError(
            f"{str(root)!r} is no run directory: it has no {config.name} "
            f"and no {search.metrics_path.name}"
        )
    summary: Mapping[str, Any] = {"stages": {}}
    if paths.summary_path.exists():
        summary = attempt(lambda: read_summary(paths.summary_path), summary)
    metrics = {
        stage: path
        for stage, path in tables.items()
        if len(attempt(lambda path=path: read_metrics(path), {}).get("step", ()))
    }
    alphas: Path | None = search.alphas_path
    if not alphas.exists() or not attempt(lambda: read_alphas(alphas), ()):
        alphas = None
    log = search.genotypes_path
    genotypes: list[tuple[int, Genotype]] = []
    if log.exists():
        genotypes = attempt(
            lambda: [(step, Genotype.from_dict(data)) for step, data in read_genotypes(log)], []
        )
    genotype = None
    if paths.genotype_path.exists():
        genotype = attempt(lambda: Genotype.load(paths.genotype_path), None)
    settings: Mapping[str, str] = {}
    if config.exists():
        settings = attempt(lambda: _settings(config), {})
    results = {k: v for k, v in summary["stages"].items() if isinstance(v, dict)}
    versions = summary.get("versions")
    return Run(
        root,
        settings,
        results,
        versions if isinstance(versions, dict) else {},
        metrics,
        alphas,
        genotypes,
        genotype,
        problems,
    )


def group(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs that differ in their seed alone belong together; in the order given."""
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.kind, []).append(run)
    return list(groups.values())


def differing_settings(groups: Sequence[Sequence[Run]]) -> dict[str, list[str]]:
    """{setting: its value in each group}, for those that are not the same in all."""
    names = dict.fromkeys(name for members in groups for name in members[0].settings)
    return {
        name: values
        for name in names
        if not name.endswith(".seed")
        for values in [[members[0].settings.get(name, "–") for members in groups]]
        if len(set(values)) > 1
    }


def spans(run: Run) -> list[tuple[int, int, Genotype]]:
    """(first step, step at which the next new cell appeared, cell) of a search."""
    ends = [step for step, _ in run.genotypes[1:]] + [run.last_step]
    return [(step, end, genotype) for (step, genotype), end in zip(run.genotypes, ends)]


def chosen(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many of them: the first, the last, and evenly between."""
    if len(items) <= most:
        return list(items)
    return [items[int(i)] for i in np.linspace(0, len(items) - 1, most).round()]


def _settings(path: Path) -> dict[str, str]:
    return canonical_settings(read_config(path), repr(str(path)))
