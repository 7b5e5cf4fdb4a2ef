r"""RL-DARTS with PPO on a Gymnasium environment: search, discretize, evaluate.

Examples:
  A game of MinAtar on one CPU core, all of Algorithm 1:
    python launchers/ppo_gymnasium.py --env_name=MinAtar/Breakout-v1 --root_dir=runs/breakout

  IMPALA-CNN next to it, and the network that MinAtar was published with:
    python launchers/ppo_gymnasium.py --env_name=MinAtar/Breakout-v1 --root_dir=runs/breakout \
        --stage=baseline
    python launchers/ppo_gymnasium.py --env_name=MinAtar/Breakout-v1 --root_dir=runs/published \
        --stage=baseline --gin_bindings='EncoderSettings.baseline = "minatar_cnn"' \
        --gin_bindings='EncoderSettings.features = 128'

  An environment of your own, which importing a module registers (its code is run):
    python launchers/ppo_gymnasium.py --env_module=my_package.envs --env_name=My/Game-v0
"""

from rldarts_tf import launch
from rldarts_tf.agents.ppo.program import PPOProgram
from rldarts_tf.envs.gymnasium.suite import GymnasiumSuite

EXPERIMENT = launch.Experiment(
    name="ppo_gymnasium", gin="minatar.gin", program=PPOProgram, suite=GymnasiumSuite
)

if __name__ == "__main__":
    launch.main(EXPERIMENT)
