r"""RL-DARTS with PPO on a planted benchmark: images whose label needs one op (docs/planted.md).

Examples:
  Does the search find the 5x5 convolution?
    python launchers/ppo_planted.py --root_dir=runs/planted
"""

from rldarts_tf import launch
from rldarts_tf.agents.ppo.program import PPOProgram
from rldarts_tf.envs.planted import PlantedSuite

EXPERIMENT = launch.Experiment(
    name="ppo_planted", gin="planted.gin", program=PPOProgram, suite=PlantedSuite
)

if __name__ == "__main__":
    launch.main(EXPERIMENT)
