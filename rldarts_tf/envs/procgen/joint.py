"""Several Procgen games in one batch: one learner, with experience from a list of games."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rldarts_tf.checks import INT32_MAX, check_integer
from rldarts_tf.envs.procgen.batch import ProcgenBatch, ProcgenEnvironment
from rldarts_tf.envs.procgen.games import check_games
from rldarts_tf.errors import ConfigError

# Threads of one simulator, and about as many of all together. Measured with 64 environments on 2
# cores: with 16 games one thread each was fastest, 1.5 times as fast as none and nearly twice as
# fast as one game after the other; with 4 games four each were, for the slow games need them.
_MOST_THREADS = 4
_MOST_THREADS_TOGETHER = 16


class JointEnvironment(ProcgenBatch):
    """Several `ProcgenEnvironment`s that step together, one after another along the batch.

    Everything that `ProcgenBatch` says holds for all environments together: time steps,
    `episodes` and states are those of one batch. `games` tells which environment plays what.

    All simulators are sent their actions before the first is waited for, so that they compute at
    the same time.
    """

    def __init__(self, environments: Sequence[ProcgenEnvironment]) -> None:
        """Joins environments. They are this one's from now on: not to be stepped on their own.

        Args:
          environments: at least one; of any sizes and games, with otherwise equal settings.

        Raises:
          ConfigError: there is none, or a setting differs.
        """
        if not environments:
            raise ConfigError("environments: there must be at least one")
        self._environments = tuple(environments)
        parts = [environment._settings for environment in self._environments]
        settings = {}
        for name, value in parts[0].items():
            values = [part[name] for part in parts]
            if name in ("game", "num_envs"):
                settings[name] = values
            elif all(other == value for other in values):
                settings[name] = value
            else:
                raise ConfigError(f"{name}: must be equal in all environments, not {values}")
        super().__init__([game for part in environments for game in part.games], settings)
        # Where the batch is cut: before the first environment of every game but the first.
        self._cuts = np.cumsum(settings["num_envs"])[:-1]

    def _act(self, action: np.ndarray) -> None:
        for environment, part in zip(self._environments, np.split(action, self._cuts)):
            environment._act(part)

    def _observe(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        parts = [environment._observe() for environment in self._environments]
        rewards, frames, ended = map(np.concatenate, zip(*parts))
        return rewards, frames, ended

    def _get_simulators(self) -> list[bytes]:
        return [state for part in self._environments for state in part._get_simulators()]

    def _set_simulators(self, states: list[bytes]) -> None:
        remaining = iter(states)
        for environment in self._environments:
            environment._set_simulators([next(remaining) for _ in environment.games])

    def get_info(self) -> dict[str, np.ndarray]:
        """Returns what Procgen tells about the levels; see `ProcgenBatch.get_info`."""
        parts = [environment.get_info() for environment in self._environments]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def close(self) -> None:
        """Ends all simulators and their threads. May be called twice."""
        for environment in self._environments:
            environment.close()


def make_procgen(
    games: Sequence[str],
    num_envs: int,
    *,
    seed: int,
    num_threads: int | None = None,
    **options: Any,
) -> ProcgenEnvironment | JointEnvironment:
    """Makes environments of one game or of several.

    Every game's simulator gets the same seed, so what an environment plays depends on its game and
    its place among the environments of that game, not on the games beside it.

    Args:
      games: different names from `games.GAMES`, such as `ProcgenSettings.games`.
      num_envs: number of environments of all games together; divided as evenly as possible, the
        first games have one more.
      seed: of each simulator.
      num_threads: threads of each simulator; by default 4, or fewer where there are more than 4
        games. The result does not depend on it.
      **options: further arguments of `ProcgenEnvironment`, for all games.

    Returns:
      A `ProcgenEnvironment` for one game, a `JointEnvironment` for several, in their order.

    Raises:
      ConfigError: an argument is not valid, or there are fewer environments than games.
    """
    games = check_games(games)
    if num_threads is None:
        num_threads = min(_MOST_THREADS, _MOST_THREADS_TOGETHER // len(games))
    if len(games) == 1:
        return ProcgenEnvironment(games[0], num_envs, seed=seed, num_threads=num_threads, **options)
    if check_integer("num_envs:", num_envs, 0, INT32_MAX) < len(games):
        raise ConfigError(
            f"num_envs: must be at least the number of games, {len(games)}, not {num_envs}"
        )
    size, larger = divmod(num_envs, len(games))
    return JointEnvironment(
        [
            ProcgenEnvironment(
                game, size + (i < larger), seed=seed, num_threads=num_threads, **options
            )
            for i, game in enumerate(games)
        ]
    )
