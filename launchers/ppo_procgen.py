r"""RL-DARTS with PPO on Procgen: search, discretize, evaluate; or train IMPALA-CNN.

Examples:
  The whole of Algorithm 1 with the paper's settings for a 16 GB V100:
    python launchers/ppo_procgen.py --gin_file=classic.gin

  The same on a small machine:
    python launchers/ppo_procgen.py --gin_file=classic.gin --gin_file=hardware/cpu.gin \
        --env_name=starpilot --num_env_steps=200000 --root_dir=runs/starpilot

  The baseline next to it:
    python launchers/ppo_procgen.py --gin_file=classic.gin --gin_file=hardware/cpu.gin \
        --env_name=starpilot --num_env_steps=200000 --root_dir=runs/starpilot --stage=baseline

  A cell from a file, trained from scratch:
    python launchers/ppo_procgen.py --gin_file=classic.gin --stage=evaluate \
        --genotype=runs/starpilot/genotype.json --root_dir=runs/starpilot-cell
"""

from __future__ import annotations

import os

# Before TensorFlow loads. Its oneDNN kernels are off by default on CPUs without AVX-512, where they
# train these networks about twice as fast all the same.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import gin
from absl import flags

from rldarts_tf import launching
from rldarts_tf.agents import ppo_training
from rldarts_tf.agents.ppo import PPOSettings
from rldarts_tf.runs.directory import RunDirectory
from rldarts_tf.settings import EncoderSettings, ProcgenSettings, TrainingSettings
from rldarts_tf.stages import Pipeline, check_encoders

FLAGS = flags.FLAGS
flags.DEFINE_string("env_name", None, "Procgen game. (ProcgenSettings.game; default starpilot)")
flags.adopt_module_key_flags(launching)


def main() -> None:
    """Resolves everything first, so that bad input ends before an environment starts."""
    launching.load_gin(
        default_file="classic.gin",
        overrides=[*launching.common_overrides(), ("ProcgenSettings.game", FLAGS.env_name)],
    )
    resolved = launching.resolve(EncoderSettings, PPOSettings, ProcgenSettings, TrainingSettings)
    encoders = {stage: settings[0] for stage, settings in resolved.items()}
    programs = {
        stage: ppo_training.StageSettings(*settings[1:]) for stage, settings in resolved.items()
    }
    genotype = launching.load_genotype()
    check_encoders(encoders, genotype)
    search = programs["search"]
    root_dir = FLAGS.root_dir
    if root_dir is None:
        run_name = f"ppo_procgen-{search.procgen.game}-{search.training.seed}"
        root_dir = os.path.join("runs", run_name)
    stopping = launching.stop_on_signals()

    def train(stage, stage_dir, encoder):
        launching.compile_quietly()
        training = ppo_training.PPOTraining(stage_dir, stage, encoder, programs[stage], stopping)
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


if __name__ == "__main__":
    launching.run(main)
