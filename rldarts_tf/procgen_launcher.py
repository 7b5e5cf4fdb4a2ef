"""What the launchers for Procgen share: all but the algorithm."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import gin
from absl import flags

from rldarts_tf import launching
from rldarts_tf.agents.training import MakeProgram, StageSettings, Training
from rldarts_tf.encoders import Encoder
from rldarts_tf.envs.games import GAMES
from rldarts_tf.runs.directory import RunDirectory, StageDirectory
from rldarts_tf.settings import EncoderSettings, ProcgenSettings, TrainingSettings
from rldarts_tf.stages import Pipeline, check_encoders

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "env_name",
    None,
    "Procgen game; or several, separated by commas, or all, for one cell that is searched jointly. "
    "(ProcgenSettings.game; default starpilot)",
)
flags.adopt_module_key_flags(launching)


def main(name: str, default_file: str, algorithm: type, make_program: MakeProgram) -> None:
    """Resolves everything first, so that bad input ends before an environment starts.

    Args:
      name: of the launcher, for the default run directory.
      default_file: the gin file where the user names none.
      algorithm: the class of the algorithm's settings.
      make_program: the algorithm.
    """
    launching.load_gin(
        default_file=default_file,
        overrides=[*launching.common_overrides(), ("ProcgenSettings.game", FLAGS.env_name)],
        algorithm=algorithm.__name__,
    )
    resolved = launching.resolve(EncoderSettings, algorithm, ProcgenSettings, TrainingSettings)
    encoders = {stage: settings[0] for stage, settings in resolved.items()}
    programs = {stage: _stage_settings(*settings[1:]) for stage, settings in resolved.items()}
    genotype = launching.load_genotype()
    check_encoders(encoders, genotype)
    search = programs["search"]
    root_dir = FLAGS.root_dir
    if root_dir is None:
        label = _label(search.procgen.games)
        root_dir = os.path.join("runs", f"{name}-{label}-{search.training.seed}")
    stopping = launching.stop_on_signals()

    def train(stage: str, stage_dir: StageDirectory, encoder: Encoder) -> Mapping[str, Any]:
        launching.compile_quietly()
        training = Training(stage_dir, stage, encoder, make_program, programs[stage], stopping)
        try:
            return training.run()
        finally:
            training.close()

    with RunDirectory(root_dir) as run:
        pipeline = Pipeline(run, train, encoders, genotype)
        pipeline.check(FLAGS.stage)
        run.bind_config(gin.operative_config_str())
        finished = pipeline.run(FLAGS.stage)
        how = "run" if finished else "interrupted; the same command continues it"
        print(f"{how}: {run.root}")


def _label(names: Sequence[str]) -> str:
    """What a run directory calls the games; different ones have different labels."""
    if tuple(names) == GAMES:
        return "all"
    joined = "+".join(names)
    return joined if len(names) <= 3 else f"{len(names)}games-{zlib.crc32(joined.encode()):08x}"


def _stage_settings(
    algorithm: Any, procgen: ProcgenSettings, training: TrainingSettings
) -> StageSettings:
    return StageSettings(algorithm.for_games(procgen.games), procgen, training)
