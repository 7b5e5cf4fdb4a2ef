"""Settings of the DM Control Suite, configurable by gin."""

from __future__ import annotations

import dataclasses

import gin

from rldarts_tf.checks import check_integers, check_seconds
from rldarts_tf.errors import ConfigError


@gin.configurable(module="rldarts_tf")
@dataclasses.dataclass(frozen=True)
class DMControlSettings:
    """A task of the DM Control Suite, from pixels.

    Attributes:
      domain_name: such as "cartpole".
      task_name: such as "swingup".
      action_repeat: physics steps of the task with one action, their rewards summed; None: that of
        the task (`rldarts_tf.envs.dm_control.environment.ACTION_REPEAT`).
      frame_stack: frames in an observation, the newest last.
      image_size: height and width of a frame.
      step_timeout: seconds that a step may take; a simulator that does not answer in time is
        replaced by a new one, whose first episode begins.
    """

    domain_name: str = "cartpole"
    task_name: str = "swingup"
    action_repeat: int | None = None
    frame_stack: int = 3
    image_size: int = 64
    step_timeout: float = 60.0

    def __post_init__(self) -> None:
        for name in ("domain_name", "task_name"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise ConfigError(f"DMControlSettings.{name} must be a name, got {value!r}")
        if self.action_repeat is not None:
            check_integers(self, "action_repeat", least=1)
        check_integers(self, "frame_stack", least=1)
        check_integers(self, "image_size", least=8)
        check_seconds("DMControlSettings.step_timeout", self.step_timeout)
