"""Settings of the Procgen games, configurable by gin."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import gin

from rldarts_tf.checks import INT32_MAX, check_seconds
from rldarts_tf.envs.procgen import games
from rldarts_tf.errors import ConfigError
from rldarts_tf.settings_fields import Settings, setting


@gin.configurable(module="rldarts_tf")
@dataclasses.dataclass(frozen=True)
class ProcgenSettings(Settings):
    """Games and levels.

    A run whose simulator does not answer within `step_timeout` ends.
    """

    game: str | Sequence[str] = setting(
        "starpilot",
        "one of the 16 games; or several, as a list or separated by commas, that one learner plays "
        'at once; or "all"',
        check=lambda field, value: _kept(value, games.check_games),
    )
    distribution_mode: str = setting(
        "easy",
        '"easy" or "hard"',
        check=lambda field, value: _kept(value, games.check_distribution_mode),
    )
    num_levels: int = setting(
        0, "size of the set of training levels; 0 is all of them", least=0, most=INT32_MAX
    )
    start_level: int = setting(0, "the first of them", least=0, most=INT32_MAX)
    step_timeout: float = setting(
        300.0, "seconds that a step of all environments may take", check=check_seconds
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start_level and not self.num_levels:
            raise ConfigError("ProcgenSettings.start_level has no effect where num_levels is 0")

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


def _kept(value: Any, check: Callable[[Any], Any]) -> Any:
    """Returns the value as it is, after a check whose messages name their field themselves."""
    check(value)
    return value
