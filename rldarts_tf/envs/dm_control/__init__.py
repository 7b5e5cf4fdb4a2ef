"""The DM Control Suite from pixels: one task, a crash-safe batch of it, and a suite.

Names are imported when they are first used: workers must not load TensorFlow.
"""

from typing import TYPE_CHECKING

from rldarts_tf.lazy import lazy_names

if TYPE_CHECKING:
    from rldarts_tf.envs.dm_control.batch import DMControlBatch
    from rldarts_tf.envs.dm_control.environment import DMControl
    from rldarts_tf.envs.dm_control.settings import DMControlSettings
    from rldarts_tf.envs.dm_control.suite import DMControlSuite

__all__ = ["DMControl", "DMControlBatch", "DMControlSettings", "DMControlSuite"]

__getattr__ = lazy_names(__name__, ("environment", "settings", "batch", "suite"), __all__)
