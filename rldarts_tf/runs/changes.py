"""Differences between the configuration of a run and that of the command that resumes it."""

from __future__ import annotations

import ast
import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from rldarts_tf.files import write_text
from rldarts_tf.runs.configs import ALGORITHM_NAME
from rldarts_tf.runs.paths import TRAINED_STAGES

NOT_SET = "(not set)"
"""The value of a setting that one of the configurations lacks."""

HARMLESS = (
    "TrainingSettings.evaluation_interval",
    "TrainingSettings.evaluation_episodes",
    "TrainingSettings.final_evaluation_episodes",
    "TrainingSettings.checkpoint_minutes",
    "TrainingSettings.pictures",
    "TrainingSettings.devices",
    # Where the teacher lies; which one it is, a checksum tells.
    "TeacherSettings.run",
    "TeacherSettings.stage",
    "TeacherSettings.step",
)
"""Settings that no gradient depends on, but for the order of its sums."""

OPTIONAL = ("SearchSettings", "CostSettings", "TeacherSettings", "DistillationSettings")
"""Classes of settings that a configuration lacks where nobody has asked for what they are for."""

LENGTH = "TrainingSettings.num_env_steps"
"""The setting that may grow, and so extends a stage."""


@dataclasses.dataclass(frozen=True)
class Change:
    """A setting whose value differs.

    Attributes:
      name: "search/TrainingSettings.seed".
      old: its value in config.gin, as canonical text, or `NOT_SET`.
      new: its value now.
    """

    name: str
    old: str
    new: str

    @property
    def stage(self) -> str:
        """The stage that it is for; empty for all."""
        return self.name.rpartition("/")[0]

    @property
    def field(self) -> str:
        """The name without the stage."""
        return self.name.rpartition("/")[2]


def differences(
    old: Mapping[str, str], new: Mapping[str, str], defaults: Mapping[str, str] | None = None
) -> list[Change]:
    """Returns what differs between canonical settings: see `configs.canonical_settings`.

    A setting that only `new` has, and that is None or False there, is no difference: what it is for
    did not exist when `old` was written, and is off now.

    Args:
      old: settings.
      new: other settings.
      defaults: canonical values, by field, of settings that a configuration may lack.
    """

    def of_default(change: Change) -> bool:
        default = (defaults or {}).get(change.field)
        return default is not None and {change.old, change.new} == {NOT_SET, default}

    names = [*old, *(name for name in new if name not in old)]
    found = (Change(name, old.get(name, NOT_SET), new.get(name, NOT_SET)) for name in names)
    return [
        change
        for change in found
        if change.old != change.new and not _is_newer(change) and not of_default(change)
    ]


def _is_newer(change: Change) -> bool:
    """Whether the old configuration only lacks what says nothing."""
    return change.old == NOT_SET and (
        change.new in ("None", "False") or change.name == ALGORITHM_NAME
    )


def is_harmless(change: Change, begun: Collection[str]) -> bool:
    """Whether everything done so far stays what it was.

    Args:
      change: a difference.
      begun: the stages that have begun.
    """
    if change.stage in TRAINED_STAGES:
        optional = change.field.partition(".")[0] in OPTIONAL
        if change.stage not in begun and (optional or NOT_SET not in (change.old, change.new)):
            return True
        if change.field == LENGTH:
            return int(ast.literal_eval(change.new)) > int(ast.literal_eval(change.old))
    return change.field in HARMLESS


def as_given(change: Change, among: Sequence[Change]) -> Change:
    """The change without its stage if it is the same in every stage, as a flag or file sets it."""
    everywhere = {
        dataclasses.replace(change, name=f"{stage}/{change.field}") for stage in TRAINED_STAGES
    }
    return dataclasses.replace(change, name=change.field) if everywhere <= {*among} else change


def record(path: Path, found: Sequence[Change], steps: Mapping[str, int]) -> None:
    """Appends changes to a file of one JSON object per line.

    Args:
      path: the file.
      found: the changes.
      steps: the environment steps of the stages that have begun, from which on the changes hold.
    """
    before = path.read_text("utf-8") if path.exists() else ""
    lines = [
        json.dumps(
            {
                "setting": change.name,
                "old": change.old,
                "new": change.new,
                "from_step": steps.get(change.stage, 0),
            }
        )
        for change in found
    ]
    write_text(path, before + "".join(f"{line}\n" for line in lines))
