"""Results of a study's trials, read from their run directories, and as arrays of scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rldarts_tf.errors import RLDartsError, RunError
from rldarts_tf.files import PathLike
from rldarts_tf.runs.budget import Budget
from rldarts_tf.runs.metrics import read_metrics
from rldarts_tf.runs.reading import parse_json, read_bytes
from rldarts_tf.runs.results import read_results as read_stage_results
from rldarts_tf.studies.scores import Scores
from rldarts_tf.studies.trials import CANDIDATE, Study, StudyPaths, Trial

RANDOM = "random"
"""The arm of cells that were drawn at random."""

_SECONDS = "seconds_"


@dataclasses.dataclass(frozen=True)
class Result:
    """A finished trial.

    Attributes:
      trial: the trial.
      final_return: mean return of the final evaluation, on unseen episodes: the score.
      normalized_return: the same as the suite normalizes it; equal where it has no references.
      training_return: mean return of the last 100 training episodes.
      steps: environment steps.
      seconds: wall time of the training with its evaluations.
      parts: seconds by part, {"learn": ..., "evaluate": ...}: sums of the columns of metrics.csv.
      multiply_adds: of the encoder, for one image.
      parameters: of the encoder.
      curve: the metrics.csv with its learning curve.
      reading: of a search, what measuring has cost where its cell is read off it.
    """

    trial: Trial
    final_return: float
    normalized_return: float
    training_return: float
    steps: float
    seconds: float
    parts: Mapping[str, float]
    multiply_adds: float
    parameters: float
    curve: Path
    reading: Budget

    @property
    def arm(self) -> str:
        """What is compared: the trial's arm, of a baseline the name of the encoder."""
        return arm_of(self.trial)


@dataclasses.dataclass(frozen=True)
class StudyResults:
    """What a study has shown so far.

    Attributes:
      study: the study.
      finished: trials with a result, in the order of the study.
      missing: the others, each with the reason.
    """

    study: Study
    finished: tuple[Result, ...]
    missing: Mapping[str, str]

    @property
    def environments(self) -> tuple[str, ...]:
        """The environments of the finished trials."""
        return tuple(dict.fromkeys(result.trial.environment for result in self.finished))

    def of(self, environment: str, arm: str | None = None) -> list[Result]:
        """The finished trials of an environment, of an arm or of all."""
        return [
            result
            for result in self.finished
            if result.trial.environment == environment and arm in (None, result.arm)
        ]

    def arms(self, supernets: bool = False) -> tuple[str, ...]:
        """The arms of architectures that are trained from scratch, or those of supernets."""
        # A supernet that several cells are read off counts once.
        trained = (r for r in self.finished if r.trial.run is None and not is_candidate(r.trial))
        of_kind = (r.arm for r in trained if is_supernet(r.trial) == supernets)
        return tuple(dict.fromkeys(of_kind))

    def search_budget(self, search: Result) -> Budget:
        """What it takes to have the cell of a search: all that is spent before it is trained.

        That are the environment steps and seconds of the search, of the measurements by which a
        cell is read off it, and of the trainings of all candidates.

        Args:
          search: a result of the study.
        """
        candidates = (
            result
            for result in self.finished
            if is_candidate(result.trial) and search.trial.name in result.trial.needs
        )
        trained = [search, *candidates]
        return search.reading + Budget(
            environment_steps=sum(result.steps for result in trained),
            seconds=sum(result.seconds for result in trained),
        )

    def scores(self, environment: str, arm: str, name: str = "final_return") -> Scores | None:
        """Scores of an arm in an environment; None where it has none.

        Args:
          environment: the environment.
          arm: the arm.
          name: field of `Result`.
        """
        results = self.of(environment, arm)
        if not results:
            return None
        rows = _distinct(result.trial.architecture for result in results)
        columns = _distinct(result.trial.seed for result in results)
        values = np.full((len(rows), len(columns)), np.nan)
        for result in results:
            place = rows.index(result.trial.architecture), columns.index(result.trial.seed)
            values[place] = getattr(result, name)
        return Scores(tuple(rows), tuple(columns), values)


