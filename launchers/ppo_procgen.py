r"""RL-DARTS with PPO on Procgen: search, discretize, evaluate; or train IMPALA-CNN.

Examples:
  The whole of Algorithm 1 with the paper's settings for a 16 GB V100:
    python launchers/ppo_procgen.py --gin_file=classic.gin

  The same on a small machine:
    python launchers/ppo_procgen.py --gin_file=classic.gin --gin_file=hardware/cpu.gin \
        --env_name=starpilot --num_env_steps=200000 --root_dir=runs/starpilot

  The baseline next to it:
    python launchers/ppo_procgen.py --gin_file=classic.gin --gin_file=hardware/cpu.gin \
        --env_name=starpilot --num_env_steps=200000 --root_dir=runs/starpilot --stage=baseline

  A cell from a file, trained from scratch:
    python launchers/ppo_procgen.py --gin_file=classic.gin --stage=evaluate \
        --genotype=runs/starpilot/genotype.json --root_dir=runs/starpilot-cell

  One cell for all 16 games:
    python launchers/ppo_procgen.py --gin_file=classic.gin --env_name=all
"""

from rldarts_tf import launch
from rldarts_tf.agents.ppo.program import PPOProgram
from rldarts_tf.envs.procgen import ProcgenSuite

EXPERIMENT = launch.Experiment(
    name="ppo_procgen", gin="classic.gin", program=PPOProgram, suite=ProcgenSuite
)

if __name__ == "__main__":
    launch.main(EXPERIMENT)
