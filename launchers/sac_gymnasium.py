r"""RL-DARTS with SAC on a Gymnasium environment: search, discretize, evaluate.
@@
"""

from rldarts_tf import launch
from rldarts_tf.agents.sac.program import SACProgram
from rldarts_tf.envs.gymnasium.suite import GymnasiumSuite

EXPERIMENT = launch.Experiment(
    name="sac_gymnasium", gin="gymnasium_sac.gin", program=SACProgram, suite=GymnasiumSuite
)

if __name__ == "__main__":
    launch.main(EXPERIMENT)
