r"""RL-DARTS with Rainbow on Procgen: search, discretize, evaluate; or train IMPALA-CNN.

Examples:
  The whole of Algorithm 1 with the Micro space and the paper's settings for a 16 GB V100:
    python launchers/rainbow_procgen.py

  The same on a small machine:
    python launchers/rainbow_procgen.py --gin_file=micro.gin --gin_file=hardware/cpu.gin \
        --env_name=coinrun --num_env_steps=200000 --root_dir=runs/coinrun

  The baseline next to it:
    python launchers/rainbow_procgen.py --gin_file=micro.gin --gin_file=hardware/cpu.gin \
        --env_name=coinrun --num_env_steps=200000 --root_dir=runs/coinrun \
        --stage=baseline

  One cell for all 16 games (section 4.5):
    python launchers/rainbow_procgen.py --gin_file=joint.gin
"""

from __future__ import annotations

import os

# Before TensorFlow loads. Its oneDNN kernels are off by default on CPUs without AVX-512, where they
# train these networks about twice as fast all the same.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import flags

from rldarts_tf.agents.rainbow.program import RainbowProgram
from rldarts_tf.agents.rainbow.settings import RainbowSettings
from rldarts_tf.launch import launching, procgen_launcher

flags.adopt_module_key_flags(procgen_launcher)


def main() -> None:
    """Trains with Rainbow."""
    procgen_launcher.main("rainbow_procgen", "micro.gin", RainbowSettings, RainbowProgram)


if __name__ == "__main__":
    launching.run(main)
