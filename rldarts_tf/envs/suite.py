"""What a training program asks of a family of environments: to train in, to evaluate in, names."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from rldarts_tf.envs.episodes import EpisodeStatistics


class Environments(Protocol):
    """N environments that step together; time steps have N leading everywhere.

    Attributes:
      episodes: returns and lengths of the episodes that have ended.
    """

    episodes: EpisodeStatistics

    @property
    def batch_size(self) -> int:
        """N."""

    @property
    def games(self) -> tuple[str, ...]:
        """What each environment plays, N names."""

    def observation_spec(self) -> Any:
        """Of one environment: an object with a shape and a dtype."""

    def reset(self) -> Any:
        """The first time step."""

    def step(self, action: np.ndarray) -> Any:
        """One action of each environment: the next time step."""

    def current_time_step(self) -> Any:
        """The latest time step."""

    def get_state(self) -> dict[str, np.ndarray]:
        """What a checkpoint holds."""

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes on from what `get_state` returned."""

    def close(self) -> None:
        """Ends the simulators; may be called twice."""


class Suite(abc.ABC):
    """Environments as settings describe them."""

    @property
    @abc.abstractmethod
    def games(self) -> tuple[str, ...]:
        """The names of what is played."""

    @property
    @abc.abstractmethod
    def label(self) -> str:
        """The same for the name of a run directory."""

    @property
    @abc.abstractmethod
    def evaluation_sets(self) -> dict[str, dict[str, Any]]:
        """Where to evaluate: by name, what differs from training."""

    @abc.abstractmethod
    def make(self, num_envs: int, seed: int, **overrides: Any) -> Environments:
        """Makes environments.

        Args:
          num_envs: N, of all games together.
          seed: of the simulators.
          **overrides: an entry of `evaluation_sets`; without it, those to train in.
        """

    @abc.abstractmethod
    def normalized(self, episode_return: float, game: str) -> float:
        """A raw return on a scale where 1 is about the best."""

    @abc.abstractmethod
    def fit(self, algorithm: Any) -> Any:
        """The settings of an algorithm with what depends on the games chosen.

        Raises:
          ConfigError: they do not go together.
        """

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """The entries of summary.json that name the environments."""

    def check(self) -> None:  # noqa: B027 - most know nothing of the kind
        """Raises a ConfigError for what only the simulator's library knows to be wrong."""
