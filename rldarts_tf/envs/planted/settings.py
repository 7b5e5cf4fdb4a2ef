"""Settings of the planted benchmarks, configurable by gin."""

from __future__ import annotations

import dataclasses

import gin

from rldarts_tf.envs.planted.images import TASKS
from rldarts_tf.settings_fields import Settings, one_of, setting


@gin.configurable(module="rldarts_tf")
@dataclasses.dataclass(frozen=True)
class PlantedSettings(Settings):
    """The images that are asked about."""

    task: str = setting("distance", f"which benchmark: {', '.join(TASKS)}", check=one_of(*TASKS))
