"""Procgen as a `Suite`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from rldarts_tf.envs.procgen.batch import ProcgenBatch
from rldarts_tf.envs.procgen.games import normalized_return
from rldarts_tf.envs.procgen.joint import make_procgen
from rldarts_tf.envs.suite import Suite
from rldarts_tf.envs.watchdog import Watchdog
from rldarts_tf.training.settings import ProcgenSettings


class ProcgenSuite(Suite):
    """Procgen games.

    Args:
      settings: games and levels.
    """

    settings_class = ProcgenSettings
    flags: ClassVar[Mapping[str, tuple[str, str]]] = {
        "env_name": (
            "game",
            "Procgen game; or several, separated by commas, or all, for one cell that is searched "
            "jointly. (ProcgenSettings.game; default starpilot)",
        )
    }
    settings: ProcgenSettings

    @property
    def games(self) -> tuple[str, ...]:
        """The names of the games."""
        return self.settings.games

    @property
    def label(self) -> str:
        """See `Suite`."""
        return self.settings.label

    @property
    def distribution_mode(self) -> str:
        """Either "easy" or "hard"."""
        return self.settings.distribution_mode

    @property
    def evaluation_sets(self) -> dict[str, dict[str, int]]:
        """The sets of levels to evaluate on: by name, what differs from those of training.

        With all levels in training (num_levels = 0) unseen levels are the same distribution as
        training levels, and only one set is needed.
        """
        unseen = {"test": {"num_levels": 0, "start_level": 0}}
        return {**unseen, "train": {}} if self.settings.num_levels else unseen

    def make(self, num_envs: int, seed: int, **overrides: Any) -> ProcgenBatch:
        """See `Suite`."""
        levels = {**self.settings.levels, **overrides}
        environment = make_procgen(self.games, num_envs, seed=seed, **levels)
        environment.guard = Watchdog(
            self.settings.step_timeout, f"the simulator of {', '.join(self.games)}"
        )
        return environment

    def normalized(self, episode_return: float, game: str) -> float:
        """Normalized return of Cobbe et al. 2020."""
        return normalized_return(episode_return, game, self.distribution_mode)

    def fit(self, algorithm: Any) -> Any:
        """See `Suite`."""
        return algorithm.for_games(self.games)

    def describe(self) -> dict[str, Any]:
        """See `Suite`."""
        return {"game": ", ".join(self.games), "distribution_mode": self.distribution_mode}
