r"""RL-DARTS with PPO on a Gymnasium environment: search, discretize, evaluate.
@@
"""

from rldarts_tf import launch
from rldarts_tf.agents.ppo.program import PPOProgram
from rldarts_tf.envs.gymnasium.suite import GymnasiumSuite

EXPERIMENT = launch.Experiment(
    name="ppo_gymnasium", gin="minatar.gin", program=PPOProgram, suite=GymnasiumSuite
)

if __name__ == "__main__":
    launch.main(EXPERIMENT)
