"""Planted benchmarks as a `Suite`."""

from __future__ import annotations

from typing import Any

from typing_extensions import override

from rldarts_tf.envs.planted.environment import Planted
from rldarts_tf.envs.planted.settings import PlantedSettings
from rldarts_tf.envs.serial import SerialBatch
from rldarts_tf.envs.suite import Suite, register_suite


@register_suite
class PlantedSuite(Suite):
    """Images of one task, one to an episode.

    Args:
      settings: which task.
    """

    settings_class = PlantedSettings
    settings: PlantedSettings

    @property
    @override
    def games(self) -> tuple[str, ...]:
        return (self.settings.task,)

    @property
    @override
    def label(self) -> str:
        return f"planted_{self.settings.task}"

    @override
    def make(self, num_envs: int, seed: int, **overrides: Any) -> SerialBatch:
        del overrides  # The set to evaluate on differs by its seed alone.
        task = self.settings.task
        return SerialBatch(
            lambda seed: Planted(task, seed=seed), self.games * num_envs, seed, {"planted": task}
        )
