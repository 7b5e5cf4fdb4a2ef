"""Catch, the smallest game that can be learned from pixels alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dm_env
import numpy as np
from dm_env import specs


class Catch(dm_env.Environment):
    """A ball falls straight down; the paddle below must be under it when it arrives.

    The image is black, the ball and the paddle (one pixel in the bottom row) are white. An episode
    begins with the ball in the top row, both in columns drawn uniformly, and takes `rows - 1`
    steps: in each one the paddle moves first and stops at the walls, then the ball falls by a row.
    The reward is 0 until the last step, and then 1 for a ball that is caught, else `miss_reward`.

    A perfect player has a mean return of 1 if `columns <= rows`. Standing still catches 1 ball in
    `columns`, and a random player hardly more (10 x 5: about 0.2, a mean return of -0.6).

    Args:
      rows: H, the height of the image; at least 2.
      columns: W, its width.
      channels: C; all of them are the same.
      seed: of the columns in which balls and paddles start.
      miss_reward: the last reward if the ball is not caught.

    Raises:
      ValueError: the image would have no room for a ball above a paddle.
    """

    def __init__(
        self,
        rows: int = 10,
        columns: int = 5,
        channels: int = 1,
        *,
        seed: int,
        miss_reward: float = -1.0,
    ) -> None:
        if rows < 2 or columns < 1 or channels < 1:
            raise ValueError(f"no image for Catch: {rows} x {columns} x {channels}")
        self._shape = (rows, columns, channels)
        self._miss_reward = miss_reward
        self._rng = np.random.default_rng(seed)
        self._over = True
        self._ball_row = self._ball_column = self._paddle_column = 0

    def reset(self) -> dm_env.TimeStep:
        """The first frame of a new episode."""
        self._over = False
        self._ball_row = 0
        self._ball_column, self._paddle_column = (
            int(column) for column in self._rng.integers(self._shape[1], size=2)
        )
        return dm_env.restart(self._image())

    def step(self, action: int) -> dm_env.TimeStep:
        """Moves the paddle left (0), not at all (1) or right (2).

        After the end of an episode the action is not used, and the next one begins.
        """
        if self._over:
            return self.reset()
        if not 0 <= action <= 2:
            raise ValueError(f"action must be 0, 1 or 2, got {action}")
        rows, columns, _ = self._shape
        self._paddle_column = min(max(self._paddle_column + int(action) - 1, 0), columns - 1)
        self._ball_row += 1
        self._over = self._ball_row == rows - 1
        caught = self._over and self._paddle_column == self._ball_column
        reward = 1.0 if caught else self._miss_reward if self._over else 0.0
        # Of the specs' type: replay tables take nothing else.
        return dm_env.TimeStep(
            dm_env.StepType.LAST if self._over else dm_env.StepType.MID,
            reward=np.float32(reward),
            discount=np.float32(not self._over),
            observation=self._image(),
        )

    def get_state(self) -> dict[str, Any]:
        """Returns everything that an exact resume needs, as JSON takes it."""
        return {
            "random": self._rng.bit_generator.state,
            "over": self._over,
            "ball": [self._ball_row, self._ball_column],
            "paddle": self._paddle_column,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restores what `get_state` returned."""
        self._rng.bit_generator.state = state["random"]
        self._over = state["over"]
        self._ball_row, self._ball_column = state["ball"]
        self._paddle_column = state["paddle"]

    def observation_spec(self) -> specs.BoundedArray:
        """One image, uint8 [H, W, C]."""
        return specs.BoundedArray(self._shape, np.uint8, 0, 255, name="image")

    def action_spec(self) -> specs.DiscreteArray:
        """Three actions, int32."""
        return specs.DiscreteArray(3, np.int32, name="action")

    def reward_spec(self) -> specs.Array:
        """A float32 scalar, as the rewards are."""
        return specs.Array((), np.float32, name="reward")

    def discount_spec(self) -> specs.BoundedArray:
        """A float32 scalar, 0 at the end of an episode and else 1."""
        return specs.BoundedArray((), np.float32, 0.0, 1.0, name="discount")

    def _image(self) -> np.ndarray:
        image = np.zeros(self._shape, np.uint8)
        image[self._ball_row, self._ball_column] = 255
        image[-1, self._paddle_column] = 255
        return image
