"""The DM Control Suite as a `Suite`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from rldarts_tf.envs.dm_control.batch import DMControlBatch
from rldarts_tf.envs.dm_control.environment import action_repeat_of, check_task
from rldarts_tf.envs.suite import Suite
from rldarts_tf.training.settings import DMControlSettings


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
    def games(self) -> tuple[str, ...]:
        """One name, "domain/task"."""
        return (f"{self.settings.domain_name}/{self.settings.task_name}",)

    @property
    def label(self) -> str:
        """See `Suite`."""
        return f"{self.settings.domain_name}_{self.settings.task_name}"

    @property
    def evaluation_sets(self) -> dict[str, dict[str, Any]]:
        """A single set: fresh episodes of the same task."""
        return {"test": {}}

    def make(self, num_envs: int, seed: int, **overrides: Any) -> DMControlBatch:
        """See `Suite`."""
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

    def normalized(self, episode_return: float, game: str) -> float:
        """Return / 1000: rewards are at most 1, episodes have 1000 steps (Tassa et al. 2018)."""
        del game
        return episode_return / 1000

    def fit(self, algorithm: Any) -> Any:
        """Returns the settings unchanged: they are the same for every task."""
        return algorithm

    def describe(self) -> dict[str, Any]:
        """See `Suite`."""
        settings = self.settings
        repeat = settings.action_repeat or action_repeat_of(
            settings.domain_name, settings.task_name
        )
        return {"game": self.games[0], "action_repeat": repeat}

    def check(self) -> None:
        """Raises a ConfigError if there is no such task, or nothing to draw it with."""
        check_task(self.settings.domain_name, self.settings.task_name)
