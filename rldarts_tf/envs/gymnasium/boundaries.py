"""Boundaries of episodes: from Gymnasium's autoreset modes to those of dm_env.

A step of a dm_env environment is FIRST, MID or LAST. LAST has the final observation of its episode,
and the step after it ignores its action and gives the first observation of the next one.

A vector environment begins the next episode

* NEXT_STEP: in the step after the one that ends an episode, which ignores its action: as dm_env.
* SAME_STEP: in the step that ends an episode; the final observation stands in the infos.
* DISABLED: when it is told to.

In the last two, all environments step together after that, those that have just begun included. The
first step of an episode is then hidden: it plays the action that was chosen at the final
observation of the episode before, its observation is the one that is FIRST, and its reward counts
in the return of the episode but belongs to no transition. (Should it also end the episode, FIRST is
the first observation of the one after.)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import dm_env
import numpy as np

from rldarts_tf.envs.gymnasium.images import ImageLayout
from rldarts_tf.errors import ConfigError

NEXT_STEP = "NextStep"
SAME_STEP = "SameStep"
DISABLED = "Disabled"
"""The values of `gymnasium.vector.AutoresetMode`."""


class Step(NamedTuple):
    """One step of B environments."""

    time_step: dm_env.TimeStep
    """Arrays, a row per environment; rewards float32 [B], as the environments gave them."""
    played: np.ndarray
    """bool [B], True where an action was played."""
    rewards: np.ndarray
    """Of what was played, float64 [B]; 0 elsewhere."""
    ended: np.ndarray
    """bool [B], True where what was played ended an episode."""


def autoreset_mode(vector: Any) -> str:
    """The mode of a vector environment: `NEXT_STEP`, `SAME_STEP` or `DISABLED`.

    Raises:
      ConfigError: it does not say.
    """
    mode = vector.metadata.get("autoreset_mode")
    mode = getattr(mode, "value", mode)
    if mode not in (NEXT_STEP, SAME_STEP, DISABLED):
        raise ConfigError(
            f"env: a vector environment must say its autoreset_mode in its metadata, not {mode!r}"
        )
    return mode


class Boundaries:
    """Turns what a vector environment returns into time steps, whatever its autoreset mode is.

    Args:
      vector: the vector environment, `gymnasium.vector.VectorEnv`. It is stepped elsewhere.
      layout: of the images in its observations.

    Raises:
      ConfigError: the environment does not say its autoreset mode.
    """

    def __init__(self, vector: Any, layout: ImageLayout) -> None:
        self._vector = vector
        self._layout = layout
        self._mode = autoreset_mode(vector)
        self._after_last = np.zeros(vector.num_envs, bool)

    def first(self, observation: Any) -> dm_env.TimeStep:
        """Time step of what a reset of all environments returned."""
        self._after_last[:] = False
        return dm_env.TimeStep(
            step_type=np.full(len(self._after_last), dm_env.StepType.FIRST, np.int32),
            reward=np.zeros(len(self._after_last), np.float32),
            discount=np.ones(len(self._after_last), np.float32),
            observation=self._layout.images(self._layout.entry(observation)),
        )

    def next(self, returned: tuple[Any, Any, Any, Any, dict[str, Any]]) -> Step:
        """Time step of what a step of all environments returned."""
        observation, reward, terminated, truncated, infos = returned
        begun = self._after_last
        terminated, truncated = np.array(terminated, bool), np.array(truncated, bool)
        played = ~begun if self._mode == NEXT_STEP else np.ones_like(begun)
        rewards = np.where(played, np.asarray(reward, np.float64), 0.0)
        ended = (terminated | truncated) & played
        last = ended & ~begun
        images = self._observe(observation, infos, ended, last)
        self._after_last = last
        step_type = np.where(last, dm_env.StepType.LAST, dm_env.StepType.MID)
        time_step = dm_env.TimeStep(
            step_type=np.where(begun, dm_env.StepType.FIRST, step_type).astype(np.int32),
            reward=np.where(begun, 0.0, rewards).astype(np.float32),
            discount=np.where(last & terminated, 0.0, 1.0).astype(np.float32),
            observation=images,
        )
        return Step(time_step, played, rewards, ended)

    def _observe(
        self, observation: Any, infos: dict[str, Any], ended: np.ndarray, last: np.ndarray
    ) -> np.ndarray:
        """Images after a step: final ones where it is LAST; begins episodes where that is due."""
        entry = self._layout.entry
        if self._mode == NEXT_STEP or not ended.any():
            return self._layout.images(entry(observation))
        if self._mode == SAME_STEP:
            final = [entry(one) for one in entry(infos["final_obs"])[last]]
        else:
            # Copies: the environment may go on writing into the same array.
            final = [one.copy() for one in entry(observation)[last]]
            observation, _ = self._vector.reset(options={"reset_mask": ended})
        images = self._layout.images(entry(observation))
        if final:
            images[last] = self._layout.images(np.stack(final))
        return images
