"""Names and return ranges of the 16 Procgen games.

Standard library only, so that a wrong game name is reported without loading Procgen.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from rldarts_tf.errors import ConfigError

NUM_ACTIONS = 15
"""Number of discrete actions; the same for every game."""

RETURN_RANGES: dict[str, dict[str, tuple[float, float]]] = {
    "easy": {
        "bigfish": (1.0, 40.0),
        "bossfight": (0.5, 13.0),
        "caveflyer": (3.5, 12.0),
        "chaser": (0.5, 13.0),
        "climber": (2.0, 12.6),
        "coinrun": (5.0, 10.0),
        "dodgeball": (1.5, 19.0),
        "fruitbot": (-1.5, 32.4),
        "heist": (3.5, 10.0),
        "jumper": (3.0, 10.0),
        "leaper": (3.0, 10.0),
        "maze": (5.0, 10.0),
        "miner": (1.5, 13.0),
        "ninja": (3.5, 10.0),
        "plunder": (4.5, 30.0),
        "starpilot": (2.5, 64.0),
    },
    "hard": {
        "bigfish": (0.0, 40.0),
        "bossfight": (0.5, 13.0),
        "caveflyer": (2.0, 13.4),
        "chaser": (0.5, 14.2),
        "climber": (1.0, 12.6),
        "coinrun": (5.0, 10.0),
        "dodgeball": (1.5, 19.0),
        "fruitbot": (-0.5, 27.2),
        "heist": (2.0, 10.0),
        "jumper": (1.0, 10.0),
        "leaper": (1.5, 10.0),
        "maze": (4.0, 10.0),
        "miner": (1.5, 20.0),
        "ninja": (2.0, 10.0),
        "plunder": (3.0, 30.0),
        "starpilot": (1.5, 35.0),
    },
}
"""(low, high) returns per distribution mode and game, from Cobbe et al. 2020 (arXiv:1912.01588)."""

GAMES: tuple[str, ...] = tuple(RETURN_RANGES["easy"])
"""The 16 games in alphabetical order."""

DISTRIBUTION_MODES: tuple[str, ...] = tuple(RETURN_RANGES)
"""The level distributions that have published return ranges and that all games support."""


def check_game(game: str) -> str:
    """Returns `game` if Procgen has it.

    Raises:
      ConfigError: otherwise; the message names the nearest game, or all of them.
    """
    if game in GAMES:
        return game
    near = difflib.get_close_matches(str(game).strip().lower(), GAMES, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(GAMES)}"
    raise ConfigError(f"game: there is no Procgen game {game!r}; {hint}")


def check_games(value: str | Sequence[str]) -> tuple[str, ...]:
    """Returns the games that a setting means.

    Args:
      value: a name, several separated by commas, a list or tuple of names, or "all".

    Raises:
      ConfigError: if a name is unknown or repeated, or there is none.
    """
    if value == "all":
        return GAMES
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",")]
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"game: must be a name, a list of names or 'all', not {value!r}")
    if not value:
        raise ConfigError("game: there must be at least one")
    for i, game in enumerate(value):
        if check_game(game) in value[:i]:
            raise ConfigError(f"game: {game!r} is listed twice")
    return tuple(value)


def check_distribution_mode(distribution_mode: str, field: str = "distribution_mode") -> str:
    """Returns `distribution_mode` if it is supported.

    Args:
      distribution_mode: the value of a setting.
      field: the setting, for the message.

    Raises:
      ConfigError: if it is neither "easy" nor "hard".
    """
    if distribution_mode in DISTRIBUTION_MODES:
        return distribution_mode
    raise ConfigError(
        f"{field}: {distribution_mode!r} is not supported; "
        f"choose one of {', '.join(DISTRIBUTION_MODES)}"
    )


def return_range(game: str, distribution_mode: str) -> tuple[float, float]:
    """Returns the (low, high) returns of a game.

    Args:
      game: one of `GAMES`.
      distribution_mode: "easy" or "hard".

    Raises:
      ConfigError: if either is unknown.
    """
    return RETURN_RANGES[check_distribution_mode(distribution_mode)][check_game(game)]


def normalized_return(episode_return: float, game: str, distribution_mode: str) -> float:
    """Maps a raw episode return so that low becomes 0 and high becomes 1.

    (return - low) / (high - low), not clipped: a policy can fall below 0 or exceed 1.

    Args:
      episode_return: an undiscounted sum of raw rewards (or a mean of such sums).
      game: one of `GAMES`.
      distribution_mode: "easy" or "hard".

    Raises:
      ConfigError: if the game or the mode is unknown.
    """
    low, high = return_range(game, distribution_mode)
    return (episode_return - low) / (high - low)
