"""Runs of the three launchers that take seconds, for tests, faults and benchmarks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from processes import Launcher

COMMON = (
    *(f"{stage}/EncoderSettings.depths = [2]" for stage in ("search", "evaluate", "baseline")),
    "EncoderSettings.features = 16",
    "TrainingSettings.checkpoint_minutes = 0",
    "TrainingSettings.evaluation_interval = 0",
    "TrainingSettings.final_evaluation_episodes = 1",
    "TrainingSettings.pictures = 0",
)

SMALL_SPACE = (
    "search/SearchSpace.name = 'launcher_space'",
    "search/SearchSpace.normal_ops = ['relu', 'conv_3x3']",
    "search/SearchSpace.num_nodes = 2",
    "search/EncoderSettings.search_space = 'launcher_space'",
)
"""Settings of a search in a space that gin defines. Tracing is most of such a run's time."""


@dataclasses.dataclass(frozen=True)
class Program:
    """A launcher, with settings under which a run takes seconds.

    Attributes:
      launcher: the launcher.
      update: environment steps of an update.
      arguments: its flags.
      settings: its gin bindings beside `COMMON`, which they override.
    """

    launcher: Launcher
    update: int
    arguments: tuple[str, ...]
    settings: tuple[str, ...]

    def flags(self, root: Path, steps: int, *more: str) -> list[str]:
        """The command line of a run of so many environment steps in each stage."""
        return [
            *self.arguments,
            f"--root_dir={root}",
            f"--num_env_steps={steps}",
            *(f"--gin_bindings={setting}" for setting in (*COMMON, *self.settings)),
            *more,
        ]

    def having(self, *settings: str):
        """The same with more settings, which override."""
        return dataclasses.replace(self, settings=(*self.settings, *settings))

    def started_by(self, launcher: Launcher):
        """The same with another launcher, as one that is preloaded."""
        return dataclasses.replace(self, launcher=launcher)


PROCGEN = ("--gin_file=hardware/cpu.gin", "--env_name=bossfight")
PPO = Program(
    Launcher("launchers/ppo_procgen.py"),
    4 * 8,
    ("--gin_file=classic.gin", *PROCGEN),
    (
        "PPOSettings.num_envs = 4",
        "PPOSettings.steps_per_update = 8",
        # The overlay of the hardware has some for each stage.
        *(f"{scope}PPOSettings.minibatch_size = 16" for scope in ("", "search/", "evaluate/")),
    ),
)
RAINBOW = Program(
    Launcher("launchers/rainbow_procgen.py"),
    4 * 8,
    ("--gin_file=micro.gin", *PROCGEN),
    (
        "RainbowSettings.num_envs = 4",
        "RainbowSettings.steps_per_update = 8",
        "RainbowSettings.batch_size = 8",
        "RainbowSettings.samples_per_insert = 1.0",
        "RainbowSettings.min_replay_size = 32",
        "RainbowSettings.hidden_size = 16",
    ),
)
SAC = Program(
    Launcher("launchers/sac_dm_control.py"),
    2 * 10,
    (
        "--gin_file=sac.gin",
        "--gin_file=hardware/cpu_sac.gin",
        "--domain_name=pendulum",
        "--task_name=swingup",
    ),
    (
        "SACSettings.num_envs = 2",
        "SACSettings.steps_per_update = 10",
        "SACSettings.min_replay_size = 20",
        "SACSettings.hidden_sizes = (8,)",
        *(
            f"{scope}SACSettings.{setting}"
            for scope in ("", "search/", "evaluate/")
            for setting in ("batch_size = 4", "samples_per_insert = 1.0")
        ),
        "DMControlSettings.image_size = 16",
        "DMControlSettings.action_repeat = 50",  # episodes of 20 actions
    ),
)
