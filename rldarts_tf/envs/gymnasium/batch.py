"""Gymnasium's vector environments as `Environments`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import dm_env
import numpy as np
from dm_env import specs

from rldarts_tf.checks import check_integer
from rldarts_tf.envs.episodes import EpisodeStatistics, check_settings, state_entry
from rldarts_tf.envs.gymnasium.boundaries import Boundaries
from rldarts_tf.envs.gymnasium.images import ImageLayout
from rldarts_tf.envs.gymnasium.registry import load_gymnasium
from rldarts_tf.envs.gymnasium.settings import GymnasiumSettings
from rldarts_tf.envs.gymnasium.vector import Stepper, make_vector
from rldarts_tf.errors import ConfigError, RunError

# Leaves room for a seed of each environment above it, in 31 bits.
_SEEDS = 2**30


class GymnasiumBatch:
    """Environments of one id that step together.

    Time steps are `dm_env.TimeStep` with arrays, a row per environment, that belong to the caller:
      step_type: int32 [B], the values of `dm_env.StepType`.
      reward: float32 [B], 0 where the step is FIRST; clipped where that is asked for.
      discount: float32 [B], 0 where an episode terminated, 1 where it was truncated and elsewhere.
      observation: [B, H, W, C], uint8, bool or float32; see `ImageLayout`.

    Episode boundaries are those of dm_env, for each environment by itself: LAST has the true final
    observation, and the step after it ignores its action and is FIRST of the next episode. A vector
    environment that begins the next episode earlier hides its first step: see `boundaries`.

    Failures. An exception of an environment, or in a process of its own its death or silence, is a
    `RunError` and closes the batch. In this process its crash is this one's, and its silence ends
    this one with one line (`Watchdog`).

    States. What an environment holds is not saved: only few can, and by pickling, which executes
    code when it is read. After `set_state` new episodes begin, with seeds that were not used
    before, and those that were running are abandoned.

    Attributes:
      episodes: returns and lengths, in rewards that are not clipped, updated by `step`.
    """

    last_is_first = False

    def __init__(
        self,
        vector: Any,
        name: str,
        *,
        seed: int,
        layout: ImageLayout | None = None,
        reward_clip: float | None = None,
        timeout: float = 300.0,
    ) -> None:
        """Takes a vector environment, which is this batch's from now on.

        Args:
          vector: a `gymnasium.vector.VectorEnv`, in any autoreset mode.
          name: its id.
          seed: decides the seeds of all environments, at least 0.
          layout: where the images stand in observations.
          reward_clip: bound on the size of rewards, or None.
          timeout: seconds that a step may take.

        Raises:
          ConfigError: an argument is not valid, or observations or actions are of a kind that
            agents here do not take.
        """
        layout = layout or ImageLayout()
        self._seed = check_integer("seed:", seed, least=0)
        self._observation_spec = layout.spec(vector.single_observation_space)
        self._actions = _actions(vector.single_action_space)
        self._boundaries = Boundaries(vector, layout)
        self._stepper = Stepper(vector, name, timeout)
        self._size = vector.num_envs
        self._name = name
        self._reward_clip = reward_clip
        self._generation = 0
        self._seeded = False
        self._time_step: dm_env.TimeStep | None = None
        self.episodes = EpisodeStatistics(self._size)

    @property
    def batch_size(self) -> int:
        """Number of environments."""
        return self._size

    @property
    def games(self) -> tuple[str, ...]:
        """Id of each environment."""
        return (self._name,) * self._size

    def observation_spec(self) -> specs.Array:
        """Spec of one image [H, W, C]: uint8, bool or float32."""
        return self._observation_spec

    def action_spec(self) -> specs.Array:
        """Spec of one action: int32 from 0 on, or float32 [A] in -1 to 1."""
        return self._actions.spec

    def counters(self) -> dict[str, float]:
        """Nothing is counted."""
        return {}

    def reset(self) -> dm_env.TimeStep:
        """Starts a new episode in all environments, the first time with their seeds.

        Episodes that were running do not count in `episodes`.
        """
        sequence = np.random.SeedSequence([self._seed, self._generation])
        seed = None if self._seeded else int(sequence.generate_state(1)[0]) % _SEEDS
        self._time_step = self._boundaries.first(self._stepper.reset(seed))
        self._check_images(self._time_step.observation)
        self._seeded = True
        self.episodes.discard_running()
        return self._time_step

    def step(self, action: np.ndarray) -> dm_env.TimeStep:
        """Plays one action per environment; resets if there has been no reset.

        Args:
          action: integers [B], or finite floats [B, A], which are clipped to -1 to 1.

        Raises:
          ValueError: the shape, dtype or range is wrong. Nothing is then stepped.
          RunError: an environment fails.
        """
        actions = self._actions.played(np.asarray(action), self._size)
        if self._time_step is None:
            return self.reset()
        step = self._stepper.step(actions, self._boundaries.next)
        if not np.isfinite(step.rewards).all():
            raise RunError(f"the simulator {self._name} gave a reward that is not finite")
        self._check_images(step.time_step.observation)
        self.episodes.add(step.rewards, step.ended)
        self.episodes.discard_running(~step.played)
        time_step = step.time_step
        if self._reward_clip is not None:
            clipped = np.clip(time_step.reward, -self._reward_clip, self._reward_clip)
            time_step = time_step._replace(reward=clipped)
        self._time_step = time_step
        return time_step

    def _check_images(self, images: np.ndarray) -> None:
        # Learning would fail of them too, and blame the learning rate.
        if images.dtype == np.float32 and not np.isfinite(images).all():
            raise RunError(f"the simulator {self._name} gave an observation that is not finite")

    def current_time_step(self) -> dm_env.TimeStep:
        """The latest time step; that of `reset` if there has been none."""
        return self.reset() if self._time_step is None else self._time_step

    def get_state(self) -> dict[str, np.ndarray]:
        """Returns what can be saved; see the class.

        Returns:
          Arrays that `np.savez` takes: `settings` (the id, JSON text), `generation` (int64 scalar:
          how many states were restored), and the entries of `EpisodeStatistics.state`.
        """
        return {
            "settings": np.array(json.dumps({"env": self._name})),
            "generation": np.array(self._generation, np.int64),
            **self.episodes.state(),
        }

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Begins new episodes everywhere, after those of `get_state`, here or in another process.

        Raises:
          RunError: the state is incomplete or is of other environments. Nothing is then changed.
        """
        check_settings(state, {"env": self._name})
        generation = int(state_entry(state, "generation", np.int64, ()))
        if generation < 0:
            raise RunError("environment state: 'generation' is negative")
        self.episodes.set_state(state)
        self._generation = generation + 1
        self._seeded = False
        self.reset()

    def close(self) -> None:
        """Closes the environments. May be called twice."""
        self._stepper.close()


