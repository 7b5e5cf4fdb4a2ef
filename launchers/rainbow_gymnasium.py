r"""RL-DARTS with Rainbow on a Gymnasium environment: search, discretize, evaluate.

Examples:
  A game of MinAtar on one CPU core, all of Algorithm 1:
    python launchers/rainbow_gymnasium.py --env_name=MinAtar/Breakout-v1 --root_dir=runs/breakout

  IMPALA-CNN next to it:
    python launchers/rainbow_gymnasium.py --env_name=MinAtar/Breakout-v1 --root_dir=runs/breakout \
        --stage=baseline

  An environment of your own, which importing a module registers (its code is run):
    python launchers/rainbow_gymnasium.py --env_module=my_package.envs --env_name=My/Game-v0
"""

from rldarts_tf import launch
from rldarts_tf.agents.rainbow.program import RainbowProgram
from rldarts_tf.envs.gymnasium.suite import GymnasiumSuite

EXPERIMENT = launch.Experiment(
    name="rainbow_gymnasium",
    gin="minatar_rainbow.gin",
    program=RainbowProgram,
    suite=GymnasiumSuite,
)

if __name__ == "__main__":
    launch.main(EXPERIMENT)
