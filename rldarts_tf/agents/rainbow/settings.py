"""Settings of Rainbow, configurable by gin."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gin
from typing_extensions import override

from rldarts_tf.agents.algorithm_settings import AUGMENTATIONS, AlgorithmSettings
from rldarts_tf.checks import check_integer, is_number
from rldarts_tf.errors import ConfigError
from rldarts_tf.settings_fields import one_of, setting

# Appendix F.2: games with a return of their own. Pairs, not dictionaries: gin can then write them
# where they are defaults.
_REACTIVE = ("bigfish", "bossfight", "chaser", "dodgeball", "miner", "plunder", "starpilot")
_N_STEP = (("default", 7), *((game, 2) for game in _REACTIVE))
_REPLAY_CAPACITY = (("default", 500_000), *((game, 10_000) for game in _REACTIVE))


def _by_game(field: str, value: Any) -> dict[str, int]:
    try:
        table = dict(value)
    except (TypeError, ValueError):
        table = {}
    if "default" not in table:
        raise ConfigError(f"{field} must be a dictionary with an entry 'default'")
    return {game: check_integer(f"{field}[{game!r}]", n, least=1) for game, n in table.items()}


def _exponents(field: str, value: Any) -> tuple[float, float]:
    pair = isinstance(value, Sequence) and len(value) == 2
    if not pair or not all(is_number(e) and 0 <= e < math.inf for e in value):
        raise ConfigError(f"{field} must be two finite numbers >= 0, got {value!r}")
    first, last = value
    return first, last


@gin.configurable(module="rldarts_tf")
@dataclasses.dataclass(frozen=True)
class RainbowSettings(AlgorithmSettings):
    """The numbers of Rainbow; the defaults are those of RL-DARTS (appendix F.2).

    Without noisy nets: exploration is ε-greedy (appendix A.1, Algorithm 3), and the paper has no
    numbers for it. Those here are the authors' release's (epsilon_schedule.py and
    agent_distributed.py): environment i acts with

        ε_i(t) = epsilon_base^(e_i (1 + epsilon_decay min(t / epsilon_steps, 1)))

    after t environment steps of all environments, e_i going evenly from the first to the last of
    `epsilon_exponents` among the environments of a game; a single one has the first. A constant ε
    is `epsilon_base=ε, epsilon_exponents=(1, 1), epsilon_decay=0`.

    A learner step follows every batch_size / samples_per_insert environment steps. The default of
    `epsilon_steps` is the length of the release's runs.
    """

    minibatch: ClassVar[str | None] = "batch_size"
    has_held_out: ClassVar[bool] = True

    num_envs: int = setting(64, "environments, stepped together", least=1)
    batch_size: int = setting(256, "transitions in a learner step", least=1)
    samples_per_insert: float = setting(
        4.0, "how often a transition is sampled on average", positive=True
    )
    min_replay_size: int = setting(
        10_000, "environment steps before the first learner step", least=1
    )
    n_step: int | None = setting(
        None, "rewards in a return; None: by game, from `n_step_by_game`", least=1
    )
    n_step_by_game: Mapping[str, int] | Sequence[tuple[str, int]] = setting(
        _N_STEP, 'by game; "default" is for all others, and for several at once', check=_by_game
    )
    replay_capacity: int | None = setting(
        None, "transitions that replay holds; None: by game, as `n_step`", least=1
    )
    replay_capacity_by_game: Mapping[str, int] | Sequence[tuple[str, int]] = setting(
        _REPLAY_CAPACITY, "as `n_step_by_game`", check=_by_game
    )
    reward_maximum: str | None = setting(
        None,
        'mode ("easy" or "hard") whose maximum return of the game divides rewards; None: the mode '
        "that is played",
    )
    learning_rate: float = setting(5e-5, "step size of Adam", positive=True)
    adam_epsilon: float = setting(1e-8, "ε of Adam", positive=True)
    discount: float = setting(0.99, "γ, per environment step", least=0, most=1)
    priority_exponent: float = setting(
        0.8, "of the sampling probability, P ∝ priority^exponent", least=0
    )
    importance_exponent: float = setting(0.2, "of the importance weights, w ∝ P^-exponent", least=0)
    initial_priority: float = setting(
        4.0, "of a new transition, until it is first sampled (nats)", positive=True
    )
    num_atoms: int = setting(51, "atoms of the distribution of returns (C51)", least=2)
    v_min: float = setting(0.0, "the least atom, in scaled rewards")
    v_max: float = setting(1.0, "the largest atom, in scaled rewards")
    hidden_size: int = setting(512, "units of the hidden layer of value and of advantages", least=1)
    target_update_period: int = setting(
        500, "learner steps between copies of the weights to the target network", least=1
    )
    max_gradient_norm: float | None = setting(
        None, "global L2 norm to which a gradient is clipped; None: it is not", positive=True
    )
    augmentation: str | None = setting(
        None,
        "of both images of a transition in the learner, as in DrQ, 'shift' or 'crop'; None: none",
        check=one_of(*AUGMENTATIONS),
    )
    augmentation_pixels: int | None = setting(
        None,
        "pixels by which images are shifted at most; None: of their shorter side 4 in 84 ('shift') "
        "or 12 in 64 ('crop')",
        least=1,
    )
    epsilon_base: float = setting(0.4, "see above", least=0, most=1)
    epsilon_exponents: Sequence[float] = setting((1.0, 8.0), "(first, last)", check=_exponents)
    epsilon_decay: float = setting(
        7.0, "growth of the exponents in the end, as a multiple", least=0
    )
    epsilon_steps: int = setting(25_000_000, "environment steps until then", least=1)
    evaluation_epsilon: float = setting(
        0.0, "probability of a random action in evaluations; 0: they are greedy", least=0, most=1
    )
    separate_encoders: bool = setting(
        False, "the value has an encoder of its own, with the advantages' architecture (one α)"
    )
    skip_nonfinite_updates: bool = setting(
        False, "skip and count gradients that are not finite, instead of ending the run"
    )
    steps_per_update: int = setting(
        16, "environment steps of each environment between two rows of metrics", least=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.v_min < self.v_max:
            raise ConfigError(
                f"RainbowSettings.v_min = {self.v_min} must be less than v_max = {self.v_max}"
            )

    def chosen(self, name: str) -> int:
        """Returns `n_step` or `replay_capacity`.

        Raises:
          ConfigError: it is still to be chosen by game.
        """
        value = getattr(self, name)
        if value is None:
            raise ConfigError(
                f"RainbowSettings.{name} is None: set it, or choose it by game with for_games"
            )
        return value

    def unscaled_warning(self, game: str, setting_name: str) -> str:
        """Says in one line that the atoms may not reach the returns of a game.

        Args:
          game: one whose rewards are not divided by its best return, which is not known.
          setting_name: the setting that could give it.
        """
        return (
            f"warning: RainbowSettings.v_max = {self.v_max:g} is the largest return that can be "
            f"predicted, and the best one of {game!r}, which would divide its rewards, is not "
            f"known: set v_max to its largest discounted return (v_min to its least), or give "
            f"{setting_name}"
        )

    @override
    def for_games(
        self, names: Sequence[str], known_games: Sequence[str] | None = None
    ) -> RainbowSettings:
        """These settings with `n_step` and `replay_capacity` chosen for the games.

        Args:
          names: the games; where there are several, the entries "default" hold.
          known_games: the only games that the tables may name; None: any.

        Raises:
          ConfigError: there are fewer environments than games, a table names an unknown game, or
            `replay_capacity` is less than `min_replay_size`.
        """
        super().for_games(names)
        chosen = {}
        for name in ("n_step", "replay_capacity"):
            value, table = getattr(self, name), getattr(self, f"{name}_by_game")
            if known_games is not None:
                for game in table.keys() - {"default", *known_games}:
                    raise ConfigError(f"RainbowSettings.{name}_by_game: there is no game {game!r}")
            game = names[0] if len(names) == 1 else "default"
            chosen[name] = table.get(game, table["default"]) if value is None else value
        if chosen["replay_capacity"] < self.min_replay_size:
            raise ConfigError(
                f"RainbowSettings.min_replay_size = {self.min_replay_size} is more than "
                f"replay_capacity = {chosen['replay_capacity']}"
            )
        return dataclasses.replace(self, **chosen)
