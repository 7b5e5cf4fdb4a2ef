"""The DM Control Suite as a `Suite`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from typing_extensions import override

from rldarts_tf.envs.dm_control.batch import DMControlBatch
from rldarts_tf.envs.dm_control.environment import action_repeat_of, check_task
from rldarts_tf.envs.dm_control.settings import DMControlSettings
from rldarts_tf.envs.suite import Suite, register_suite


@register_suite
class DMControlSuite(Suite):
    """A task of the DM Control Suite, from pixels.

    Args:
      settings: the task.
    """

    settings_class = DMControlSettings
    flags: ClassVar[Mapping[str, tuple[str, str]]] = {
        "domain_name": (
            "domain_name",
            "Domain of the suite. (DMControlSettings.domain_name; default cartpole)",
        ),
        "task_name": ("task_name", "Task in it. (DMControlSettings.task_name; default swingup)"),
    }
    settings: DMControlSettings

    @property
    @override
    def label(self) -> str:
        return f"{self.settings.domain_name}_{self.settings.task_name}"

    @property
    def action_repeat(self) -> int:
        """Physics steps of the task with one action."""
        settings = self.settings
        return settings.action_repeat or action_repeat_of(settings.domain_name, settings.task_name)

    @property
    @override
    def variant(self) -> str:
        return f"action repeat {self.action_repeat}"

    @property
    @override
    def frames(self) -> int:
        return self.settings.frame_stack

    @override
    def make(self, num_envs: int, seed: int, **overrides: Any) -> DMControlBatch:
        settings = self.settings
        options = {
            "action_repeat": settings.action_repeat,
            "frame_stack": settings.frame_stack,
            "image_size": settings.image_size,
            "timeout": settings.step_timeout,
            **overrides,
        }
        return DMControlBatch(
            settings.domain_name, settings.task_name, num_envs, seed=seed, **options
        )

    @override
    def maximum_return(self, game: str, reference: str | None = None) -> float:
        """1000: rewards are at most 1, episodes have 1000 steps (Tassa et al. 2018)."""
        return 1000 * super().maximum_return(game, reference)

    @override
    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "action_repeat": self.action_repeat}

    @override
    def check(self) -> None:
        """Raises a ConfigError if there is no such task, or nothing to draw it with."""
        check_task(self.settings.domain_name, self.settings.task_name)
