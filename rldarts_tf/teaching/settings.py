"""Settings of teachers and distillation, configurable by gin."""

from __future__ import annotations

import dataclasses

import gin

from rldarts_tf.errors import ConfigError
from rldarts_tf.runs.paths import TRAINED_STAGES
from rldarts_tf.settings_fields import Settings, one_of, setting

OWN_BASELINE = "own_baseline"
"""`TeacherSettings.run` for the baseline of the run directory itself, which is trained first."""

OWN_STAGE = "baseline"
"""The stage of that teacher, which nobody teaches."""


@gin.configurable(module="rldarts_tf")
@dataclasses.dataclass(frozen=True)
class TeacherSettings(Settings):
    """The trained policy that teaches a stage."""

    run: str | None = setting(
        None,
        "the run directory of the teacher; 'own_baseline': the baseline of the student's own run "
        "directory, which `--stage=all` trains first",
    )
    stage: str | None = setting(
        None,
        "its stage; None: that of 'evaluate', else 'baseline', else 'search' which is finished",
        check=one_of(None, *TRAINED_STAGES),
    )
    step: int | None = setting(
        None, "environment steps of its checkpoint; None: the newest", least=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.run is not None and (not isinstance(self.run, str) or not self.run):
            raise ConfigError(
                f"TeacherSettings.run must be a directory or {OWN_BASELINE!r}, got {self.run!r}"
            )
        if self.run == OWN_BASELINE and self.stage not in (None, OWN_STAGE):
            raise ConfigError(
                f"TeacherSettings.stage = {self.stage!r} must be {OWN_STAGE!r} or None where "
                f"TeacherSettings.run = {OWN_BASELINE!r}"
            )


@gin.configurable(module="rldarts_tf")
@dataclasses.dataclass(frozen=True)
class DistillationSettings(Settings):
    """What a stage learns from its teacher, beside its own reward; nothing by default.

    Both terms are multiplied by the factor of the schedule, which is 1 at first.
    """

    actor_weight: float = setting(
        0.0, "c_a, of KL(π_T ‖ π) (nats); with Rainbow of the softmax of Q / `temperature`", least=0
    )
    critic_weight: float = setting(
        0.0,
        "c_c, of (V_T - V)², in the student's units of reward; with Rainbow of the cross entropy "
        "of the distributions of returns (nats), with SAC of the squared error of Q",
        least=0,
    )
    schedule: str = setting(
        "constant",
        "'constant'; 'linear', to 0 (kickstarting); or 'return', 0 once the student's training "
        "return has reached `return_share`",
        check=one_of("constant", "linear", "return"),
    )
    linear_fraction: float = setting(
        0.5, "of the stage's steps, after which a linear schedule is at 0", positive=True, most=1
    )
    return_share: float = setting(
        0.9, "of the teacher's own training return, that ends a schedule by return", positive=True
    )
    temperature: float = setting(
        0.01, "τ of Rainbow's softmax, in the student's units of reward", positive=True
    )

    @property
    def teaches(self) -> bool:
        """Whether there is anything to learn."""
        return self.actor_weight > 0 or self.critic_weight > 0
