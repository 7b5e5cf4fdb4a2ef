"""Tiny runs of the three launchers, and what must hold of whatever they leave."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path
from typing import Any

from processes import Ended, Launcher, complete_rows, finish

COMMON = (
    *(f"{stage}/EncoderSettings.depths = [2]" for stage in ("search", "evaluate", "baseline")),
    "EncoderSettings.features = 16",
    "TrainingSettings.checkpoint_minutes = 0",
    "TrainingSettings.evaluation_interval = 0",
    "TrainingSettings.final_evaluation_episodes = 1",
    "TrainingSettings.pictures = 0",
)


class FaultError(AssertionError):
    """A run did not survive."""


def check(condition: Any, message: str) -> None:
    """Raises a FaultError unless the condition holds."""
    if not condition:
        raise FaultError(message)


@dataclasses.dataclass(frozen=True)
class Program:
    """A launcher with settings under which a run takes seconds, on one thread.

    Attributes:
      launcher: the launcher.
      update: environment steps of an update.
      arguments: its flags.
      settings: its gin bindings beside `COMMON`.
    """

    launcher: Launcher
    update: int
    arguments: tuple[str, ...]
    settings: tuple[str, ...]

    def flags(self, root: Path, updates: int, stage: str = "search", *more: str) -> list[str]:
        """The command line of a run of so many updates."""
        return [
            *self.arguments,
            f"--root_dir={root}",
            f"--num_env_steps={updates * self.update}",
            f"--stage={stage}",
            "--intra_op_threads=1",
            "--inter_op_threads=1",
            *(f"--gin_bindings={setting}" for setting in (*COMMON, *self.settings)),
            *more,
        ]

    def launch(self, root: Path, updates: int, *more: str, **kwargs: Any) -> Ended:
        """A search, to its end."""
        return self.launcher.launch(self.flags(root, updates, "search", *more), **kwargs)

    def start_and_wait(self, root: Path, updates: int, rows: int, **kwargs: Any) -> Any:
        """A search that runs on in the background, when its table has so many rows more."""
        metrics = root / "search" / "metrics.csv"
        try:
            return self.launcher.start_and_wait(metrics, rows, self.flags(root, updates), **kwargs)
        except AssertionError as error:
            raise FaultError(str(error)) from None


PROCGEN = (
    "--gin_file=hardware/cpu.gin",
    "--gin_file=spaces/micro.gin",
    "--env_name=bossfight",
)
PPO = Program(
    Launcher("launchers/ppo_procgen.py", "rldarts_tf.agents.ppo.program"),
    4 * 8,
    ("--gin_file=classic.gin", *PROCGEN),
    (
        "PPOSettings.num_envs = 4",
        "PPOSettings.steps_per_update = 8",
        *(f"{scope}PPOSettings.minibatch_size = 16" for scope in ("", "search/", "evaluate/")),
    ),
)
RAINBOW = Program(
    Launcher("launchers/rainbow_procgen.py", "rldarts_tf.agents.rainbow.program"),
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
    Launcher("launchers/sac_dm_control.py", "rldarts_tf.agents.sac.program"),
    20,
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
        "DMControlSettings.action_repeat = 50",
    ),
)


def weights(root: Path, stage: str = "search") -> dict[str, bytes]:
    """The content of the newest checkpoint but for times, by name."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(root / stage / "checkpoints")))
    # Not what counts the saves, and not the arrays of the program, which hold the seconds it took.
    other = ("_CHECKPOINTABLE", "program", "save_counter")
    return {
        name: bytes(reader.get_tensor(name))
        for name in reader.get_variable_to_shape_map()
        if not name.startswith(other)
    }


def check_equal(root: Path, reference: Path) -> None:
    """α, θ and the optimizer are those of a search that nobody disturbed."""
    check(weights(root) == weights(reference), "the weights are not those of an undisturbed search")


def check_rows(root: Path, update: int) -> None:
    """No row is missing or there twice."""
    steps = [int(row[0]) for row in complete_rows(root / "search" / "metrics.csv")]
    expected = list(range(update, update * (len(steps) + 1), update))
    check(steps == expected, f"rows of metrics.csv: {steps}")


def check_ended(ended: Ended, code: int = 0, *parts: str) -> None:
    """The exit code, and that the last line on stderr has these parts."""
    check(ended.code == code, f"exit code {ended.code}: {ended.err}")
    if parts:
        last = ended.err.splitlines()[-1]
        check(all(part in last for part in parts), ended.err)


def check_refused(ended: Ended, *parts: str) -> None:
    """One line, which has these parts, and exit code 2."""
    check_ended(ended, 2, *parts)
    check(ended.err.count("\n") == 1, ended.err)


def terminate(process: Any) -> Ended:
    """SIGTERM, and what comes of it."""
    process.send_signal(signal.SIGTERM)
    return finish(process)
