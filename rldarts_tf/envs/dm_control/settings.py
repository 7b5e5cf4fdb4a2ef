"""Settings of the DM Control Suite, configurable by gin."""

from __future__ import annotations

import dataclasses
from typing import Any

import gin

from rldarts_tf.checks import check_seconds
from rldarts_tf.errors import ConfigError
from rldarts_tf.settings_fields import Settings, setting


def _name(field: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{field} must be a name, got {value!r}")
    return value


@gin.configurable(module="rldarts_tf")
@dataclasses.dataclass(frozen=True)
class DMControlSettings(Settings):
    """A task of the DM Control Suite, from pixels.

    A simulator that does not answer within `step_timeout` is replaced by a new one, whose first
    episode begins.
    """

    domain_name: str = setting("cartpole", 'such as "cartpole"', check=_name)
    task_name: str = setting("swingup", 'such as "swingup"', check=_name)
    action_repeat: int | None = setting(
        None,
        "physics steps of the task with one action, their rewards summed; None: that of the task, "
        "from `rldarts_tf.envs.dm_control.environment.ACTION_REPEAT`",
        least=1,
    )
    frame_stack: int = setting(3, "frames in an observation, the newest last", least=1)
    image_size: int = setting(64, "height and width of a frame, in pixels", least=8)
    step_timeout: float = setting(60.0, "seconds that a step may take", check=check_seconds)

    @property
    def games(self) -> tuple[str, ...]:
        """One name, "domain/task"."""
        return (f"{self.domain_name}/{self.task_name}",)
