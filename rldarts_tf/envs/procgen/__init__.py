"""Procgen: for TF-Agents, for Acme, and as a suite of the training programs.

Names are imported when they are first used: the games and settings load no framework.
"""

from typing import TYPE_CHECKING

from rldarts_tf.lazy import lazy_names

if TYPE_CHECKING:
    from rldarts_tf.envs.procgen.batch import ProcgenBatch, ProcgenEnvironment
    from rldarts_tf.envs.procgen.environment import DmProcgen
    from rldarts_tf.envs.procgen.games import GAMES
    from rldarts_tf.envs.procgen.joint import JointEnvironment, make_procgen
    from rldarts_tf.envs.procgen.settings import ProcgenSettings
    from rldarts_tf.envs.procgen.suite import ProcgenSuite

__all__ = [
    "GAMES",
    "DmProcgen",
    "JointEnvironment",
    "ProcgenBatch",
    "ProcgenEnvironment",
    "ProcgenSettings",
    "ProcgenSuite",
    "make_procgen",
]

__getattr__ = lazy_names(
    __name__, ("games", "settings", "batch", "joint", "environment", "suite"), __all__
)
