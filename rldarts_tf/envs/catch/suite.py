"""Catch as a `Suite`."""

from __future__ import annotations

import dataclasses
from typing import Any

from typing_extensions import override

from rldarts_tf.envs.catch.environment import Catch
from rldarts_tf.envs.catch.settings import CatchSettings
from rldarts_tf.envs.serial import SerialBatch
from rldarts_tf.envs.suite import Suite, register_suite


@register_suite
class CatchSuite(Suite):
    """Catch, of one size.

    Args:
      settings: of the image and the rewards.
    """

    settings_class = CatchSettings
    settings: CatchSettings

    @property
    @override
    def label(self) -> str:
        return f"catch_{self.settings.rows}x{self.settings.columns}"

    @property
    @override
    def variant(self) -> str:
        return f"{self.settings.rows} x {self.settings.columns}"

    @override
    def make(self, num_envs: int, seed: int, **overrides: Any) -> SerialBatch:
        options = dataclasses.asdict(dataclasses.replace(self.settings, **overrides))
        return SerialBatch(
            lambda seed: Catch(**options, seed=seed),
            self.games * num_envs,
            seed,
            {"game": "catch", **options},
        )
