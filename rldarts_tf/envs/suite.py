"""Interface between training programs and environment families."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import numpy as np

from rldarts_tf.envs.episodes import EpisodeStatistics


class Environments(Protocol):
    """Environments that step together; time steps have a row per environment.

    Attributes:
      episodes: returns and lengths of the episodes that have ended.
    """

    episodes: EpisodeStatistics

    @property
    def batch_size(self) -> int:
        """Number of environments."""

    @property
    def games(self) -> tuple[str, ...]:
        """Game of each environment, one name each."""

    def observation_spec(self) -> Any:
        """Observation spec of one environment: an object with a shape and a dtype."""

    def reset(self) -> Any:
        """Returns the first time step."""

    def step(self, action: np.ndarray) -> Any:
        """Takes one action per environment [B, ...]; returns the next time step."""

    def current_time_step(self) -> Any:
        """The latest time step."""

    def get_state(self) -> dict[str, np.ndarray]:
        """State for a checkpoint, as arrays by name."""

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores what `get_state` returned."""

    def close(self) -> None:
        """Closes the simulators; may be called twice."""


class Suite(abc.ABC):
    """A family of environments, as settings describe it.

    Args:
      settings: of the class `settings_class`.
    """

    settings_class: ClassVar[type]
    """Frozen dataclass, configurable by gin."""

    flags: ClassVar[Mapping[str, tuple[str, str]]] = {}
    """Flags of a launcher: by name, (the field of the settings that it sets, help)."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @property
    @abc.abstractmethod
    def games(self) -> tuple[str, ...]:
        """Names of the games or tasks."""

    @property
    @abc.abstractmethod
    def label(self) -> str:
        """Short name of the games, for the name of a run directory."""

    @property
    @abc.abstractmethod
    def evaluation_sets(self) -> dict[str, dict[str, Any]]:
        """Evaluation sets: by name, the arguments of `make` that differ from training."""

    @abc.abstractmethod
    def make(self, num_envs: int, seed: int, **overrides: Any) -> Environments:
        """Makes environments.

        Args:
          num_envs: number of environments, of all games together.
          seed: of the simulators.
          **overrides: an entry of `evaluation_sets`; without it, those to train in.
        """

    @abc.abstractmethod
    def normalized(self, episode_return: float, game: str) -> float:
        """Maps a raw return to a scale where 1 is about the best."""

    @abc.abstractmethod
    def fit(self, algorithm: Any) -> Any:
        """Returns the settings of an algorithm with the values that depend on the games filled in.

        Raises:
          ConfigError: they do not go together.
        """

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """Entries of summary.json that describe the environments."""

    def check(self) -> None:  # noqa: B027 - most know nothing of the kind
        """Raises a ConfigError for what only the simulator's library knows to be wrong."""
