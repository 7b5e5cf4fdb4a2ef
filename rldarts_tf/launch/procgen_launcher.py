"""Common main function of the launchers for Procgen."""

from __future__ import annotations

from absl import flags

from rldarts_tf.envs.procgen.settings import ProcgenSettings
from rldarts_tf.envs.procgen.suite import ProcgenSuite
from rldarts_tf.launch import suite_launcher
from rldarts_tf.training.program import MakeProgram

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "env_name",
    None,
    "Procgen game; or several, separated by commas, or all, for one cell that is searched jointly. "
    "(ProcgenSettings.game; default starpilot)",
)
flags.adopt_module_key_flags(suite_launcher)


def main(name: str, default_file: str, algorithm: type, make_program: MakeProgram) -> None:
    """See `rldarts_tf.launch.suite_launcher.main`."""
    suite_launcher.main(
        name,
        default_file,
        algorithm,
        make_program,
        ProcgenSettings,
        ProcgenSuite,
        [("ProcgenSettings.game", FLAGS.env_name)],
    )
