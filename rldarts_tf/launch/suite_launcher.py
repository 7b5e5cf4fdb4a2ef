"""Common main function of all launchers: resolve the settings, then run the stages."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gin
from absl import flags

from rldarts_tf.encoders import Encoder
from rldarts_tf.envs.suite import Suite
from rldarts_tf.launch import launching
from rldarts_tf.launch.stages import Pipeline, check_encoders
from rldarts_tf.runs.directory import RunDirectory
from rldarts_tf.runs.paths import StagePaths
from rldarts_tf.training.loop import Training
from rldarts_tf.training.program import MakeProgram, StageSettings
from rldarts_tf.training.settings import EncoderSettings, TrainingSettings

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(launching)


def main(
    name: str,
    default_file: str,
    algorithm: type,
    make_program: MakeProgram,
    environments: type,
    make_suite: Callable[[Any], Suite],
    overrides: Sequence[tuple[str, Any]],
) -> None:
    """Runs a launcher; resolves all settings before any environment starts.

    Args:
      name: of the launcher, for the default run directory.
      default_file: the gin file where the user names none.
      algorithm: the class of the algorithm's settings.
      make_program: the algorithm.
      environments: the class of the environments' settings.
      make_suite: what makes the environments of those.
      overrides: (setting, value) from the flags of the suite; None is skipped.
    """
    launching.load_gin(
        default_file=default_file,
        overrides=[*launching.common_overrides(), *overrides],
        algorithm=algorithm.__name__,
    )
    resolved = launching.resolve(EncoderSettings, algorithm, environments, TrainingSettings)
    encoders = {stage: settings[0] for stage, settings in resolved.items()}
    programs = {}
    for stage, (_, numbers, settings, training) in resolved.items():
        suite = make_suite(settings)
        programs[stage] = StageSettings(suite.fit(numbers), suite, training)
    genotype = launching.load_genotype()
    check_encoders(encoders, genotype)
    for program in programs.values():
        program.suite.check()
    search = programs["search"]
    root_dir = FLAGS.root_dir
    if root_dir is None:
        root_dir = os.path.join("runs", f"{name}-{search.suite.label}-{search.training.seed}")
    stopping = launching.stop_on_signals()

    def train(stage: str, stage_dir: StagePaths, encoder: Encoder) -> Mapping[str, Any]:
        launching.compile_quietly()
        settings = programs[stage]
        with Training(stage_dir, stage, encoder, make_program, settings, stopping) as training:
            return training.run()

    with RunDirectory(root_dir) as run:
        pipeline = Pipeline(run, train, encoders, genotype)
        pipeline.check(FLAGS.stage)
        run.bind_config(gin.operative_config_str())
        finished = pipeline.run(FLAGS.stage)
        how = "run" if finished else "interrupted; the same command continues it"
        print(f"{how}: {run.root}")
