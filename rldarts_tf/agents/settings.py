"""Settings of each algorithm, configurable by gin.

Apart from the agents, so that a gin file of the hardware may hold numbers of every algorithm.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import gin

from rldarts_tf.checks import check_integer, check_integers, check_number, is_number
from rldarts_tf.envs.procgen import games
from rldarts_tf.errors import ConfigError


@gin.configurable(module="rldarts_tf")
@dataclasses.dataclass(frozen=True)
class PPOSettings:
    """The numbers of PPO; the defaults are those of Cobbe et al. 2020.

    Attributes:
      num_envs: number of environments, stepped together.
      steps_per_update: steps of each environment between two updates.
      num_epochs: passes over the transitions of an update, num_envs * steps_per_update.
      minibatch_size: transitions in a gradient step; a divisor of num_envs * steps_per_update.
      learning_rate: of Adam.
      adam_epsilon: of Adam.
      discount: γ.
      gae_lambda: λ of generalized advantage estimation.
      clip: ε of the clipped policy ratio.
      value_clip: bound on the change of a value prediction in one update.
      entropy_coefficient: weight of the entropy bonus.
      value_coefficient: weight of the squared value error; there is no other ½ before it, as there
        is none in the authors' release (Baselines has one).
      max_gradient_norm: the global norm to which a gradient is clipped.
      reward_discount: of the return by whose spread rewards are divided. It is not γ: Cobbe et al.
        leave VecNormalize's own 0.99, and so does the authors' release.
      reward_clip: bound on a normalized reward.
      skip_nonfinite_updates: pass over gradients that are not finite, and count them, instead of
        ending the run.
      jit_compile: compile each gradient step with XLA. On CPUs it is slower, as XLA's convolutions
        are; untested on GPUs.
    """

    num_envs: int = 64
    steps_per_update: int = 256
    num_epochs: int = 3
    minibatch_size: int = 2048
    learning_rate: float = 5e-4
    adam_epsilon: float = 1e-5
    discount: float = 0.999
    gae_lambda: float = 0.95
    clip: float = 0.2
    value_clip: float = 0.2
    entropy_coefficient: float = 0.01
    value_coefficient: float = 0.5
    max_gradient_norm: float = 0.5
    reward_discount: float = 0.99
    reward_clip: float = 10.0
    skip_nonfinite_updates: bool = False
    jit_compile: bool = False

    def __post_init__(self) -> None:
        check_integers(
            self, "num_envs", "steps_per_update", "num_epochs", "minibatch_size", least=1
        )
        _check_booleans(self, "skip_nonfinite_updates", "jit_compile")
        _check_numbers(
            self,
            *("discount", "gae_lambda", "reward_discount"),
            *("value_clip", "entropy_coefficient", "value_coefficient"),
        )
        _check_numbers(
            self,
            *("learning_rate", "adam_epsilon", "clip", "max_gradient_norm", "reward_clip"),
            positive=True,
        )
        _check_at_most_one(self, "discount", "gae_lambda", "reward_discount")
        if self.batch_size % self.minibatch_size:
            raise ConfigError(
                f"PPOSettings.minibatch_size = {self.minibatch_size} must divide num_envs * "
                f"steps_per_update = {self.batch_size}"
            )

    @property
    def batch_size(self) -> int:
        """Transitions of an update, num_envs * steps_per_update."""
        return self.num_envs * self.steps_per_update

    @property
    def gradient_steps(self) -> int:
        """Minibatches of an update, in all its epochs."""
        return self.num_epochs * (self.batch_size // self.minibatch_size)

    def for_games(self, names: Sequence[str]) -> PPOSettings:
        """These settings, for they are the same for all games.

        Raises:
          ConfigError: there are fewer environments than games.
        """
        _check_one_each(self, names)
        return self


# Appendix F.2: games with a return of their own. Pairs, not dictionaries: gin can then write them
# where they are defaults.
_REACTIVE = ("bigfish", "bossfight", "chaser", "dodgeball", "miner", "plunder", "starpilot")
_N_STEP_BY_GAME = (("default", 7), *((game, 2) for game in _REACTIVE))
_REPLAY_CAPACITY_BY_GAME = (("default", 500_000), *((game, 10_000) for game in _REACTIVE))


@gin.configurable(module="rldarts_tf")
@dataclasses.dataclass(frozen=True)
class RainbowSettings:
    """The numbers of Rainbow; the defaults are those of RL-DARTS (appendix F.2).

    Without noisy nets: exploration is ε-greedy (appendix A.1, Algorithm 3), and the paper has no
    numbers for it. Those here are the authors' release's (epsilon_schedule.py and
    agent_distributed.py): environment i acts with

        ε_i(t) = epsilon_base^(e_i (1 + epsilon_decay min(t / epsilon_steps, 1)))

    after t environment steps of all environments, e_i going evenly from the first to the last of
    `epsilon_exponents` among the environments of a game; a single one has the first. A constant ε
    is `epsilon_base=ε, epsilon_exponents=(1, 1), epsilon_decay=0`.

    Attributes:
      num_envs: number of environments, stepped together.
      batch_size: transitions in a learner step.
      samples_per_insert: how often a transition is sampled on average; a learner step follows every
        batch_size / samples_per_insert environment steps.
      min_replay_size: environment steps before the first learner step.
      n_step: rewards in a return; None: that of the game in `n_step_by_game`.
      n_step_by_game: by name of the game; "default" is for all others, and for several at once.
      replay_capacity: transitions that replay holds; None: that of `replay_capacity_by_game`.
      replay_capacity_by_game: as `n_step_by_game`.
      reward_maximum: the distribution mode ("easy" or "hard") whose maximum return of the game
        divides rewards; None: the mode that is played.
      learning_rate: of Adam.
      adam_epsilon: of Adam.
      discount: γ.
      priority_exponent: of the sampling probability, P ∝ priority^exponent.
      importance_exponent: of the importance weights, w ∝ P^-exponent.
      initial_priority: of a new transition, until it is first sampled.
      num_atoms: atoms of the distribution of returns (C51).
      v_min: the least of them.
      v_max: the largest.
      hidden_size: units of the hidden layer of value and of advantages.
      target_update_period: learner steps between copies of the weights to the target network.
      max_gradient_norm: the global norm to which a gradient is clipped; None: it is not.
      epsilon_base: see above.
      epsilon_exponents: (first, last).
      epsilon_decay: how much the exponents have grown in the end, as a multiple.
      epsilon_steps: environment steps until then; 25 million is the length of the release's runs.
      evaluation_epsilon: probability of a random action in evaluations; 0: they are greedy.
      skip_nonfinite_updates: pass over gradients that are not finite, and count them, instead of
        ending the run.
      steps_per_update: environment steps of each environment between two rows of metrics.
    """

    num_envs: int = 64
    batch_size: int = 256
    samples_per_insert: float = 4.0
    min_replay_size: int = 10_000
    n_step: int | None = None
    n_step_by_game: Mapping[str, int] | Sequence[tuple[str, int]] = _N_STEP_BY_GAME
    replay_capacity: int | None = None
    replay_capacity_by_game: Mapping[str, int] | Sequence[tuple[str, int]] = (
        _REPLAY_CAPACITY_BY_GAME
    )
    reward_maximum: str | None = None
    learning_rate: float = 5e-5
    adam_epsilon: float = 1e-8
    discount: float = 0.99
    priority_exponent: float = 0.8
    importance_exponent: float = 0.2
    initial_priority: float = 4.0
    num_atoms: int = 51
    v_min: float = 0.0
    v_max: float = 1.0
    hidden_size: int = 512
    target_update_period: int = 500
    max_gradient_norm: float | None = None
    epsilon_base: float = 0.4
    epsilon_exponents: Sequence[float] = (1.0, 8.0)
    epsilon_decay: float = 7.0
    epsilon_steps: int = 25_000_000
    evaluation_epsilon: float = 0.0
    skip_nonfinite_updates: bool = False
    steps_per_update: int = 16

    def __post_init__(self) -> None:
        check_integers(
            self,
            *("num_envs", "batch_size", "min_replay_size", "hidden_size", "target_update_period"),
            *("epsilon_steps", "steps_per_update"),
            least=1,
        )
        _check_booleans(self, "skip_nonfinite_updates")
        check_integers(self, "num_atoms", least=2)
        for name in ("n_step", "replay_capacity"):
            if getattr(self, name) is not None:
                check_integers(self, name, least=1)
            self._check_by_game(f"{name}_by_game")
        _check_numbers(self, "discount", "priority_exponent", "importance_exponent")
        _check_numbers(self, "epsilon_base", "epsilon_decay", "evaluation_epsilon")
        _check_numbers(
            self,
            *("samples_per_insert", "learning_rate", "adam_epsilon", "initial_priority"),
            positive=True,
        )
        if self.max_gradient_norm is not None:
            _check_numbers(self, "max_gradient_norm", positive=True)
        _check_at_most_one(self, "discount", "epsilon_base", "evaluation_epsilon")
        self._check_exponents()
        if self.reward_maximum is not None:
            games.check_distribution_mode(self.reward_maximum, "RainbowSettings.reward_maximum")
        for name in ("v_min", "v_max"):
            _check_finite(self, name)
        if not self.v_min < self.v_max:
            raise ConfigError(
                f"RainbowSettings.v_min = {self.v_min} must be less than v_max = {self.v_max}"
            )

    def _check_exponents(self) -> None:
        exponents = self.epsilon_exponents
        pair = isinstance(exponents, Sequence) and len(exponents) == 2
        if not pair or not all(is_number(e) and 0 <= e < math.inf for e in exponents):
            raise ConfigError(
                "RainbowSettings.epsilon_exponents must be two finite numbers >= 0, "
                f"got {exponents!r}"
            )
        object.__setattr__(self, "epsilon_exponents", tuple(exponents))

    def _check_by_game(self, name: str) -> None:
        field = f"RainbowSettings.{name}"
        try:
            table = dict(getattr(self, name))
        except (TypeError, ValueError):
            table = {}
        if "default" not in table:
            raise ConfigError(f"{field} must be a dictionary with an entry 'default'")
        object.__setattr__(self, name, table)
        for game, value in table.items():
            if game != "default" and game not in games.GAMES:
                raise ConfigError(f"{field}: there is no Procgen game {game!r}")
            table[game] = check_integer(f"{field}[{game!r}]", value, least=1)

    def for_games(self, names: Sequence[str]) -> RainbowSettings:
        """These settings with `n_step` and `replay_capacity` chosen for the games.

        Args:
          names: the games; where there are several, the entries "default" hold.

        Raises:
          ConfigError: there are fewer environments than games, or `replay_capacity` is less than
            `min_replay_size`.
        """
        _check_one_each(self, names)
        chosen = {}
        for name in ("n_step", "replay_capacity"):
            value, table = getattr(self, name), getattr(self, f"{name}_by_game")
            game = names[0] if len(names) == 1 else "default"
            chosen[name] = table.get(game, table["default"]) if value is None else value
        if chosen["replay_capacity"] < self.min_replay_size:
            raise ConfigError(
                f"RainbowSettings.min_replay_size = {self.min_replay_size} is more than "
                f"replay_capacity = {chosen['replay_capacity']}"
            )
        return dataclasses.replace(self, **chosen)


@gin.configurable(module="rldarts_tf")
@dataclasses.dataclass(frozen=True)
class SACSettings:
    """The numbers of SAC; the defaults are those of PI-SAC's release, which RL-DARTS uses (A.3).

    Attributes:
      num_envs: number of environments, stepped together.
      batch_size: transitions in a learner step.
      samples_per_insert: how often a transition is sampled on average; a learner step follows every
        batch_size / samples_per_insert environment steps.
      min_replay_size: environment steps with random actions, before the first learner step.
      replay_capacity: transitions that replay holds.
      learning_rate: of Adam, for critics and encoder, actor, and temperature.
      adam_epsilon: of Adam.
      discount: γ.
      target_update_rate: τ, with which the target critics follow.
      hidden_sizes: units of the hidden layers of actor and critics.
      initial_log_temperature: log of the entropy's coefficient.
      target_entropy_per_dimension: H̄ over the number of dimensions of an action.
      random_shift: pixels by which images are shifted at most; 0 for none.
      skip_nonfinite_updates: pass over gradients that are not finite, and count them, instead of
        ending the run.
      steps_per_update: environment steps of each environment between two rows of metrics.
    """

    num_envs: int = 1
    batch_size: int = 256
    samples_per_insert: float = 256.0
    min_replay_size: int = 1000
    replay_capacity: int = 100_000
    learning_rate: float = 3e-4
    adam_epsilon: float = 1e-8
    discount: float = 0.99
    target_update_rate: float = 0.005
    hidden_sizes: Sequence[int] = (256, 256)
    initial_log_temperature: float = 0.0
    target_entropy_per_dimension: float = -0.5
    random_shift: int = 4
    skip_nonfinite_updates: bool = False
    steps_per_update: int = 250

    def __post_init__(self) -> None:
        check_integers(
            self,
            *("num_envs", "batch_size", "min_replay_size", "replay_capacity", "steps_per_update"),
            least=1,
        )
        _check_booleans(self, "skip_nonfinite_updates")
        check_integers(self, "random_shift", least=0)
        _check_numbers(self, "discount")
        _check_numbers(
            self,
            *("samples_per_insert", "learning_rate", "adam_epsilon", "target_update_rate"),
            positive=True,
        )
        _check_at_most_one(self, "discount", "target_update_rate")
        for name in ("initial_log_temperature", "target_entropy_per_dimension"):
            _check_finite(self, name)
        sizes = self.hidden_sizes
        if isinstance(sizes, str) or not isinstance(sizes, Sequence) or not sizes:
            raise ConfigError(f"SACSettings.hidden_sizes must be a list of integers, got {sizes!r}")
        checked = tuple(check_integer("SACSettings.hidden_sizes", size, least=1) for size in sizes)
        object.__setattr__(self, "hidden_sizes", checked)
        if self.replay_capacity < self.min_replay_size:
            raise ConfigError(
                f"SACSettings.min_replay_size = {self.min_replay_size} is more than "
                f"replay_capacity = {self.replay_capacity}"
            )


def _check_finite(settings: Any, name: str) -> None:
    field = f"{type(settings).__name__}.{name}"
    check_number(field, getattr(settings, name), "a finite number", lambda x: abs(x) < math.inf)


def _check_one_each(settings: Any, names: Sequence[str]) -> None:
    if settings.num_envs < len(names):
        raise ConfigError(
            f"{type(settings).__name__}.num_envs = {settings.num_envs} must be at least the number "
            f"of games, {len(names)}"
        )


def _check_booleans(settings: Any, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not isinstance(value, bool):
            raise ConfigError(
                f"{type(settings).__name__}.{name} must be True or False, got {value!r}"
            )


def _check_numbers(settings: Any, *names: str, positive: bool = False) -> None:
    for name in names:
        value = getattr(settings, name)
        field = f"{type(settings).__name__}.{name}"
        check_number(field, value, "a finite number >= 0", lambda x: 0 <= x < math.inf)
        if positive and value == 0:
            raise ConfigError(f"{field} must be positive")


def _check_at_most_one(settings: Any, *names: str) -> None:
    for name in names:
        if getattr(settings, name) > 1:
            raise ConfigError(f"{type(settings).__name__}.{name} must be at most 1")
