"""Settings of Catch, configurable by gin."""

from __future__ import annotations

import dataclasses

import gin

from rldarts_tf.checks import check_integers, check_number


@gin.configurable(module="rldarts_tf")
@dataclasses.dataclass(frozen=True)
class CatchSettings:
    """The image and the rewards of Catch.

    Attributes:
      rows: height of the image; an episode has one step less.
      columns: its width.
      channels: of the image; all of them are the same.
      miss_reward: the reward for a ball that is not caught; one that is caught pays 1.
    """

    rows: int = 10
    columns: int = 5
    channels: int = 1
    miss_reward: float = -1.0

    def __post_init__(self) -> None:
        check_integers(self, "rows", least=2)
        check_integers(self, "columns", "channels", least=1)
        check_number(
            "CatchSettings.miss_reward", self.miss_reward, "a number below 1", lambda x: x < 1
        )
