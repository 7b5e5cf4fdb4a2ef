"""Base class of the settings of an algorithm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from rldarts_tf.errors import ConfigError
from rldarts_tf.settings_fields import Settings

AUGMENTATIONS = {"shift": 4 / 84, "crop": 12 / 64}
"""By the name of an augmentation, how far images are shifted at most, as a share of their shorter
side: by 4 of DrQ's 84 pixels, by 12 of DrAC's 64."""


class AlgorithmSettings(Settings):
    """Settings of an algorithm, beside it and apart from TensorFlow.

    Attributes:
      num_envs: environments, stepped together.
      minibatch: the field with the transitions of a gradient step; None: the program knows no
        devices, and has no argument `devices`.
      has_held_out: whether its program has a loss on experience apart from that of training.
    """

    num_envs: int
    minibatch: ClassVar[str | None] = None
    has_held_out: ClassVar[bool] = False

    def for_games(self, names: Sequence[str], known_games: Sequence[str] | None = None) -> Any:
        """These settings with the values that depend on the games; most have none.

        Args:
          names: the games.
          known_games: the only games that settings by game may name; None: any.

        Raises:
          ConfigError: there are fewer environments than games.
        """
        del known_games
        if self.num_envs < len(names):
            raise ConfigError(
                f"{type(self).__name__}.num_envs = {self.num_envs} must be at least the number "
                f"of games, {len(names)}"
            )
        return self

    def check_devices(self, count: int) -> None:
        """Raises what would be wrong with gradient steps that so many devices share.

        Raises:
          ConfigError: the algorithm has no such steps, or the devices no equal shares.
        """
        name = type(self).__name__
        if self.minibatch is None:
            raise ConfigError(
                f"TrainingSettings.devices = {count} must be 1: {name} knows one device only"
            )
        size = getattr(self, self.minibatch)
        if size % count:
            raise ConfigError(
                f"{name}.{self.minibatch} = {size} must be a multiple of "
                f"TrainingSettings.devices = {count}"
            )
