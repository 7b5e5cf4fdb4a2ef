"""What a training program asks of a family of environments: to train in, to evaluate in, names."""

from __future__ import annotations

from typing import Any

from rldarts_tf.envs.joint import make_procgen
from rldarts_tf.envs.procgen import ProcgenBatch
from rldarts_tf.settings import ProcgenSettings


class ProcgenSuite:
    """Procgen games as settings describe them.

    Args:
      settings: games and levels.
    """

    def __init__(self, settings: ProcgenSettings) -> None:
        self.settings = settings

    @property
    def games(self) -> tuple[str, ...]:
        """The names of the games."""
        return self.settings.games

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
        """Makes environments.

        Args:
          num_envs: N, of all games together.
          seed: of the simulators.
          **overrides: an entry of `evaluation_sets`; without it, training levels.
        """
        levels = {**self.settings.levels, **overrides}
        return make_procgen(self.games, num_envs, seed=seed, **levels)

    def describe(self) -> dict[str, str]:
        """The entries of summary.json that name the environments."""
        return {"game": ", ".join(self.games), "distribution_mode": self.distribution_mode}
