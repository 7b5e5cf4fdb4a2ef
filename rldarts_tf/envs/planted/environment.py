"""A planted benchmark as episodes of one step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dm_env
import numpy as np
from dm_env import specs

from rldarts_tf.envs.planted.images import SIDE, TASKS

_AT_ONCE = 16


class Planted(dm_env.Environment):
    """An image is shown; an action names its class, and the episode ends.

    The reward is 1 for the right class, else 0: that of a random player is 1 / classes. LAST shows
    the same image.

    Args:
      task: name of one of `TASKS`.
      seed: of the images.
    """

    def __init__(self, task: str = "distance", *, seed: int) -> None:
        self._task = TASKS[task]
        self._rng = np.random.default_rng(seed)
        self._draw()
        self._over = True

    def reset(self) -> dm_env.TimeStep:
        """Shows the next image."""
        self._shown += 1
        if self._shown == len(self._images):
            self._draw()
        self._over = False
        return dm_env.restart(self._images[self._shown])

    def step(self, action: int) -> dm_env.TimeStep:
        """Ends the episode with an answer; after its end the action is not used, as in Catch."""
        if self._over:
            return self.reset()
        if not 0 <= action < self._task.num_classes:
            raise ValueError(f"action must be 0 to {self._task.num_classes - 1}, got {action}")
        self._over = True
        # Of the specs' type: replay tables take nothing else.
        return dm_env.TimeStep(
            dm_env.StepType.LAST,
            np.float32(action == self._labels[self._shown]),
            np.float32(0),
            self._images[self._shown],
        )

    def _draw(self) -> None:
        """Draws the next images: many at once, which takes little longer than one."""
        self._before = self._rng.bit_generator.state
        self._images, self._labels = self._task.sample(self._rng, _AT_ONCE)
        self._shown = 0

    def get_state(self) -> dict[str, Any]:
        """Returns everything that an exact resume needs, as JSON takes it."""
        return {"random": self._before, "shown": self._shown, "over": self._over}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restores what `get_state` returned."""
        self._rng.bit_generator.state = state["random"]
        self._draw()
        self._shown, self._over = state["shown"], state["over"]

    def observation_spec(self) -> specs.BoundedArray:
        """One image, uint8."""
        return specs.BoundedArray((SIDE, SIDE, self._task.planes), np.uint8, 0, 255, name="image")

    def action_spec(self) -> specs.DiscreteArray:
        """The classes, int32."""
        return specs.DiscreteArray(self._task.num_classes, np.int32, name="action")

    def reward_spec(self) -> specs.Array:
        """A float32 scalar, 0 or 1."""
        return specs.Array((), np.float32, name="reward")

    def discount_spec(self) -> specs.BoundedArray:
        """A float32 scalar, 0 at the end of an episode and else 1."""
        return specs.BoundedArray((), np.float32, 0.0, 1.0, name="discount")
