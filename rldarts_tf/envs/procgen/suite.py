"""Procgen as a `Suite`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from typing_extensions import override

from rldarts_tf.envs.procgen.batch import ACTION_SPEC, OBSERVATION_SPEC, ProcgenBatch
from rldarts_tf.envs.procgen.games import (
    GAMES,
    check_distribution_mode,
    normalized_return,
    return_range,
)
from rldarts_tf.envs.procgen.joint import make_procgen
from rldarts_tf.envs.procgen.settings import ProcgenSettings
from rldarts_tf.envs.suite import EvaluationSet, Suite, register_suite
from rldarts_tf.envs.watchdog import Watchdog


@register_suite
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
    known_games = GAMES
    settings: ProcgenSettings

    @property
    @override
    def label(self) -> str:
        return self.settings.label

    @property
    @override
    def variant(self) -> str:
        return self.settings.distribution_mode

    @property
    @override
    def evaluation_sets(self) -> dict[str, EvaluationSet]:
        """Unseen levels, and those of training.

        With all levels in training (num_levels = 0) unseen levels are the same distribution as
        training levels, and only one set is needed.
        """
        sets = {"test": EvaluationSet("unseen levels", {"num_levels": 0, "start_level": 0})}
        if self.settings.num_levels:
            sets["train"] = EvaluationSet("training levels")
        return sets

    @override
    def observation_spec(self) -> Any:
        return OBSERVATION_SPEC

    @override
    def action_spec(self) -> Any:
        return ACTION_SPEC

    @override
    def make(self, num_envs: int, seed: int, **overrides: Any) -> ProcgenBatch:
        levels = {**self.settings.levels, **overrides}
        environment = make_procgen(self.games, num_envs, seed=seed, **levels)
        environment.guard = Watchdog(
            self.settings.step_timeout, f"the simulator of {', '.join(self.games)}"
        )
        return environment

    @override
    def maximum_return(self, game: str, reference: str | None = None) -> float:
        """R_max of Cobbe et al. 2020; the reference is "easy" or "hard"."""
        if reference is not None:
            check_distribution_mode(reference, "reward_maximum")
        return return_range(game, reference or self.settings.distribution_mode)[1]

    @override
    def normalized(self, episode_return: float, game: str) -> float:
        """Normalized return of Cobbe et al. 2020."""
        return normalized_return(episode_return, game, self.settings.distribution_mode)

    @override
    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "distribution_mode": self.settings.distribution_mode}
