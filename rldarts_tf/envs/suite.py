"""Interface between training programs and environment families.

A program knows an `Environments` and a `Suite` and no simulator, so any algorithm trains in any
family whose actions it can choose.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import importlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from rldarts_tf.envs.episodes import EpisodeStatistics
from rldarts_tf.envs.reward import MaximumReturnScale
from rldarts_tf.errors import ConfigError


class Environments(Protocol):
    """B environments that step together.

    Time steps have the fields of `dm_env.TimeStep`, each an array with a row per environment:
      step_type: int32 [B], the values of `dm_env.StepType`.
      reward: raw rewards, float32 [B]; 0 where the step is FIRST.
      discount: float32 [B]; 0 where an episode terminated, and 1 everywhere else. An episode that
        was cut off, by a time limit for one, therefore ends with LAST and 1: a value function
        may look beyond its last observation. The agent's own discount γ is not in it.
      observation: [B, ...].

    The step after LAST depends on `last_is_first`. If it is False, as in dm_env, LAST shows the
    episode's own last observation, and the next `step` ignores that environment's action and gives
    FIRST of the next episode. If it is True, LAST already shows the first observation of the next
    episode: no FIRST follows, no action is ignored, and as the last observation of an episode is
    never seen, its discount must be 0.

    FIRST may also come where no LAST was, when a simulator was replaced: the episode that was
    running has no end then.

    Attributes:
      episodes: returns and lengths of the episodes that have ended, updated by every `step`.
      last_is_first: see above; the same for all environments and all time.
    """

    episodes: EpisodeStatistics
    last_is_first: bool

    @property
    def batch_size(self) -> int:
        """B, the number of environments."""

    @property
    def games(self) -> tuple[str, ...]:
        """Game of each environment, B names."""

    def observation_spec(self) -> Any:
        """Spec of one observation: an object with shape and dtype, such as `dm_env.specs.Array`."""

    def action_spec(self) -> Any:
        """Spec of one action, also with minimum and maximum: see `num_actions`, `check_box`."""

    def reset(self) -> Any:
        """Returns the first time step."""

    def step(self, action: np.ndarray) -> Any:
        """Takes one action per environment [B, ...]; returns the next time step."""

    def current_time_step(self) -> Any:
        """Returns the latest time step, that of `reset` if there has been none."""

    def counters(self) -> dict[str, float]:
        """Totals for metrics.csv by name, such as {"crashes": 2}; the names never change."""

    def get_state(self) -> dict[str, np.ndarray]:
        """Returns the state for a checkpoint, as arrays by name."""

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores what `get_state` returned, or begins new episodes after it."""

    def close(self) -> None:
        """Closes the simulators; may be called twice."""


class EvaluationSet(NamedTuple):
    """Environments to evaluate in."""

    shown: str
    """Words for it in tables, such as "unseen levels"."""
    overrides: Mapping[str, Any] = {}
    """Arguments of `Suite.make` that differ from training."""


class Suite(abc.ABC):
    """A family of environments, as settings describe it.

    Args:
      settings: of the class `settings_class`.
    """

    settings_class: ClassVar[type]
    """Frozen dataclass, configurable by gin, whose name tells which suite a config.gin is of.

    It has a property `games`, unless the suite itself names its games.
    """

    flags: ClassVar[Mapping[str, tuple[str, str]]] = {}
    """Flags of a launcher: by name, (the field of the settings that it sets, help)."""

    import_flag: ClassVar[str | None] = None
    """Another name of the flag --import, where games may be registered by modules of the user."""

    known_games: ClassVar[tuple[str, ...] | None] = None
    """Every game of the family; None: there is no list."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @property
    def games(self) -> tuple[str, ...]:
        """Names of the games or tasks; by default those of the settings."""
        return tuple(self.settings.games)

    @property
    @abc.abstractmethod
    def label(self) -> str:
        """Short name of the games, for the name of a run directory."""

    @abc.abstractmethod
    def make(self, num_envs: int, seed: int, **overrides: Any) -> Environments:
        """Makes environments.

        Args:
          num_envs: number of environments, of all games together.
          seed: of the simulators.
          **overrides: those of an `EvaluationSet`; without any, environments to train in.
        """

    @property
    def variant(self) -> str:
        """Words in tables beside the names of the games, such as "easy"; may be empty."""
        return ""

    @property
    def frames(self) -> int:
        """Frames in an observation, one after another along its channels, the newest last."""
        return 1

    @property
    def evaluation_sets(self) -> dict[str, EvaluationSet]:
        """The sets to evaluate on, by name; "test" must be one, and is that of summaries."""
        return {"test": EvaluationSet("fresh episodes")}

    @functools.cached_property
    def _specs(self) -> tuple[Any, Any]:
        environments = self.make(len(self.games), seed=0)
        try:
            return environments.observation_spec(), environments.action_spec()
        finally:
            environments.close()

    def observation_spec(self) -> Any:
        """Spec of one observation; environments are started for it where there is no other way."""
        return self._specs[0]

    def action_spec(self) -> Any:
        """Spec of one action; environments are started for it where there is no other way."""
        return self._specs[1]

    def maximum_return(self, game: str, reference: str | None = None) -> float:
        """Returns about the best return of a game, by which rewards are divided; 1 by default.

        Args:
          game: its name.
          reference: which of several published values; None: that of the settings.

        Raises:
          ConfigError: there is no such reference.
        """
        del game
        if reference is not None:
            raise ConfigError(
                f"reward_maximum: {reference!r} is not supported: {', '.join(self.games)} has one "
                "maximum return only"
            )
        return 1.0

    def missing_maximum(self, game: str) -> str | None:
        """The setting that could give the best return of a game, where it is not known."""
        del game
        return None

    def reward_scale(
        self, games: Sequence[str], reference: str | None = None
    ) -> MaximumReturnScale:
        """Returns the scale for algorithms that want returns of at most about 1.

        Args:
          games: the game of each environment, B names.
          reference: see `maximum_return`.
        """
        return MaximumReturnScale([self.maximum_return(game, reference) for game in games])

    def normalized(self, episode_return: float, game: str) -> float:
        """Maps a raw return to a scale where 1 is about the best."""
        return episode_return / self.maximum_return(game)

    def fit(self, algorithm: Any) -> Any:
        """Returns the settings of an algorithm with the values that depend on the games filled in.

        Args:
          algorithm: has a method `for_games(games, known_games)`, and may have a `reward_maximum`,
            the reference of its `reward_scale`.

        Raises:
          ConfigError: they do not go together.
        """
        reference = getattr(algorithm, "reward_maximum", None)
        try:
            self.maximum_return(self.games[0], reference)
        except ConfigError as error:
            raise ConfigError(f"{type(algorithm).__name__}.{error}") from None
        return algorithm.for_games(self.games, self.known_games)

    def describe(self) -> dict[str, Any]:
        """Entries of summary.json that describe the environments."""
        return {
            "game": ", ".join(self.games),
            "variant": self.variant,
            "evaluations": {name: chosen.shown for name, chosen in self.evaluation_sets.items()},
        }

    def check(self) -> None:  # noqa: B027 - most know nothing of the kind
        """Raises a ConfigError for what only the simulator's library knows to be wrong."""


