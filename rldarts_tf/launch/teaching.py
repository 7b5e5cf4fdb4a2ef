"""Who teaches the stages of an experiment."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from rldarts_tf.agents.registry import Algorithm
from rldarts_tf.errors import ConfigError
from rldarts_tf.export.teachers import check_own_teacher, check_teacher, load_teacher
from rldarts_tf.launch.stages import stages_of
from rldarts_tf.runs.paths import RunPaths
from rldarts_tf.runs.results import read_results
from rldarts_tf.teaching.distillation import Distillation
from rldarts_tf.teaching.settings import (
    OWN_BASELINE,
    OWN_STAGE,
    DistillationSettings,
    TeacherSettings,
)
from rldarts_tf.training.program import StageSettings


@dataclasses.dataclass(frozen=True)
class Teaching:
    """The teachers of a run's stages; a stage without a weight has none.

    The teacher of the run itself is its baseline: a hand-designed encoder whose training is worth
    its time anyway, for the found one is compared with it. So a run directory has no other folders
    than before. Nobody teaches that baseline.

    Attributes:
      settings: by stage.
      algorithm: of all stages.
      stages: the other settings of each stage.
      root: the run directory.
    """

    settings: Mapping[str, tuple[TeacherSettings, DistillationSettings]]
    algorithm: Algorithm
    stages: Mapping[str, StageSettings]
    root: Path

    def _is_taught(self, stage: str) -> bool:
        if stage not in self.settings:
            return False
        teacher, distillation = self.settings[stage]
        return distillation.teaches and (teacher.run, stage) != (OWN_BASELINE, OWN_STAGE)

    def order(self, stage: str) -> tuple[str, ...]:
        """The stages that a value of `--stage` runs: where a teacher is its own, that is first."""
        own = (
            self._is_taught(name) and self.settings[name][0].run == OWN_BASELINE
            for name in stages_of(stage)
        )
        return stages_of(stage, teacher_first=any(own))

    def check(self, stage: str) -> None:
        """Checks the teachers that a value of `--stage` asks for; makes no network.

        Raises:
          RLDartsError: there is no such teacher, or it cannot teach.
        """
        order = self.order(stage)
        for name in filter(self._is_taught, order):
            teacher, distillation = self.settings[name]
            if teacher.run is None:
                raise ConfigError(
                    "TeacherSettings.run is None: name the run directory of the teacher, or "
                    f"{OWN_BASELINE!r} for the baseline of this one (stage {name!r})"
                )
            if teacher.run != OWN_BASELINE:
                check_teacher(
                    teacher.run,
                    teacher.stage,
                    teacher.step,
                    self.algorithm,
                    self.stages[name],
                    distillation,
                )
            elif OWN_STAGE in order:
                self._check_own_stays(name)
                check_own_teacher(
                    self.root,
                    self.algorithm,
                    self.stages[OWN_STAGE],
                    self.stages[name],
                    distillation,
                )
            elif not self._own_is_finished():
                raise ConfigError(
                    f"TeacherSettings.run = {OWN_BASELINE!r}: root_dir {str(self.root)!r} holds no "
                    f"finished {OWN_STAGE}: run --stage={OWN_STAGE} first, or --stage=all"
                )

    def _check_own_stays(self, stage: str) -> None:
        """Checks that the own baseline is not trained on where a student goes on with it."""
        own = read_results(RunPaths(self.root).summary_path).get(OWN_STAGE)
        begun = RunPaths(self.root).stage(stage).newest_step()
        if own is None or own.env_steps is None or begun is None:
            return
        length, more = (self.stages[name].training.num_env_steps for name in (OWN_STAGE, stage))
        if length > own.env_steps and more > begun:
            raise ConfigError(
                f"TrainingSettings.num_env_steps = {length}: {stage} was begun with the "
                f"{OWN_STAGE} of {int(own.env_steps)} steps as its teacher, which would be another "
                f"one then: --stage={stage} goes on without training it"
            )

    def distillation(self, stage: str) -> Distillation | None:
        """Loads the teacher of a stage; None if it has none.

        Raises:
          RLDartsError: see `check`.
        """
        if not self._is_taught(stage):
            return None
        teacher, distillation = self.settings[stage]
        root: str | Path = teacher.run or ""
        own_stage = teacher.stage
        if teacher.run == OWN_BASELINE:
            root, own_stage = self.root, OWN_STAGE
        arguments = (root, own_stage, teacher.step)
        check_teacher(*arguments, self.algorithm, self.stages[stage], distillation)
        return Distillation(load_teacher(*arguments), distillation)

    def _own_is_finished(self) -> bool:
        own = read_results(RunPaths(self.root).summary_path).get(OWN_STAGE)
        return own is not None and own.exit_state == "finished"
