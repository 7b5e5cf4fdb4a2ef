"""An experiment, and the program that a launcher makes of it."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import gin
from absl import flags as absl_flags

from rldarts_tf.agents.registry import algorithm_of
from rldarts_tf.devices import make_available
from rldarts_tf.encoders import Encoder
from rldarts_tf.envs.suite import Suite
from rldarts_tf.errors import GenotypeError
from rldarts_tf.genotype import Genotype
from rldarts_tf.launch import flags, gin_files, process
from rldarts_tf.launch.stages import Pipeline, check_encoders, stages_of
from rldarts_tf.launch.teaching import Teaching
from rldarts_tf.runs.directory import RunDirectory
from rldarts_tf.runs.paths import StagePaths
from rldarts_tf.training.loop import Training
from rldarts_tf.training.program import MakeProgram, StageSettings
from rldarts_tf.training.settings import EncoderSettings, TrainingSettings
from rldarts_tf.user_modules import import_modules

absl_flags.disclaim_key_flags()


@dataclasses.dataclass(frozen=True)
class Experiment:
    """An algorithm in a family of environments.

    Attributes:
      name: of the launcher; the default run directory begins with it.
      gin: the gin file that is read where the user names none.
      program: the class of the algorithm's `AgentProgram`, one of `rldarts_tf.agents.registry`.
      suite: the class of the environments.
    """

    name: str
    gin: str
    program: MakeProgram
    suite: type[Suite]


def main(experiment: Experiment) -> NoReturn:
    """Runs an experiment as the command line says, and ends the process."""
    values = flags.define(experiment)

    def program() -> None:
        process.use_threads(values.intra_op_threads, values.inter_op_threads)
        import_modules(values["import"].value)
        run(experiment, values)

    process.run(program)


def run(experiment: Experiment, values: absl_flags.FlagValues) -> None:
    """Runs the stages of an experiment; resolves all settings before any environment starts.

    Args:
      experiment: the experiment.
      values: its flags, parsed.

    Raises:
      RLDartsError: bad input, or a training that has diverged.
    """
    algorithm = algorithm_of(experiment.program)
    gin_files.load(
        values.gin_file or [experiment.gin],
        values.gin_bindings,
        flags.overrides(experiment, values),
        algorithm,
    )
    resolved = gin_files.resolve(
        EncoderSettings, algorithm.settings, experiment.suite.settings_class, TrainingSettings
    )
    encoders, stages = {}, {}
    for stage, (encoder, numbers, environments, training) in resolved.items():
        suite = experiment.suite(environments)
        encoders[stage] = encoder
        stages[stage] = StageSettings(suite.fit(numbers), suite, training)
    genotype = None if values.genotype is None else _load_genotype(values.genotype)
    search = gin_files.search_settings()
    make_available(max(settings.training.devices for settings in stages.values()))
    made = check_encoders(encoders, genotype, search)
    for settings in stages.values():
        settings.suite.check()
    root_dir = values.root_dir
    if root_dir is None:
        first = stages["search"]
        name = f"{experiment.name}-{first.suite.label}-{first.training.seed}"
        root_dir = os.path.join("runs", name)
    teaching = Teaching(gin_files.teaching_settings(), algorithm, stages, Path(root_dir))
    order = teaching.order(values.stage)
    if "discretize" in order:
        search.check_tells_cell()
    for stage in set(order) & set(stages):
        stages[stage].check(stage, made[stage])
    teaching.check(values.stage)
    with process.stop_on_signals() as stopping, RunDirectory(root_dir) as directory:
        train = _Trainer(experiment.program, stages, stopping, teaching)
        lengths = {stage: settings.training.num_env_steps for stage, settings in stages.items()}
        pipeline = Pipeline(
            directory,
            train,
            encoders,
            lengths,
            genotype,
            search,
            teacher_first=order != stages_of(values.stage),
        )
        pipeline.check(values.stage)
        directory.bind_config(gin.operative_config_str(), gin_files.optional_defaults())
        finished = pipeline.run(values.stage)
        how = "run" if finished else "interrupted; the same command continues it"
        print(f"{how}: {directory.root}")


@dataclasses.dataclass(frozen=True)
class _Trainer:
    """Trains the encoder of a stage, as `Pipeline` asks for it."""

    program: MakeProgram
    stages: Mapping[str, StageSettings]
    stopping: Callable[[], bool]
    teaching: Teaching

    def __call__(self, stage: str, stage_dir: StagePaths, encoder: Encoder) -> Mapping[str, Any]:
        process.compile_quietly()
        # Loaded before the student's weights are drawn, which a teacher then does not change.
        distillation = self.teaching.distillation(stage)
        program = self.program
        if distillation is not None:
            program = functools.partial(program, distillation=distillation)
        training = Training(stage_dir, stage, encoder, program, self.stages[stage], self.stopping)
        try:
            return training.run()
        finally:
            training.close()


def _load_genotype(path: str) -> Genotype:
    try:
        return Genotype.load(path)
    except GenotypeError as error:
        raise GenotypeError(f"genotype: {error}") from None
