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

from __future__ import annotations

import os

# Before TensorFlow loads. Its oneDNN kernels are off by default on CPUs without AVX-512, where they
# train these networks about twice as fast all the same.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import flags

from rldarts_tf.agents.sac.program import SACProgram
from rldarts_tf.agents.sac.settings import SACSettings
from rldarts_tf.envs.dm_control.settings import DMControlSettings
from rldarts_tf.envs.dm_control.suite import DMControlSuite
from rldarts_tf.launch import launching, suite_launcher

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "domain_name", None, "Domain of the suite. (DMControlSettings.domain_name; default cartpole)"
)
flags.DEFINE_string("task_name", None, "Task in it. (DMControlSettings.task_name; default swingup)")
flags.adopt_module_key_flags(suite_launcher)


def main() -> None:
    """Trains with SAC."""
    suite_launcher.main(
        "sac_dm_control",
        "sac.gin",
        SACSettings,
        SACProgram,
        DMControlSettings,
        DMControlSuite,
        [
            ("DMControlSettings.domain_name", FLAGS.domain_name),
            ("DMControlSettings.task_name", FLAGS.task_name),
        ],
    )


if __name__ == "__main__":
    launching.run(main)
