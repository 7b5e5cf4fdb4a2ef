"""Settings of PPO, configurable by gin."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import gin
from typing_extensions import override

from rldarts_tf.agents.algorithm_settings import AUGMENTATIONS, AlgorithmSettings
from rldarts_tf.errors import ConfigError
from rldarts_tf.settings_fields import one_of, setting


@gin.configurable(module="rldarts_tf")
@dataclasses.dataclass(frozen=True)
class PPOSettings(AlgorithmSettings):
    """The numbers of PPO; the defaults are those of Cobbe et al. 2020.

    `reward_discount` is not γ: Cobbe et al. leave VecNormalize's own 0.99, and so does the authors'
    release. `value_coefficient` has no other ½ before it, as there is none in that release
    (Baselines has one).
    """

    minibatch: ClassVar[str | None] = "minibatch_size"
    has_held_out: ClassVar[bool] = True

    num_envs: int = setting(64, "environments, stepped together", least=1)
    steps_per_update: int = setting(256, "steps of each environment in an update", least=1)
    num_epochs: int = setting(3, "passes over the transitions of an update", least=1)
    minibatch_size: int = setting(
        2048, "transitions in a gradient step; a divisor of num_envs * steps_per_update", least=1
    )
    learning_rate: float = setting(5e-4, "step size of Adam", positive=True)
    final_learning_rate: float | None = setting(
        None, "step size at the last step, to which it falls linearly; None: it stays", least=0
    )
    adam_epsilon: float = setting(1e-5, "ε of Adam", positive=True)
    discount: float = setting(0.999, "γ, per environment step", least=0, most=1)
    gae_lambda: float = setting(
        0.95, "λ of generalized advantage estimation, per environment step", least=0, most=1
    )
    clip: float = setting(0.2, "ε of the clipped ratio of probabilities", positive=True)
    value_clip: float = setting(
        0.2, "bound on the change of a value in one update, in normalized rewards", least=0
    )
    entropy_coefficient: float = setting(0.01, "weight of the entropy (nats)", least=0)
    value_coefficient: float = setting(0.5, "weight of the squared error of the value", least=0)
    max_gradient_norm: float = setting(
        0.5, "global L2 norm to which a gradient is clipped", positive=True
    )
    reward_discount: float = setting(
        0.99, "of the returns whose standard deviation divides rewards, per step", least=0, most=1
    )
    reward_clip: float = setting(10.0, "bound on a normalized reward", positive=True)
    augmentation: str | None = setting(
        None,
        "f of DrAC, 'shift' or 'crop': policy and value of f(s) become those of s; None: none",
        check=one_of(*AUGMENTATIONS),
    )
    augmentation_pixels: int | None = setting(
        None,
        "pixels by which f shifts images at most; None: of their shorter side 4 in 84 ('shift') or "
        "12 in 64 ('crop')",
        least=1,
    )
    augmentation_weight: float | None = setting(
        None, "α_r of DrAC, by which both of its terms are multiplied; None: 0.1", least=0
    )
    separate_encoders: bool = setting(
        False, "the value has an encoder of its own, with the policy's architecture (one α)"
    )
    skip_nonfinite_updates: bool = setting(
        False, "skip and count gradients that are not finite, instead of ending the run"
    )
    jit_compile: bool = setting(
        False, "compile each gradient step with XLA: slower on CPUs, untested on GPUs"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size % self.minibatch_size:
            raise ConfigError(
                f"PPOSettings.minibatch_size = {self.minibatch_size} must divide num_envs * "
                f"steps_per_update = {self.batch_size}"
            )

    @override
    def check_devices(self, count: int) -> None:
        super().check_devices(count)
        if self.jit_compile:
            raise ConfigError(
                f"PPOSettings.jit_compile must be False with TrainingSettings.devices = {count}: "
                "XLA compiles a gradient step for one device"
            )

    @property
    def invariance_weight(self) -> float:
        """α_r: `augmentation_weight`, or the 0.1 of DrAC."""
        return 0.1 if self.augmentation_weight is None else self.augmentation_weight

    def learning_rate_at(self, progress: float) -> float:
        """The step size at a fraction of the stage's steps, 0 to 1."""
        if self.final_learning_rate is None:
            return self.learning_rate
        return (1 - progress) * self.learning_rate + progress * self.final_learning_rate

    @property
    def batch_size(self) -> int:
        """Transitions of an update, num_envs * steps_per_update."""
        return self.num_envs * self.steps_per_update

    @property
    def gradient_steps(self) -> int:
        """Minibatches of an update, in all its epochs."""
        return self.num_epochs * (self.batch_size // self.minibatch_size)
