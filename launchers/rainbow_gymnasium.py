r"""RL-DARTS with Rainbow on a Gymnasium environment: search, discretize, evaluate.
@@
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
