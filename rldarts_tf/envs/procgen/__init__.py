"""Procgen: for TF-Agents, for Acme, and as a suite of the training programs."""

from rldarts_tf.envs.lazy import lazy

_MODULES = {
    "DmProcgen": "environment",
    "GAMES": "games",
    "JointEnvironment": "joint",
    "ProcgenBatch": "batch",
    "ProcgenEnvironment": "batch",
    "ProcgenSettings": "settings",
    "ProcgenSuite": "suite",
    "make_procgen": "joint",
}
__all__ = list(_MODULES)
__getattr__ = lazy(__name__, _MODULES)
