"""Settings of the Procgen games, configurable by gin."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Sequence
from typing import Any

import gin

from rldarts_tf.checks import INT32_MAX, check_integers, check_seconds
from rldarts_tf.envs.procgen import games
from rldarts_tf.errors import ConfigError


@gin.configurable(module="rldarts_tf")
@dataclasses.dataclass(frozen=True)
class ProcgenSettings:
    """Games and levels.

    Attributes:
      game: one of the 16 games; or several, as a list or separated by commas, that one learner
        plays at once; or "all".
      distribution_mode: "easy" or "hard".
      num_levels: size of the set of training levels; 0 is all of them.
      start_level: the first of them.
      step_timeout: seconds that a step of all environments may take; a run whose simulator does not
        answer in time ends.
    """

    game: str | Sequence[str] = "starpilot"
    distribution_mode: str = "easy"
    num_levels: int = 0
    start_level: int = 0
    step_timeout: float = 300.0

    def __post_init__(self) -> None:
        games.check_games(self.game)
        games.check_distribution_mode(self.distribution_mode)
        check_integers(self, "num_levels", "start_level", least=0, most=INT32_MAX)
        if self.start_level and not self.num_levels:
            raise ConfigError("ProcgenSettings.start_level has no effect where num_levels is 0")
        check_seconds("ProcgenSettings.step_timeout", self.step_timeout)

    @property
    def games(self) -> tuple[str, ...]:
        """The names of the games."""
        return games.check_games(self.game)

    @property
    def label(self) -> str:
        """Name of the games in run directories; different games have different labels."""
        names = self.games
        if names == games.GAMES:
            return "all"
        joined = "+".join(names)
        if len(names) <= 3:
            return joined
        return f"{len(names)}games-{zlib.crc32(joined.encode()):08x}"

    @property
    def levels(self) -> dict[str, Any]:
        """The arguments of `make_procgen` that choose the levels."""
        return {
            "distribution_mode": self.distribution_mode,
            "num_levels": self.num_levels,
            "start_level": self.start_level,
        }