def make_gymnasium(settings: GymnasiumSettings, num_envs: int, *, seed: int) -> GymnasiumBatch:
    """Makes environments as settings describe them.

    Raises:
      ConfigError: an argument is not valid, or the environment cannot be made.
    """
    num_envs = check_integer("num_envs:", num_envs, least=1)
    vector = make_vector(settings, num_envs)
    from rldarts_tf.envs.gymnasium.wrapping import layout_of

    try:
        return GymnasiumBatch(
            vector,
            settings.env,
            seed=seed,
            layout=layout_of(settings),
            reward_clip=settings.reward_clip,
            timeout=settings.step_timeout,
        )
    except BaseException:
        vector.close()
        raise


def _actions(space: Any) -> _DiscreteActions | _BoxActions:
    """How actions are given to environments of an action space.

    Raises:
      ConfigError: agents here have no such actions.
    """
    # Not by the attribute n, which MultiBinary has too.
    if isinstance(space, load_gymnasium().spaces.Discrete):
        return _DiscreteActions(space)
    if hasattr(space, "low") and np.issubdtype(space.dtype, np.floating) and len(space.shape) == 1:
        if not np.isfinite([space.low, space.high]).all():
            raise ConfigError("env: box actions must have bounds")
        return _BoxActions(space)
    raise ConfigError(f"env: actions must be Discrete or a Box [A] of floats, not {space}")


class _DiscreteActions:
    """Integers from 0 on, whatever the space begins with."""

    def __init__(self, space: Any) -> None:
        self.spec = specs.DiscreteArray(int(space.n), np.int32, name="action")
        self._start = int(getattr(space, "start", 0))

    def played(self, action: np.ndarray, size: int) -> np.ndarray:
        """Checks actions [B]; returns those of the space, int64 [B]."""
        if action.shape != (size,) or not np.issubdtype(action.dtype, np.integer):
            raise ValueError(
                f"action: must be integers of shape ({size},), "
                f"not {action.dtype} of shape {action.shape}"
            )
        if action.min() < 0 or action.max() >= self.spec.num_values:
            raise ValueError(
                f"action: must lie in 0 to {self.spec.num_values - 1}, "
                f"not {action.min()} to {action.max()}"
            )
        return action.astype(np.int64) + self._start


class _BoxActions:
    """Vectors in -1 to 1, mapped to the bounds of the space."""

    def __init__(self, space: Any) -> None:
        self.spec = specs.BoundedArray(space.shape, np.float32, -1.0, 1.0, name="action")
        self._low, self._high, self._dtype = space.low, space.high, space.dtype

    def played(self, action: np.ndarray, size: int) -> np.ndarray:
        """Checks actions [B, A]; returns those of the space."""
        if action.shape != (size, *self.spec.shape):
            raise ValueError(
                f"action: must have the shape {(size, *self.spec.shape)}, not {action.shape}"
            )
        if not np.isfinite(action).all():
            raise ValueError("action: must be finite, in -1 to 1")
        share = (np.clip(action, -1.0, 1.0) + 1) / 2
        # The difference of the bounds may overflow, and what is rounded may lie outside of them.
        played = self._low * (1 - share) + self._high * share
        return np.clip(played, self._low, self._high).astype(self._dtype)