def num_actions(action_spec: Any, algorithm: str) -> int:
    """Returns the number of actions of environments whose actions are integers from 0.

    Args:
      action_spec: of one action.
      algorithm: its name, for the message.

    Raises:
      ConfigError: the actions are of another kind.
    """
    discrete = np.issubdtype(action_spec.dtype, np.integer) and tuple(action_spec.shape) == ()
    if not discrete or np.any(np.asarray(action_spec.minimum) != 0):
        raise ConfigError(
            f"{algorithm} chooses among discrete actions, and those of these environments are "
            f"{_shown(action_spec)}"
        )
    return int(action_spec.maximum) + 1


def check_box(action_spec: Any, algorithm: str) -> None:
    """Checks that actions are float vectors [A] in -1 to 1.

    Args:
      action_spec: of one action.
      algorithm: its name, for the message.

    Raises:
      ConfigError: they are not.
    """
    continuous = np.issubdtype(action_spec.dtype, np.floating) and len(action_spec.shape) == 1
    if not (
        continuous
        and np.all(np.asarray(action_spec.minimum) == -1)
        and np.all(np.asarray(action_spec.maximum) == 1)
    ):
        raise ConfigError(
            f"{algorithm} has continuous actions in -1 to 1, and those of these environments are "
            f"{_shown(action_spec)}"
        )


def _shown(spec: Any) -> str:
    if np.issubdtype(spec.dtype, np.integer):
        kind = f"integers from {np.min(spec.minimum)} to {np.max(spec.maximum)}"
    else:
        kind = f"{np.dtype(spec.dtype).name} in {np.min(spec.minimum)} to {np.max(spec.maximum)}"
    return f"{kind}, of shape {tuple(spec.shape)}"


_SUITES: dict[str, type[Suite]] = {}
# Imported when one is asked for: each needs its simulator's frameworks.
_MODULES = {
    "CatchSettings": "rldarts_tf.envs.catch.suite",
    "DMControlSettings": "rldarts_tf.envs.dm_control.suite",
    "GymnasiumSettings": "rldarts_tf.envs.gymnasium.suite",
    "PlantedSettings": "rldarts_tf.envs.planted.suite",
    "ProcgenSettings": "rldarts_tf.envs.procgen.suite",
}


def register_suite(suite: type[Suite]) -> type[Suite]:
    """Decorator: the suite is that of every config.gin with settings of its class."""
    _SUITES[suite.settings_class.__name__] = suite
    return suite


def suite_names() -> tuple[str, ...]:
    """Names of the settings classes of all suites."""
    return tuple(dict.fromkeys([*_MODULES, *_SUITES]))


def suite_of(settings_name: str) -> type[Suite]:
    """Returns the suite whose settings class has this name, one of `suite_names`."""
    if settings_name not in _SUITES:
        importlib.import_module(_MODULES[settings_name])
    return _SUITES[settings_name]


def games_of(settings_name: str, values: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the games of a suite; needs none of the simulators of those of the package.

    Args:
      settings_name: one of `suite_names`.
      values: its settings. Those that this version does not know are left out.

    Raises:
      ConfigError: a value is not valid.
    """
    suite = _SUITES.get(settings_name)
    kind: Any = (
        suite.settings_class if suite else getattr(_settings_module(settings_name), settings_name)
    )
    known = {field.name for field in dataclasses.fields(kind)}
    settings = kind(**{name: value for name, value in values.items() if name in known})
    return suite(settings).games if suite else tuple(settings.games)


def import_settings() -> None:
    """Imports the settings of every suite of the package, which needs none of their simulators.

    gin then knows their names, also in files that serve launchers of several suites.
    """
    for name in _MODULES:
        _settings_module(name)


def _settings_module(settings_name: str) -> Any:
    return importlib.import_module(f"{_MODULES[settings_name].rpartition('.')[0]}.settings")
