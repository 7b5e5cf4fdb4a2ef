"""Procgen for Acme: one environment behind the interface of dm_env.

The simulator is reached through `ProcgenEnvironment`, so the extra tf-agents is needed beside acme.
"""

from __future__ import annotations

from typing import Any

import dm_env
import numpy as np
from dm_env import specs

from rldarts_tf.envs.episodes import EpisodeStatistics
from rldarts_tf.envs.procgen.batch import OBSERVATION_SHAPE, ProcgenEnvironment
from rldarts_tf.envs.procgen.games import NUM_ACTIONS, check_distribution_mode, return_range
from rldarts_tf.envs.reward import MaximumReturnScale
from rldarts_tf.errors import ConfigError


class DmProcgen(dm_env.Environment):
    """One Procgen environment, as Acme's `EnvironmentLoop` wants it.

    Rewards are divided by the game's maximum return, so that an episode's return is at most about
    1; `episodes` has the raw returns.

    LAST. Procgen starts the next episode inside the step that ends one, and never shows the
    terminal frame. The observation of a time step that is LAST is therefore the first frame of the
    next episode. It never enters a target, for the discount is 0. The `reset` or `step` after it
    gives that same frame as FIRST, so no transition is lost or repeated.

    Reset. In the middle of an episode `reset` abandons it and starts the next one; the abandoned
    one does not count in `episodes`. When no step was taken since FIRST it hands out the same frame
    again.

    Ownership. Each time step has an observation of its own, which may be kept.
    """

    def __init__(
        self,
        game: str,
        *,
        seed: int,
        distribution_mode: str = "easy",
        num_levels: int = 0,
        start_level: int = 0,
        normalize_rewards: bool = True,
        reward_maximum: str | None = None,
        num_threads: int = 0,
        **options: Any,
    ) -> None:
        """Starts the simulator.

        Args:
          game: one of `rldarts_tf.envs.procgen.games.GAMES`.
          seed: decides the sequence of levels and all randomness in them, 0 to 2**31 - 1.
          distribution_mode: "easy" or "hard".
          num_levels: size of the set of levels; 0 is all of them.
          start_level: the first of them.
          normalize_rewards: divide rewards by the game's maximum return; otherwise they are raw.
          reward_maximum: the distribution mode whose maximum return that is; None is the mode in
            use. (The authors of RL-DARTS divide by those of "hard" in "easy" mode too.)
          num_threads: threads of the simulator; none is needed for one environment.
          **options: further arguments of `ProcgenEnvironment`.

        Raises:
          ConfigError: if an argument is not valid, or Procgen cannot be loaded.
        """
        if reward_maximum is None:
            reward_maximum = distribution_mode
        elif not normalize_rewards:
            raise ConfigError(
                f"reward_maximum: {reward_maximum!r} has no effect where normalize_rewards is False"
            )
        else:
            check_distribution_mode(reward_maximum, "reward_maximum")
        self._scale = None
        if normalize_rewards:
            self._scale = MaximumReturnScale([return_range(game, reward_maximum)[1]])
        self._environment = ProcgenEnvironment(
            game,
            1,
            seed=seed,
            distribution_mode=distribution_mode,
            num_levels=num_levels,
            start_level=start_level,
            num_threads=num_threads,
            **options,
        )
        # None: no episode has been handed out, so the next time step is FIRST in any case.
        self._step_type: dm_env.StepType | None = None

    @property
    def game(self) -> str:
        """Name of the game."""
        return self._environment.game

    @property
    def episodes(self) -> EpisodeStatistics:
        """Raw returns and lengths of the episodes."""
        return self._environment.episodes

    def reset(self) -> dm_env.TimeStep:
        """Starts an episode; see the class on what this does in the middle of one."""
        if self._step_type == dm_env.StepType.MID:
            time_step = self._environment.restart_episodes()
        else:
            time_step = self._environment.reset()
        self._step_type = dm_env.StepType.FIRST
        return dm_env.restart(time_step.observation[0])

    def step(self, action: int | np.ndarray) -> dm_env.TimeStep:
        """Plays an action; starts an episode, and ignores the action, if there is none.

        Args:
          action: integer scalar in 0 to 14.

        Returns:
          A time step: observation uint8 [64, 64, 3]; reward and discount float32 scalars, None if
          it is FIRST.

        Raises:
          ValueError: if the action's shape, dtype or range is wrong.
        """
        if self._step_type in (None, dm_env.StepType.LAST):
            return self.reset()
        time_step = self._environment.step(np.asarray(action)[np.newaxis])
        reward = time_step.reward
        if self._scale is not None:
            reward = self._scale(reward)
        self._step_type = dm_env.StepType(int(time_step.step_type[0]))
        return dm_env.TimeStep(
            step_type=self._step_type,
            reward=reward[0],
            discount=time_step.discount[0],
            observation=time_step.observation[0],
        )

    def observation_spec(self) -> specs.BoundedArray:
        """Spec of a frame: uint8 [64, 64, 3] in 0 to 255."""
        return specs.BoundedArray(OBSERVATION_SHAPE, np.uint8, 0, 255, name="observation")

    def action_spec(self) -> specs.DiscreteArray:
        """Spec of an action: int32 scalar in 0 to 14."""
        return specs.DiscreteArray(NUM_ACTIONS, np.int32, name="action")

    def reward_spec(self) -> specs.Array:
        """Spec of a reward: float32 scalar."""
        return specs.Array((), np.float32, name="reward")

    def discount_spec(self) -> specs.BoundedArray:
        """Spec of a discount: float32 scalar, 0 at the end of an episode and 1 otherwise."""
        return specs.BoundedArray((), np.float32, 0.0, 1.0, name="discount")

    def close(self) -> None:
        """Ends the simulator. May be called twice."""
        self._environment.close()
