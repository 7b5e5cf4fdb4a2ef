"""Catch, the smallest game that can be learned from pixels alone."""

from rldarts_tf.envs.lazy import lazy

_MODULES = {"Catch": "environment", "CatchSettings": "settings", "CatchSuite": "suite"}
__all__ = list(_MODULES)
__getattr__ = lazy(__name__, _MODULES)
