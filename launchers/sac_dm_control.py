r"""RL-DARTS with SAC on the DM Control Suite, from pixels: search, discretize, evaluate.

Examples:
  The whole of Algorithm 1 with the Micro space and the settings of appendix A.3:
    python launchers/sac_dm_control.py --domain_name=cartpole --task_name=swingup

  The same on a small machine:
    python launchers/sac_dm_control.py --gin_file=sac.gin --gin_file=hardware/cpu_sac.gin \
        --domain_name=cartpole --task_name=balance --root_dir=runs/balance

  The four-layer baseline next to it:
    python launchers/sac_dm_control.py --gin_file=sac.gin --gin_file=hardware/cpu_sac.gin \
        --domain_name=cartpole --task_name=balance --root_dir=runs/balance --stage=baseline

  A task by its file:
    python launchers/sac_dm_control.py --gin_file=sac.gin --gin_file=tasks/cheetah_run.gin

Frames are drawn without a display, by EGL or OSMesa, whichever works (or as MUJOCO_GL says).
"""

from rldarts_tf import launch
from rldarts_tf.agents.sac.program import SACProgram
from rldarts_tf.envs.dm_control import DMControlSuite

EXPERIMENT = launch.Experiment(
    name="sac_dm_control", gin="sac.gin", program=SACProgram, suite=DMControlSuite
)

if __name__ == "__main__":
    launch.main(EXPERIMENT)
