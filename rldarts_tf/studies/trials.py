"""Trials of a study as plain data, and study.json, the file that lists them.

study.json           settings and trials, written before the first trial starts
failures.json        trials that failed, each with the reason
trials/NAME/         the run directory of a trial; trials/NAME.log has what its processes printed
genotypes/           cells that no search of the study found
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rldarts_tf.checks import check_choice, check_integer, shown
from rldarts_tf.errors import RunError
from rldarts_tf.files import PathLike, write_text
from rldarts_tf.runs.budget import Budget, read_budget
from rldarts_tf.runs.paths import TRAINED_STAGES, RunPaths
from rldarts_tf.runs.reading import parse_json, read_bytes
from rldarts_tf.runs.results import read_results

FORMAT = 1
"""Version of study.json."""

CANDIDATE = "candidate"
"""The arm of trainings that decide which of several cells a search has found."""

ROOT = "{root}"
"""Stands for the study's root in the arguments of a command, so that a study can be moved."""

_AND = " + "

# No part begins with a dot, so that a name cannot lead out of the folder of trials.
_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*\Z", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Trial:
    """One training of a study, in a run directory of its own.

    Attributes:
      name: unique in the study, and its folder: "MinAtar-Asterix-v1/random-07/seed-102".
      arm: what is compared: "search", "found", "random", "uniform", "baseline", ...; where a study
        has several search methods "search:METHOD" and "found:METHOD". "candidate" is a training
        that decides which of the best cells of a ranking is the one found; it is compared as
        nothing and counts in what its search has cost.
      environment: as its launcher knows it, "MinAtar/Asterix-v1".
      architecture: id of the architecture within arm and environment: "search-0" (the supernet, and
        the cell, of search seed 0), "random-07", "impala_cnn".
      seed: of this training. Seeds of searches and of evaluations have nothing in common.
      search_seed: of the search whose cell this is, or which this is; None for other cells.
      stage: of the run directory that has the results: "search", "evaluate" or "baseline".
      steps: environment steps.
      genotype: the file of the cell that is evaluated, relative to the study's root.
      makes: a file without which the trial is not finished, relative to the study's root: the cell
        that is read off a search.
      needs: names of the trials that must be finished before.
      run: name of the trial whose run directory this one reads, to read a cell off its search in
        another way; None: it trains in its own.
      commands: arguments of `python -m rldarts_tf`, one command after the other; `ROOT` in them is
        the study's root.
    """

    name: str
    arm: str
    environment: str
    architecture: str
    seed: int
    search_seed: int | None
    stage: str
    steps: int
    genotype: str | None = None
    makes: str | None = None
    needs: tuple[str, ...] = ()
    run: str | None = None
    commands: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise RunError(f"trial: {shown(self.name)} cannot name a folder")

    @property
    def own_steps(self) -> int:
        """Environment steps of its own: none where it reads the run of another."""
        return 0 if self.run else self.steps

    def discretize_flag(self, name: str) -> str | None:
        """A flag of the command that reads a cell off its search; None without."""
        begin = f"--{name}="
        readings = (command for command in self.commands if command[0] == "discretize")
        given = [a[len(begin) :] for command in readings for a in command if a.startswith(begin)]
        return given[-1] if given else None

    @property
    def num_candidates(self) -> int:
        """Cells of a ranking of which the best by a training of its own is the one found.

        Raises:
          ConfigError: the flag is no such number.
        """
        text = self.discretize_flag("best") or "1"
        number = int(text) if text.isdecimal() else text
        return check_integer("StudySettings.methods: --best", number, least=1)

    @classmethod
    def from_dict(cls, data: Any) -> Trial:
        """The inverse of `dataclasses.asdict`, also of what JSON made of it.

        Raises:
          RunError: a field is missing, unknown or not valid.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        # Studies of earlier versions lack `run`.
        if not isinstance(data, Mapping) or set(data) | {"run"} != set(fields):
            raise RunError(f"trial must have the fields {', '.join(fields)}, got {shown(data)}")
        values = dict(data)
        for name, value in data.items():
            optional = str(fields[name].type).endswith("None")
            if name in ("seed", "search_seed", "steps"):
                if not (optional and value is None):
                    check_integer(f"trial.{name}", value, least=0, error=RunError)
            elif name == "needs":
                values[name] = _texts(name, value)
            elif name == "commands":
                if not isinstance(value, (list, tuple)):
                    raise RunError(f"trial.commands must be a list, got {shown(value)}")
                values[name] = tuple(_texts(name, command) for command in value)
            elif not isinstance(value, str) and not (optional and value is None):
                raise RunError(f"trial.{name} must be a text, got {shown(value)}")
        trial = cls(**values)
        if trial.stage not in TRAINED_STAGES:
            raise RunError(f"trial.stage must be one of {', '.join(TRAINED_STAGES)}")
        return trial


@dataclasses.dataclass(frozen=True)
class StudyPaths:
    """Paths of a study.

    Attributes:
      root: its directory.
    """

    root: Path

    @property
    def study_path(self) -> Path:
        """Settings and trials, study.json."""
        return self.root / "study.json"

    @property
    def failures_path(self) -> Path:
        """The trials that failed, {name: reason}, failures.json."""
        return self.root / "failures.json"

    @property
    def genotypes_dir(self) -> Path:
        """The folder of the cells that no search of the study found."""
        return self.root / "genotypes"

    @property
    def report_path(self) -> Path:
        """The default file of `report`, report.html."""
        return RunPaths(self.root).report_path

    def run(self, trial: Trial) -> RunPaths:
        """The run directory of a trial, or that which it reads."""
        return RunPaths(self.root / "trials" / (trial.run or trial.name))

    def log_path(self, trial: Trial) -> Path:
        """What the processes of a trial printed."""
        return self.root / "trials" / f"{trial.name}.log"

    def budget(self, trial: Trial) -> Budget:
        """What measuring has cost where a cell is read off a search; nothing where none is.

        Raises:
          RunError: its file is not valid.
        """
        by, folder = trial.discretize_flag("by"), trial.discretize_flag("work_dir")
        if by is None:
            return Budget()
        if folder is None:
            return read_budget(self.run(trial).discretization_dir(by))
        return read_budget(Path(folder.replace(ROOT, str(self.root))))

    def state(self, trial: Trial) -> str:
        """The state of a trial, from its run directory alone.

        Returns:
          "finished"; "interrupted" if there is something to resume; else "waiting".
        """
        run = self.run(trial)
        made = trial.makes is None or (self.root / trial.makes).exists()
        result = read_results(run.summary_path).get(trial.stage)
        if made and result is not None and result.exit_state == "finished":
            return "finished"
        begun = trial.run is None and run.stage(trial.stage).path.exists()
        return "interrupted" if begun else "waiting"


@dataclasses.dataclass(frozen=True)
class Study:
    """A study as study.json has it.

    Attributes:
      name: what it shows, "search_pays"; the kind of the study. Of several that are read as one:
        "search_pays + model_size".
      settings: of `StudySettings`, as JSON has them.
      trials: all that are known; some studies have more when searches are finished.
    """

    name: str
    settings: Mapping[str, Any]
    trials: tuple[Trial, ...]

    @staticmethod
    def joined_name(names: Iterable[str]) -> str:
        """The name of several studies as one."""
        return _AND.join(dict.fromkeys(names))

    @property
    def kinds(self) -> tuple[str, ...]:
        """Its kind, or all of those that are read as one."""
        return tuple(self.name.split(_AND))

    @classmethod
    def load(cls, root: PathLike) -> Study:
        """Reads the study.json of a root directory.

        Raises:
          RunError: it is missing or not valid.
        """
        path = StudyPaths(Path(root)).study_path
        try:
            content = parse_json(read_bytes(path).decode("utf-8"))
        except ValueError as error:
            raise RunError(f"{str(path)!r} is not a study: {error}") from None
        if not isinstance(content, Mapping) or not {"format", "study", "settings", "trials"} <= set(
            content
        ):
            raise RunError(f"{str(path)!r} is not a study: it lacks settings or trials")
        try:
            check_choice("format", content["format"], (FORMAT,))
            trials = tuple(map(Trial.from_dict, content["trials"]))
        except ValueError as error:
            raise RunError(f"{str(path)!r}: {error}") from None
        return cls(content["study"], content["settings"], trials)

    def save(self, root: PathLike) -> None:
        """Writes study.json, replacing it in one step."""
        content = {
            "format": FORMAT,
            "study": self.name,
            "settings": self.settings,
            "trials": [dataclasses.asdict(trial) for trial in self.trials],
        }
        write_text(StudyPaths(Path(root)).study_path, json.dumps(content, indent=1) + "\n")


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(text, str) for text in value):
        raise RunError(f"trial.{name} must be a list of texts, got {shown(value)}")
    return tuple(value)
