"""Planted benchmarks: images whose label needs one known op of a search space.

Names are imported when they are first used.
"""

from typing import TYPE_CHECKING

from rldarts_tf.lazy import lazy_names

if TYPE_CHECKING:
    from rldarts_tf.envs.planted.environment import Planted
    from rldarts_tf.envs.planted.images import TASKS, Task
    from rldarts_tf.envs.planted.settings import PlantedSettings
    from rldarts_tf.envs.planted.suite import PlantedSuite

__all__ = ["TASKS", "Planted", "PlantedSettings", "PlantedSuite", "Task"]

__getattr__ = lazy_names(__name__, ("environment", "images", "settings", "suite"), __all__)
