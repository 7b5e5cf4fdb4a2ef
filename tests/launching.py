"""Checks that hold for every launcher: of its documentation, of bad input, of stops."""

from __future__ import annotations

import dataclasses
import re
import signal
from pathlib import Path

import pytest
from processes import ROOT, Ended, Launcher, Preloaded, Stopped, assert_refused, contents

SMALL_PPO = (
    "TrainingSettings.evaluation_interval = 0",
    "TrainingSettings.final_evaluation_episodes = 2",
    "TrainingSettings.pictures = 1",
    "PPOSettings.num_envs = 4",
    "PPOSettings.steps_per_update = 8",
    "PPOSettings.minibatch_size = 16",
    "PPOSettings.num_epochs = 1",
)
"""Bindings with which PPO learns within some dozens of steps."""


def preloads(launcher: Launcher):
    """A fixture: the launcher without the time that its imports take."""

    @pytest.fixture(scope="module")
    def quick(server):
        return launcher.preloaded(server)

    return quick


def launch(program, suite, root, bindings, *arguments):
    """Runs an experiment as its launcher would, in this process."""
    import gin
    from absl import flags as absl_flags

    from rldarts_tf.launch import Experiment, experiment, flags

    made = Experiment(name="test", gin="spaces/classic.gin", program=program, suite=suite)
    values = flags.define(made, absl_flags.FlagValues())
    bound = [f"--gin_bindings={binding}" for binding in bindings]
    values(["test", f"--root_dir={root}", *bound, *arguments])
    try:
        experiment.run(made, values)
    finally:
        gin.clear_config()


def binding(text: str) -> list[str]:
    return [f"--gin_bindings={text}"]


def assert_refused_at_once(
    quick: Preloaded, folder: Path, bad_input: tuple[list[str], list[str]]
) -> None:
    """Bad input, (flags, what the line must say), ends with one line and writes nothing."""
    flags, parts = bad_input
    assert_refused(quick([f"--root_dir={folder / 'run'}", *flags]), parts)
    assert contents(folder) == {}


def complaints(err: str) -> list[str]:
    """Lines of standard error, but for the warning that so short a search has learned nothing."""
    unmoved = "warning: α has hardly moved"
    return [line for line in err.splitlines() if not line.startswith(unmoved)]


def assert_only_progress(err: str, steps: int) -> None:
    """Standard error has the progress of both trainings and nothing else."""
    progress = re.compile(
        rf"(search|evaluate): [\d,]+/{steps} steps \([\d.]+ %\), .* steps/s, .* left"
    )
    lines = complaints(err)
    assert lines and [line for line in lines if not progress.fullmatch(line)] == []


# --- documentation ------------------------------------------------------------------------------


def documented(launcher: Launcher, *files: str) -> dict[str, list[str]]:
    """The flags of the commands in the launcher itself, README.md, docs/launchers.md and more."""
    return {
        f"{file}-{number}": flags
        for file in (launcher.path, "README.md", "docs/launchers.md", *files)
        for number, flags in enumerate(launcher.commands((ROOT / file).read_text("utf-8")))
    }


def assert_valid(quick: Preloaded, folder: Path, flags: list[str]) -> None:
    """The launcher takes the flags."""
    (folder / "file").write_text("")
    # The directory is opened when all else has been found right: one that cannot be shows it.
    ended = quick([*flags, f"--root_dir={folder / 'file' / 'run'}"])
    assert_refused(ended, ["root_dir", "cannot be created"])


def assert_helpful(quick: Preloaded, example: str, *flags: str) -> None:
    """--help shows an example and these flags."""
    text = " ".join(quick(["--help"]).out.split())
    assert f"python {quick.path} {example}" in text
    for flag in flags:
        assert f"--{flag}: " in text or f"--[no]{flag}: " in text


# --- stops --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Interrupted:
    """A training that was stopped by SIGTERM, then by SIGKILL, then left alone."""

    root: Path
    terminated: Stopped
    killed: Stopped
    ended: Ended | None = None


def stop_twice(
    quick: Preloaded, root: Path, flags: list[str], stage: str = "search"
) -> Interrupted:
    """Stops a training by SIGTERM, then by SIGKILL."""
    terminated = quick.stop(root, flags, signal.SIGTERM, stage)
    return Interrupted(root, terminated, quick.stop(root, flags, signal.SIGKILL, stage))


def interrupt(quick: Preloaded, root: Path, flags: list[str]) -> Interrupted:
    """Stops a search twice, then runs it to its end."""
    return dataclasses.replace(stop_twice(quick, root, flags), ended=quick.launch(flags))


def assert_stopped_well(stopped: Stopped, end: int, stage: str = "search") -> None:
    """SIGTERM ends with a checkpoint of the last step and exit code 0."""
    assert stopped.ended.code == 0, stopped.ended.err
    assert stopped.checkpoint == int(stopped.metrics[-1][0]) < end
    assert stopped.summary["stages"][stage]["exit_state"] == "interrupted"
    assert "the same command continues it" in stopped.ended.out


def assert_little_was_lost(interrupted: Interrupted, most: int) -> None:
    """SIGKILL loses at most so many steps that came after the last checkpoint."""
    killed = interrupted.killed
    assert killed.ended.code == -signal.SIGKILL
    assert interrupted.terminated.checkpoint < killed.checkpoint
    assert int(killed.metrics[-1][0]) - killed.checkpoint <= most
