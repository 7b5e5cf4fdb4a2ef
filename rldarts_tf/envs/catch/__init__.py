"""Catch, the smallest game that can be learned from pixels alone.

Names are imported when they are first used.
"""

from typing import TYPE_CHECKING

from rldarts_tf.lazy import lazy_names

if TYPE_CHECKING:
    from rldarts_tf.envs.catch.environment import Catch
    from rldarts_tf.envs.catch.settings import CatchSettings
    from rldarts_tf.envs.catch.suite import CatchSuite

__all__ = ["Catch", "CatchSettings", "CatchSuite"]

__getattr__ = lazy_names(__name__, ("environment", "settings", "suite"), __all__)
