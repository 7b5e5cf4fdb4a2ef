"""Returns of the latest training episodes, of one game or of several."""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from rldarts_tf.envs.episodes import FinishedEpisodes

Normalize = Callable[[float, str], float]
"""(raw return, game) -> normalized return."""

WINDOW = 100
"""Training returns are means over so many episodes of a game, the latest to end."""


class ReturnTracker:
    """Means over the latest `WINDOW` episodes of each game.

    Where there are several games, means are over the games, each counting alike, and are defined
    once every game has ended an episode.

    Args:
      games: the game of each environment, one name each.
      normalize: such as `Suite.normalized`.
    """

    def __init__(self, games: Sequence[str], normalize: Normalize) -> None:
        self._of_environment = tuple(games)
        self._normalize = normalize
        self._names = tuple(dict.fromkeys(games))
        self._returns = {name: collections.deque[float](maxlen=WINDOW) for name in self._names}
        self._lengths = {name: collections.deque[int](maxlen=WINDOW) for name in self._names}
        self._episodes = 0

    @property
    def episodes(self) -> int:
        """Training episodes that have ended so far."""
        return self._episodes

    @property
    def columns(self) -> tuple[str, ...]:
        """The metrics that `metrics` returns."""
        return (
            "return_mean",
            "return_std",
            "return_mean_normalized",
            "episodes",
            "length_mean",
            *game_columns("return_mean", self._names),
        )

    def add(self, finished: FinishedEpisodes) -> None:
        """Takes episodes that have ended, in the order in which they did."""
        for value, length, i in zip(*finished):
            name = self._of_environment[i]
            self._returns[name].append(float(value))
            self._lengths[name].append(int(length))
        self._episodes += len(finished.returns)

    def metrics(self) -> dict[str, float]:
        """Raw and normalized returns and lengths; NaN until there are any."""
        by_game = {name: _mean(values) for name, values in self._returns.items()}
        return {
            **summarize(by_game, "return_mean", self._normalize),
            "return_std": float(
                np.mean([float(np.std(v)) if v else math.nan for v in self._returns.values()])
            ),
            "episodes": self._episodes,
            "length_mean": float(np.mean([_mean(v) for v in self._lengths.values()])),
        }

    def state(self) -> dict[str, np.ndarray]:
        """State for `set_state`: latest returns and lengths by game, and the count of episodes."""
        return {
            "episodes": np.array(self._episodes, np.int64),
            **{f"returns/{n}": np.array(v, np.float64) for n, v in self._returns.items()},
            **{f"lengths/{n}": np.array(v, np.int64) for n, v in self._lengths.items()},
        }

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores what `state` returned."""
        self._episodes = int(state["episodes"])
        for name in self._names:
            self._returns[name].extend(state[f"returns/{name}"].tolist())
            self._lengths[name].extend(state[f"lengths/{name}"].tolist())


def game_columns(name: str, games: Sequence[str]) -> tuple[str, ...]:
    """Names of a metric by game; none where there is but one game."""
    return tuple(f"{name}_{game}" for game in games) if len(games) > 1 else ()


def summarize(by_game: Mapping[str, float], name: str, normalize: Normalize) -> dict[str, float]:
    """Mean returns by game -> the mean over games, raw and normalized, and each game's own.

    Args:
      by_game: mean raw return of each game.
      name: of the metric.
      normalize: a raw return of a game.
    """
    normalized = [normalize(value, game) for game, value in by_game.items()]
    own = dict(zip(game_columns(name, tuple(by_game)), by_game.values()))
    return {
        name: float(np.mean(list(by_game.values()))),
        f"{name}_normalized": float(np.mean(normalized)),
        **own,
    }


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan
