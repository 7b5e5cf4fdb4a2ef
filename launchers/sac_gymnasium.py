r"""RL-DARTS with SAC on a Gymnasium environment: search, discretize, evaluate.

Examples:
  An environment with box actions, of Gymnasium or of your own, which importing a module registers
  (its code is run):
    python launchers/sac_gymnasium.py --env_name=CarRacing-v3
    python launchers/sac_gymnasium.py --env_module=my_package.envs --env_name=My/Robot-v0
"""

from rldarts_tf import launch
from rldarts_tf.agents.sac.program import SACProgram
from rldarts_tf.envs.gymnasium.suite import GymnasiumSuite

EXPERIMENT = launch.Experiment(
    name="sac_gymnasium", gin="gymnasium_sac.gin", program=SACProgram, suite=GymnasiumSuite
)

if __name__ == "__main__":
    launch.main(EXPERIMENT)
