"""Environments of dm_env, stepped one after another in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dm_env
import numpy as np

from rldarts_tf.closing import check_open
from rldarts_tf.envs.episodes import EpisodeStatistics, check_settings, state_entry
from rldarts_tf.errors import RunError


class SerialBatch:
    """Environments of dm_env as `rldarts_tf.envs.suite.Environments`, for fast simulators.

    States. Environments with `get_state() -> JSON data` and `set_state` resume exactly. Others
    begin new episodes with new seeds, and those that were running are abandoned.

    Args:
      make: makes one environment of a seed, 0 to 2**32 - 1.
      games: the game of each environment, B names.
      seed: decides the seeds of all environments.
      settings: what a saved state must agree with, as JSON takes it.
    """

    last_is_first = False

    def __init__(
        self,
        make: Callable[[int], Any],
        games: Sequence[str],
        seed: int,
        settings: Mapping[str, Any],
    ) -> None:
        self._make = make
        self._games = tuple(games)
        self._seed = seed
        self._settings = dict(settings)
        self.episodes = EpisodeStatistics(len(self._games))
        self._time_step: dm_env.TimeStep | None = None
        self._generation = 0
        self._closed = False
        self._environments = self._started()

    @property
    def batch_size(self) -> int:
        """Number of environments."""
        return len(self._games)

    @property
    def games(self) -> tuple[str, ...]:
        """Game of each environment."""
        return self._games

    def observation_spec(self) -> Any:
        """Spec of one observation."""
        return self._environments[0].observation_spec()

    def action_spec(self) -> Any:
        """Spec of one action."""
        return self._environments[0].action_spec()

    def reset(self) -> dm_env.TimeStep:
        """Starts a new episode everywhere; those that were running do not count in `episodes`."""
        check_open(not self._closed)
        self.episodes.discard_running()
        return self._join([environment.reset() for environment in self._environments])

    def step(self, action: np.ndarray) -> dm_env.TimeStep:
        """Plays one action per environment, [B, ...]; resets if there has been no reset."""
        check_open(not self._closed)
        if self._time_step is None:
            return self.reset()
        joined = self._join([e.step(a) for e, a in zip(self._environments, action)])
        self.episodes.add(joined.reward, joined.step_type == dm_env.StepType.LAST)
        self.episodes.discard_running(joined.step_type == dm_env.StepType.FIRST)
        return joined

    def current_time_step(self) -> dm_env.TimeStep:
        """The latest time step; that of `reset` if there has been none."""
        return self.reset() if self._time_step is None else self._time_step

    def counters(self) -> dict[str, float]:
        """There are none."""
        return {}

    def get_state(self) -> dict[str, np.ndarray]:
        """Returns arrays: those of the latest time step, of `episodes` and of the environments."""
        time_step = self.current_time_step()
        state = {
            "settings": np.array(json.dumps(self._settings, sort_keys=True)),
            "generation": np.array(self._generation, np.int64),
            **time_step._asdict(),
            **self.episodes.state(),
        }
        if hasattr(self._environments[0], "get_state"):
            texts = [json.dumps(environment.get_state()) for environment in self._environments]
            state["environments"] = np.array(texts)
        return state

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores what `get_state` returned; see the class.

        Raises:
          RunError: the state is incomplete or was taken with other settings. Nothing is then
            changed.
        """
        check_settings(state, self._settings)
        generation = state_entry(state, "generation", np.int64, ())
        current = self.current_time_step()
        time_step = dm_env.TimeStep(
            *(
                state_entry(state, name, value.dtype, value.shape)
                for name, value in current._asdict().items()
            )
        )
        texts = state.get("environments")
        if texts is not None and texts.shape != (self.batch_size,):
            raise RunError(f"environment state: 'environments' has the shape {texts.shape}")
        self.episodes.set_state(state)
        if texts is None:
            self._generation = int(generation) + 1
            self._close_all()
            self._environments = self._started()
            self.reset()
            return
        for environment, text in zip(self._environments, texts):
            environment.set_state(json.loads(str(text)))
        self._generation, self._time_step = int(generation), time_step

    def close(self) -> None:
        """Closes the environments. May be called twice."""
        self._closed = True
        self._close_all()

    def _close_all(self) -> None:
        for environment in self._environments:
            environment.close()

    def _started(self) -> list[Any]:
        seeds = [environment_seed(self._seed, i, self._generation) for i in range(self.batch_size)]
        return [self._make(seed) for seed in seeds]

    def _join(self, steps: Sequence[dm_env.TimeStep]) -> dm_env.TimeStep:
        # FIRST of dm_env has neither reward nor discount.
        self._time_step = dm_env.TimeStep(
            np.array([step.step_type for step in steps], np.int32),
            np.array([step.reward or 0.0 for step in steps], np.float32),
            np.array([1.0 if step.first() else step.discount for step in steps], np.float32),
            np.stack([step.observation for step in steps]),
        )
        return self._time_step


def environment_seed(seed: int, index: int, generation: int) -> int:
    """The seed of one environment of a batch, 0 to 2**32 - 1.

    Args:
      seed: of the batch.
      index: of the environment in it.
      generation: how often it was started before.
    """
    return int(np.random.SeedSequence([seed, index, generation]).generate_state(1)[0])
