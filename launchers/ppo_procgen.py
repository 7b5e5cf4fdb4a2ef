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

  One cell for all 16 games:
    python launchers/ppo_procgen.py --gin_file=classic.gin --env_name=all
"""

from __future__ import annotations

import os

# Before TensorFlow loads. Its oneDNN kernels are off by default on CPUs without AVX-512, where they
# train these networks about twice as fast all the same.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import flags

from rldarts_tf.agents.ppo.program import PPOProgram
from rldarts_tf.agents.ppo.settings import PPOSettings
from rldarts_tf.launch import launching, procgen_launcher

flags.adopt_module_key_flags(procgen_launcher)


def main() -> None:
    """Trains with PPO."""
    procgen_launcher.main("ppo_procgen", "classic.gin", PPOSettings, PPOProgram)


if __name__ == "__main__":
    launching.run(main)
