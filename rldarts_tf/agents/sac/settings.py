"""Settings of SAC, configurable by gin."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import gin

from rldarts_tf.agents.algorithm_settings import AlgorithmSettings
from rldarts_tf.checks import check_integer
from rldarts_tf.errors import ConfigError
from rldarts_tf.settings_fields import setting


def _sizes(field: str, value: Any) -> tuple[int, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise ConfigError(f"{field} must be a list of integers, got {value!r}")
    return tuple(check_integer(field, size, least=1) for size in value)


@gin.configurable(module="rldarts_tf")
@dataclasses.dataclass(frozen=True)
class SACSettings(AlgorithmSettings):
    """The numbers of SAC; the defaults are those of PI-SAC's release, which RL-DARTS uses (A.3).

    A learner step follows every batch_size / samples_per_insert environment steps.
    """

    minibatch: ClassVar[str | None] = "batch_size"
    has_held_out: ClassVar[bool] = True

    num_envs: int = setting(1, "environments, stepped together", least=1)
    batch_size: int = setting(256, "transitions in a learner step", least=1)
    samples_per_insert: float = setting(
        256.0, "how often a transition is sampled on average", positive=True
    )
    min_replay_size: int = setting(
        1000, "environment steps with random actions, before the first learner step", least=1
    )
    replay_capacity: int = setting(100_000, "transitions that replay holds", least=1)
    learning_rate: float = setting(
        3e-4, "step size of Adam, for critics and encoder, actor, and temperature", positive=True
    )
    adam_epsilon: float = setting(1e-8, "ε of Adam", positive=True)
    discount: float = setting(0.99, "γ, per environment step", least=0, most=1)
    target_update_rate: float = setting(
        0.005, "τ, with which the target critics follow, per learner step", positive=True, most=1
    )
    hidden_sizes: Sequence[int] = setting(
        (256, 256), "units of the hidden layers of actor and critics", check=_sizes
    )
    initial_log_temperature: float = setting(0.0, "log of the entropy's first coefficient")
    target_entropy_per_dimension: float = setting(
        -0.5, "H̄ over the number of dimensions of an action (nats)"
    )
    random_shift: int = setting(
        4, "pixels by which images are shifted at most; 0 for none", least=0
    )
    skip_nonfinite_updates: bool = setting(
        False, "skip and count gradients that are not finite, instead of ending the run"
    )
    steps_per_update: int = setting(
        250, "environment steps of each environment between two rows of metrics", least=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.replay_capacity < self.min_replay_size:
            raise ConfigError(
                f"SACSettings.min_replay_size = {self.min_replay_size} is more than "
                f"replay_capacity = {self.replay_capacity}"
            )
