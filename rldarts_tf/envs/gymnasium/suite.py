"""Gymnasium as a `Suite`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from typing_extensions import override

from rldarts_tf.envs.gymnasium.batch import GymnasiumBatch, make_gymnasium
from rldarts_tf.envs.gymnasium.registry import find_spec
from rldarts_tf.envs.gymnasium.settings import GymnasiumSettings
from rldarts_tf.envs.suite import Suite, register_suite


@register_suite
class GymnasiumSuite(Suite):
    """An environment of Gymnasium, by its id.

    Args:
      settings: the environment.
    """

    settings_class = GymnasiumSettings
    flags: ClassVar[Mapping[str, tuple[str, str]]] = {
        "env_name": (
            "env",
            "Id of a registered environment, such as MinAtar/Breakout-v1. (GymnasiumSettings.env)",
        ),
    }
    import_flag = "env_module"
    settings: GymnasiumSettings

    @property
    @override
    def label(self) -> str:
        return self.settings.label

    @property
    @override
    def frames(self) -> int:
        return self.settings.frame_stack

    @override
    def make(self, num_envs: int, seed: int, **overrides: Any) -> GymnasiumBatch:
        settings = dataclasses.replace(self.settings, **overrides)
        return make_gymnasium(settings, num_envs, seed=seed)

    @override
    def maximum_return(self, game: str, reference: str | None = None) -> float:
        """The best return of `GymnasiumSettings.reference_returns`, if it is given and positive."""
        default = super().maximum_return(game, reference)
        best = self._best()
        return default if best is None else best

    @override
    def missing_maximum(self, game: str) -> str | None:
        return None if self._best() is not None else "GymnasiumSettings.reference_returns"

    def _best(self) -> float | None:
        known = self.settings.reference
        return None if known is None or known[1] <= 0 else known[1]

    @override
    def normalized(self, episode_return: float, game: str) -> float:
        """(return - random) / (best - random), or the return itself; see the settings."""
        del game
        if self.settings.reference is None:
            return episode_return
        random, best = self.settings.reference
        return (episode_return - random) / (best - random)

    @override
    def check(self) -> None:
        """Raises a ConfigError if there is no such id."""
        find_spec(self.settings.env)