def arm_of(trial: Trial) -> str:
    """What a trial is compared as: its arm, of a baseline the name of the encoder."""
    return trial.architecture if trial.arm == "baseline" else trial.arm


def is_candidate(trial: Trial) -> bool:
    """Whether a training decides which cell a search has found."""
    return trial.arm.partition(":")[0] == CANDIDATE


def is_supernet(trial: Trial) -> bool:
    """Whether a trial trains a supernet, or reads a cell off one."""
    return trial.stage == "search"


def read_results(root: PathLike) -> StudyResults:
    """Reads the results of a study, finished or not.

    Raises:
      RunError: there is no study, or study.json is not valid. What is damaged in a trial makes
        that trial a missing one.
    """
    study, paths = Study.load(root), StudyPaths(Path(root))
    failures = _failures(paths.failures_path)
    finished, missing = [], {}
    for trial in study.trials:
        try:
            found = _result(trial, paths)
        except RLDartsError as error:
            found = str(error)
        if isinstance(found, Result):
            finished.append(found)
        else:
            failed = found != "finished" and trial.name in failures
            missing[trial.name] = f"failed: {failures[trial.name]}" if failed else found
    return StudyResults(study, tuple(finished), missing)


def read_joined(roots: Sequence[PathLike]) -> StudyResults:
    """Reads the results of studies as if they were one, such as of a study for each game.

    Args:
      roots: of the studies, at least one. A setting in which they differ becomes a mapping from
        roots to values.

    Raises:
      RunError: as `read_results`; or two studies have a trial of the same name.
    """
    parts = [read_results(root) for root in roots]
    owners: dict[str, PathLike] = {}
    for root, part in zip(roots, parts):
        for trial in part.study.trials:
            if trial.name in owners:
                raise RunError(
                    f"{str(root)!r} and {str(owners[trial.name])!r} both have the trial "
                    f"{trial.name!r}: only studies of other environments, cells or seeds can be "
                    "joined"
                )
            owners[trial.name] = root
    studies = [part.study for part in parts]
    joined = Study(
        name=Study.joined_name(study.name for study in studies),
        settings=_joined_settings([str(root) for root in roots], studies),
        trials=tuple(trial for study in studies for trial in study.trials),
    )
    finished = tuple(result for part in parts for result in part.finished)
    missing = {name: reason for part in parts for name, reason in part.missing.items()}
    return StudyResults(joined, finished, missing)


def _joined_settings(roots: Sequence[str], studies: Sequence[Study]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for name in dict.fromkeys(name for study in studies for name in study.settings):
        values = [study.settings.get(name) for study in studies]
        same = all(value == values[0] for value in values)
        settings[name] = values[0] if same else dict(zip(roots, values))
    return settings


def _result(trial: Trial, paths: StudyPaths) -> Result | str:
    """The result of a trial, or why there is none."""
    state = paths.state(trial)
    if state != "finished":
        return state
    run = paths.run(trial)
    entry = read_stage_results(run.summary_path)[trial.stage]
    score = entry.eval_test_return_mean
    if score is None:
        return "without a final evaluation"
    metrics = run.stage(trial.stage).metrics_path
    normalized = entry.eval_test_return_mean_normalized
    return Result(
        trial=trial,
        final_return=score,
        normalized_return=score if normalized is None else normalized,
        training_return=_number(entry.return_mean),
        steps=_number(entry.env_steps),
        seconds=_number(entry.wall_time_s),
        parts={
            column[len(_SECONDS) :]: float(np.nansum(values))
            for column, values in read_metrics(metrics).items()
            if column.startswith(_SECONDS) and column != "seconds_left"
        },
        multiply_adds=_number(entry.multiply_adds),
        parameters=_number(entry.parameters),
        curve=metrics,
        reading=paths.budget(trial),
    )


def _failures(path: Path) -> dict[str, str]:
    """Reasons by name of trial; a damaged file has none, for it is no result."""
    try:
        content = parse_json(read_bytes(path).decode("utf-8")) if path.exists() else {}
    except ValueError:
        return {}
    return {k: str(v) for k, v in content.items()} if isinstance(content, dict) else {}


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _distinct(values: Iterable) -> list:
    """The distinct values in order."""
    return sorted(set(values))
