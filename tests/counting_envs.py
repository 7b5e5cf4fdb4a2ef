"""Gymnasium environments for the tests: images that count, and simulators that fail."""

from __future__ import annotations

import os
import signal
import sys
import time

import gymnasium
import numpy as np
from gymnasium import spaces

IMAGE = (2, 3, 1)


class Counting(gymnasium.Env):
    """Images that tell which step of which episode of which environment they are.

    Pixel values are (a number drawn at reset, the episode, the step, the last action, ...), so that
    two steps are never alike. Episode number e of a seed lasts a number of steps drawn from
    `lengths`; it terminates if that is even, and is truncated if it is odd. The reward of a step is
    its number in the episode, plus a tenth of the action.

    Args:
      lengths: least and greatest number of steps, inclusive.
      dictionary: observations are a `Dict` with the image in "camera".
      in_place: observations are one array, written into again and again, as simulators do.
      fault: what a step does where the action is 2: "raise", "key" (a KeyError), "exit 3",
        "die" or "hang".
      start: the first of the three actions.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own convention

    def __init__(self, lengths=(1, 4), dictionary=False, in_place=False, fault=None, start=0):
        self._lengths, self._dictionary, self._fault = lengths, dictionary, fault
        self._in_place = in_place
        box = spaces.Box(0, 255, IMAGE, np.uint8)
        self.observation_space = (
            spaces.Dict({"camera": box, "speed": spaces.Box(-1, 1, (1,))}) if dictionary else box
        )
        self.action_space = spaces.Discrete(3, start=start)
        self._start = start
        self._image = np.zeros(IMAGE, np.uint8)
        self._episode = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self._episode = 0
        self._episode += 1
        self._step = 0
        self._tag = int(self.np_random.integers(200))
        self._length = int(self.np_random.integers(self._lengths[0], self._lengths[1] + 1))
        return self._observation(0), {}

    def step(self, action):
        action = int(action) - self._start
        if self._fault == "raise" and action == 2:
            raise ValueError("the wheel\ncame off")
        if self._fault == "key" and action == 2:
            raise KeyError("wheel")
        if (self._fault or "").startswith("exit") and action == 2:
            sys.exit(int(self._fault.split()[1]))
        if self._fault == "die" and action == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._fault == "hang" and action == 2:
            time.sleep(600)
        self._step += 1
        over = self._step == self._length
        terminated, truncated = over and self._length % 2 == 0, over and self._length % 2 == 1
        reward = self._step + action / 10
        return self._observation(action), reward, terminated, truncated, {}

    def _observation(self, action):
        self._image.flat[:] = (self._tag, self._episode % 256, self._step, action, 0, 1)
        image = self._image if self._in_place else self._image.copy()
        if self._dictionary:
            return {"camera": image, "speed": np.zeros(1, np.float32)}
        return image


class Blank(gymnasium.Env):
    """Images drawn from a seed, of any shape, dtype and actions; 5 steps an episode."""

    def __init__(self, space, action_space=None):
        self.observation_space = space
        self.action_space = action_space or spaces.Discrete(2)
        self.played = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self._step = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.played.append(action)
        self._step += 1
        return self.observation_space.sample(), 1.0, self._step == 5, False, {}


gymnasium.register("RLDartsTest/Counting-v0", entry_point=Counting)
