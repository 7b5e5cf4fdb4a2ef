"""Settings of Catch, configurable by gin."""

from __future__ import annotations

import dataclasses

import gin

from rldarts_tf.settings_fields import Settings, setting


@gin.configurable(module="rldarts_tf")
@dataclasses.dataclass(frozen=True)
class CatchSettings(Settings):
    """The image and the rewards of Catch."""

    rows: int = setting(10, "height of the image; an episode has one step less", least=2)
    columns: int = setting(5, "width of the image", least=1)
    channels: int = setting(1, "channels of the image; all of them are the same", least=1)
    miss_reward: float = setting(-1.0, "reward for a ball that is missed; a caught one pays 1")

    @property
    def games(self) -> tuple[str, ...]:
        """One name."""
        return ("catch",)
