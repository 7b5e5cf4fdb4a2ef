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

from rldarts_tf import launch
from rldarts_tf.agents.rainbow.program import RainbowProgram
from rldarts_tf.envs.procgen import ProcgenSuite

EXPERIMENT = launch.Experiment(
    name="rainbow_procgen", gin="micro.gin", program=RainbowProgram, suite=ProcgenSuite
)

if __name__ == "__main__":
    launch.main(EXPERIMENT)
