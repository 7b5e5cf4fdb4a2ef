"""A suite of the tests: actions of either kind, and episodes that end in both ways."""

from __future__ import annotations

import dataclasses
from typing import Any

import dm_env
import numpy as np
from dm_env import specs

from rldarts_tf.envs.serial import SerialBatch
from rldarts_tf.envs.suite import Suite, register_suite

STEP = dm_env.StepType


@dataclasses.dataclass(frozen=True)
class AimingSettings:
    """Whether an action is one of three, or a float in -1 to 1; and the size of the image."""

    continuous: bool = False
    size: int = 4


class Aiming(dm_env.Environment):
    """One pixel of an image is white: the column to aim at, from left (-1) to right (1).

    The reward is minus the distance, plus a number of the step. An episode ends in each step with
    probability 1/4: it terminates or is cut off, each as often.
    """

    def __init__(self, settings: AimingSettings, seed: int) -> None:
        self._settings = settings
        self._rng = np.random.default_rng(seed)
        self._over = True

    def reset(self):
        self._over = False
        self._draw()
        return dm_env.restart(self._image)

    def step(self, action):
        if self._over:
            return self.reset()
        aimed = float(np.reshape(action, ())) - (not self._settings.continuous)
        distance = abs(np.clip(aimed, -1, 1) - self._target)
        reward = np.float32(self._rng.uniform() - distance)
        self._over = bool(self._rng.random() < 0.25)
        terminated = self._over and bool(self._rng.random() < 0.5)
        self._draw()
        return dm_env.TimeStep(
            STEP.LAST if self._over else STEP.MID, reward, np.float32(not terminated), self._image
        )

    def observation_spec(self):
        size = self._settings.size
        return specs.BoundedArray((size, size, 1), np.uint8, 0, 255, "image")

    def action_spec(self):
        if self._settings.continuous:
            return specs.BoundedArray((1,), np.float32, -1, 1, "action")
        return specs.DiscreteArray(3, np.int32, "action")

    def _draw(self):
        size = self._settings.size
        row, column = self._rng.integers(size, size=2)
        self._target = 2 * column / (size - 1) - 1
        self._image = np.zeros((size, size, 1), np.uint8)
        self._image[row, column] = 255


@register_suite
class AimingSuite(Suite):
    settings_class = AimingSettings
    games = ("aiming",)
    label = "aiming"

    def make(self, num_envs: int, seed: int, **overrides: Any) -> SerialBatch:
        return SerialBatch(
            lambda seed: Aiming(self.settings, seed),
            self.games * num_envs,
            seed,
            {"game": "aiming"},
        )
