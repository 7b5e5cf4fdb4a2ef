"""Returns and lengths of episodes of a batch of environments; reading of saved states."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from rldarts_tf.errors import ConfigError, RunError


class FinishedEpisodes(NamedTuple):
    """Episodes that ended, in the order of the steps that ended them, then of environments."""

    returns: np.ndarray
    """Undiscounted sums of raw rewards, float64 [episodes]."""
    lengths: np.ndarray
    """Numbers of steps, int64 [episodes]."""
    environments: np.ndarray
    """Index of the environment that played each, int64 [episodes]."""


class EpisodeStatistics:
    """Tracks return and length of every episode of environments that step together.

    Finished episodes are handed out by the `add` that finishes them and also wait in a queue for
    `take`, so that one consumer may look at every step and another only now and then. Short
    episodes finish first: a mean over the first to finish is biased towards them, which
    `FinishedEpisodes.environments` lets an evaluation avoid by taking equally many of each.
    """

    def __init__(self, num_envs: int) -> None:
        """Starts with no steps counted.

        Args:
          num_envs: number of environments.

        Raises:
          ConfigError: if num_envs < 1.
        """
        if num_envs < 1:
            raise ConfigError(f"num_envs: must be at least 1, not {num_envs}")
        self._returns = np.zeros(num_envs, np.float64)
        self._lengths = np.zeros(num_envs, np.int64)
        self._finished: list[FinishedEpisodes] = []

    def add(self, rewards: np.ndarray, ended: np.ndarray) -> FinishedEpisodes:
        """Counts one step of all environments.

        Args:
          rewards: raw rewards, float [B].
          ended: bool [B], True where this step ended the episode.

        Returns:
          The episodes that this step ended; they are queued too.

        Raises:
          ValueError: if a shape is not [B].
        """
        rewards = np.asarray(rewards)
        ended = np.asarray(ended, bool)
        if rewards.shape != self._returns.shape or ended.shape != self._returns.shape:
            raise ValueError(
                f"rewards {rewards.shape} and ended {ended.shape} must have the shape "
                f"{self._returns.shape}"
            )
        self._returns += rewards
        self._lengths += 1
        environments = np.flatnonzero(ended)
        finished = FinishedEpisodes(
            self._returns[environments], self._lengths[environments], environments
        )
        if environments.size:
            self._returns[environments] = 0.0
            self._lengths[environments] = 0
            self._finished.append(finished)
        return finished

    def discard_running(self, environments: np.ndarray | slice = slice(None)) -> None:
        """Forgets the steps of episodes that have not finished, as if these began now.

        Args:
          environments: which ones, as numpy indexes them; all by default.
        """
        self._returns[environments] = 0.0
        self._lengths[environments] = 0

    def take(self) -> FinishedEpisodes:
        """Returns the episodes finished since the last call, and empties the queue."""
        finished = self._peek()
        self._finished = []
        return finished

    def _peek(self) -> FinishedEpisodes:
        """Returns the queue as one record."""
        if not self._finished:
            return FinishedEpisodes(
                np.zeros(0, np.float64), np.zeros(0, np.int64), np.zeros(0, np.int64)
            )
        return FinishedEpisodes(*map(np.concatenate, zip(*self._finished)))

    def state(self) -> dict[str, np.ndarray]:
        """Returns running sums [B] and the queue [episodes] as arrays that `np.savez` takes."""
        finished = self._peek()
        return {
            "running_returns": self._returns.copy(),
            "running_lengths": self._lengths.copy(),
            "finished_returns": finished.returns,
            "finished_lengths": finished.lengths,
            "finished_environments": finished.environments,
        }

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores what `state` returned.

        Raises:
          RunError: if an entry is missing or has a wrong shape. Nothing is then changed.
        """
        returns = state_entry(state, "running_returns", np.float64, self._returns.shape)
        lengths = state_entry(state, "running_lengths", np.int64, self._lengths.shape)
        finished_returns = state_entry(state, "finished_returns", np.float64, (None,))
        queued = finished_returns.shape
        finished = FinishedEpisodes(
            finished_returns,
            state_entry(state, "finished_lengths", np.int64, queued),
            state_entry(state, "finished_environments", np.int64, queued),
        )
        self._returns, self._lengths = returns, lengths
        self._finished = [finished] if finished.returns.size else []


def state_entry(
    state: Mapping[str, np.ndarray], name: str, dtype: type, shape: tuple[int | None, ...]
) -> np.ndarray:
    """Returns a copy of one entry of a saved state, or raises `RunError`; None is any size."""
    if name not in state:
        raise RunError(f"environment state: {name!r} is missing")
    value = np.asarray(state[name])
    fits = value.ndim == len(shape) and all(
        want is None or have == want for have, want in zip(value.shape, shape)
    )
    if value.dtype != dtype or not fits:
        raise RunError(
            f"environment state: {name!r} is {value.dtype} of shape {value.shape}, "
            f"not {np.dtype(dtype)} of shape {shape}"
        )
    return value.copy()


def check_settings(state: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> None:
    """Raises `RunError` unless a saved state was taken with these settings.

    Args:
      state: its entry `settings` is the JSON text of those it was taken with.
      settings: of the environments that it is to be restored into.
    """
    if "settings" not in state:
        raise RunError("environment state: 'settings' is missing")
    try:
        saved = dict(json.loads(str(state["settings"])))
    except (TypeError, ValueError) as error:
        raise RunError("environment state: 'settings' is not a JSON object") from error
    for name, value in settings.items():
        if saved.get(name) != value:
            raise RunError(
                f"environment state: {name} was {saved.get(name)!r} and is {value!r} here"
            )
