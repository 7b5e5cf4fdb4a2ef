"""The SAC launcher as its user meets it; what it shares with PPO's is in test_launcher.py."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import tiny
from processes import (
    ROOT,
    Ended,
    Launcher,
    Stopped,
    assert_refused,
    complete_rows,
    contents,
    finish,
    numbers,
    rows_of,
    workers_of,
)

from rldarts_tf.genotype import Genotype
from rldarts_tf.runs.alpha_history import read_alphas

pytest.importorskip("dm_control")

SAC = tiny.SAC.launcher

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

NUM_ENVS, RANDOM_STEPS, STEPS, LONG_STEPS = 2, 20, 60, 240
WHOLE = tiny.SAC.having("TrainingSettings.pictures = 1")


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    with SAC.preloaded(tmp_path_factory.mktemp("quick")) as launcher:
        yield launcher


# --- a whole run --------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Whole:
    """A run of all stages and of the baseline."""

    root: Path
    ended: Ended
    baseline: Ended


@pytest.fixture(scope="module")
def whole(tmp_path_factory, quick) -> Whole:
    root = tmp_path_factory.mktemp("whole") / "run"
    ended = SAC.launch(WHOLE.flags(root, STEPS))
    assert ended.code == 0, ended.err
    baseline = quick.launch(WHOLE.flags(root, STEPS, "--stage=baseline"))
    assert baseline.code == 0, baseline.err
    return Whole(root, ended, baseline)


def test_a_run_finds_a_cell_and_evaluates_it(whole):
    stages = json.loads((whole.root / "summary.json").read_text("utf-8"))["stages"]
    for stage, encoder in (
        ("search", "Supernet"),
        ("evaluate", "DiscreteNetwork"),
        ("baseline", "PiSacCNN"),
    ):
        entry = stages[stage]
        assert (entry["exit_state"], entry["encoder"]) == ("finished", encoder)
        assert (entry["game"], entry["action_repeat"]) == ("pendulum/swingup", 50)
        assert entry["env_steps"] >= STEPS
        assert entry["eval_test_return_mean"] >= 0
    genotype = Genotype.load(whole.root / "genotype.json")
    assert (genotype.search_space, genotype.top_k) == ("micro_pisac", 1)
    assert all(len(node) == 1 for cell in genotype.cells.values() for node in cell)
    assert stages["evaluate"]["genotype"] == genotype.to_dict()
    assert {p.name for p in (whole.root / "cells").iterdir()} == {"normal.png", "normal.svg"}
    logits = read_alphas(whole.root / "search/alphas.npz").logits["normal"]
    assert (logits[-1] != logits[0]).any()


def test_standard_error_has_progress_and_nothing_else(whole):
    progress = re.compile(rf"(search|evaluate): [\d,]+/{STEPS} steps \([\d.]+ %\), .* left")
    lines = whole.ended.err.splitlines()
    assert lines and [line for line in lines if not progress.fullmatch(line)] == []


def test_a_second_start_trains_nothing_and_changes_nothing(whole, quick):
    before = contents(whole.root)
    again = quick(WHOLE.flags(whole.root, STEPS))
    assert (again.code, again.err) == (0, "")
    assert contents(whole.root) == before


# --- stopping and going on ----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Interrupted:
    """A training that was stopped by SIGTERM, then by SIGKILL, then left alone but for a worker.

    Of the baseline, which is traced in a fraction of the time: the program is that of a search.
    """

    root: Path
    terminated: Stopped
    killed: Stopped
    ended: Ended
    orphans: list[int]


def launch_and_kill_a_worker(quick: Launcher, root: Path, flags: list[str]) -> Ended:
    """Goes on with it; one simulator is killed on the way."""
    metrics = root / "baseline/metrics.csv"
    known = len(complete_rows(metrics))
    process = quick.start(flags)
    deadline = time.monotonic() + 400
    try:
        while len(complete_rows(metrics)) < known + 1:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        os.kill(workers_of(process.pid)[0], signal.SIGKILL)
    except BaseException:
        process.kill()
        raise
    return finish(process)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory, quick) -> Interrupted:
    root = tmp_path_factory.mktemp("interrupted") / "run"
    flags = tiny.SAC.flags(root, LONG_STEPS, "--stage=baseline")
    terminated = quick.stop(root, flags, signal.SIGTERM, "baseline")
    killed = quick.stop(root, flags, signal.SIGKILL, "baseline")
    time.sleep(2)
    orphans = [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit()
        and b"dm_control.worker" in _command(entry)
        and b"swingup" in _command(entry)
    ]
    ended = launch_and_kill_a_worker(quick, root, flags)
    return Interrupted(root, terminated, killed, ended, orphans)


def _command(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""


def test_sigterm_ends_well_with_a_checkpoint_of_the_last_step(interrupted):
    stopped = interrupted.terminated
    assert stopped.ended.code == 0, stopped.ended.err
    assert stopped.checkpoint == int(stopped.metrics[-1][0]) < LONG_STEPS
    assert stopped.summary["stages"]["baseline"]["exit_state"] == "interrupted"
    assert "the same command continues it" in stopped.ended.out


def test_kill_loses_at_most_what_came_after_the_last_checkpoint(interrupted):
    killed = interrupted.killed
    assert killed.ended.code == -signal.SIGKILL
    assert interrupted.orphans == []
    steps = [int(row[0]) for row in killed.metrics]
    # Every row is saved: the one that was being saved may be lost.
    assert interrupted.terminated.checkpoint < killed.checkpoint
    assert steps[-1] - killed.checkpoint <= 2 * 10 * NUM_ENVS


def test_steps_replay_and_episodes_go_on_after_each_stop_and_a_dead_worker(interrupted):
    assert interrupted.ended.code == 0, interrupted.ended.err
    complaints = [line for line in interrupted.ended.err.splitlines() if " left" not in line]
    assert len(complaints) == 1 and "pendulum/swingup" in complaints[0]
    rows = rows_of(interrupted.root / "baseline/metrics.csv")
    steps = np.array(numbers(rows, "step"))
    assert steps[-1] >= LONG_STEPS and (np.diff(steps) > 0).all()
    np.testing.assert_array_equal(
        numbers(rows, "learner_steps"), np.maximum(steps - RANDOM_STEPS, 0) // 4
    )
    # With returns of one step nothing is missing: a transition for each step. The latest may still
    # be on their way.
    behind = steps - np.array(numbers(rows, "replay_size"))
    assert behind.min() >= 0 and behind.max() <= 2 * NUM_ENVS
    assert behind[-5:].min() == 0
    assert numbers(rows, "crashes")[-1] == 1
    assert set(numbers(rows, "length_mean")) == {20}, "episodes that were cut off do not count"
    saved = list((interrupted.root / "baseline/checkpoints/replay").iterdir())
    assert len(saved) == 2, "what neither checkpoint needs is deleted"


# --- bad input ----------------------------------------------------------------------------------


def binding(text: str) -> list[str]:
    return [f"--gin_bindings={text}"]


BAD_INPUT = {
    "unknown domain": (["--domain_name=cartpool"], ["domain_name", "'cartpool'", "cartpole"]),
    "unknown task": (["--task_name=swingdown"], ["task_name", "'swingdown'", "swingup"]),
    "configuration of another algorithm": (
        ["--gin_file=micro.gin"],
        ["gin_file 'micro.gin'", "RainbowSettings", "SACSettings"],
    ),
    "no action repeat": (
        binding("DMControlSettings.action_repeat = 0"),
        ["DMControlSettings.action_repeat", "at least 1"],
    ),
    "no environments": (binding("SACSettings.num_envs = 0"), ["SACSettings.num_envs"]),
    "unknown head": (binding("EncoderSettings.head = 'tanh'"), ["head must be one of", "'tanh'"]),
    "unknown baseline": (
        binding("EncoderSettings.baseline = 'resnet'"),
        ["EncoderSettings.baseline", "'resnet'"],
    ),
    "less capacity than is waited for": (
        binding("SACSettings.replay_capacity = 500"),
        ["SACSettings.min_replay_size = 1000", "replay_capacity = 500"],
    ),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_ends_with_one_line_and_writes_nothing(name, quick, tmp_path):
    flags, parts = BAD_INPUT[name]
    assert_refused(quick([f"--root_dir={tmp_path / 'run'}", *flags]), parts)
    assert contents(tmp_path) == {}


# --- help and examples --------------------------------------------------------------------------


def documented() -> dict[str, list[str]]:
    return {
        f"{file}-{number}": flags
        for file in (SAC.path, "README.md", "docs/launchers.md", "docs/results.md")
        for number, flags in enumerate(SAC.commands((ROOT / file).read_text("utf-8")))
    }


@pytest.mark.parametrize("name", documented())
def test_the_documented_commands_are_valid(name, quick, tmp_path):
    (tmp_path / "file").write_text("")
    # The directory is opened when all else has been found right: one that cannot be shows it.
    ended = quick([*documented()[name], f"--root_dir={tmp_path / 'file' / 'run'}"])
    assert_refused(ended, ["root_dir", "cannot be created"])


def test_documented_commands_are_found():
    assert len([name for name in documented() if name.startswith(SAC.path)]) == 4
    assert len([name for name in documented() if name.startswith("docs/launchers")]) >= 1


def test_a_file_of_a_task_is_taken_after_the_complete_one(quick, tmp_path):
    (tmp_path / "file").write_text("")
    flags = ["--gin_file=sac.gin", "--gin_file=tasks/cheetah_run.gin"]
    ended = quick([*flags, f"--root_dir={tmp_path / 'file' / 'run'}"])
    assert_refused(ended, ["root_dir", "cannot be created"])


def test_help_shows_examples_and_every_flag(quick):
    text = " ".join(quick(["--help"]).out.split())
    assert "python launchers/sac_dm_control.py --gin_file=sac.gin" in text
    for flag in ("domain_name", "task_name", "gin_bindings", "gin_file", "root_dir", "stage"):
        assert f"--{flag}: " in text or f"--[no]{flag}: " in text
