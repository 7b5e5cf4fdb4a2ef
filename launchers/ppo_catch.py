r"""RL-DARTS with PPO on Catch, a game that is learned in seconds: to try things out.

Examples:
  All of Algorithm 1:
    python launchers/ppo_catch.py --root_dir=runs/catch
"""

from rldarts_tf import launch
from rldarts_tf.agents.ppo.program import PPOProgram
from rldarts_tf.envs.catch import CatchSuite

EXPERIMENT = launch.Experiment(
    name="ppo_catch", gin="catch.gin", program=PPOProgram, suite=CatchSuite
)

if __name__ == "__main__":
    launch.main(EXPERIMENT)
