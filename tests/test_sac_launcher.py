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
from launching import (
    Interrupted,
    assert_helpful,
    assert_little_was_lost,
    assert_only_progress,
    assert_refused_at_once,
    assert_stopped_well,
    assert_valid,
    binding,
    complaints,
    documented,
    preloads,
    stop_twice,
)
from processes import Ended, Launcher, complete_rows, contents, finish, numbers, rows_of, workers_of

from rldarts_tf.genotype import Genotype
from rldarts_tf.runs.alpha_history import read_alphas

pytest.importorskip("dm_control")

SAC = tiny.SAC.launcher

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

NUM_ENVS, RANDOM_STEPS, STEPS, LONG_STEPS = 2, 20, 60, 240
# To start a simulator takes longest.
WHOLE = tiny.SAC.having("TrainingSettings.pictures = 1", "SACSettings.num_envs = 1")


quick = preloads(SAC)


# --- a whole run --------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Whole:
    """A run of all stages."""

    root: Path
    ended: Ended


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Whole:
    root = tmp_path_factory.mktemp("whole") / "run"
    ended = SAC.launch(WHOLE.flags(root, STEPS))
    assert ended.code == 0, ended.err
    return Whole(root, ended)


def test_a_run_finds_a_cell_and_evaluates_it(whole):
    stages = json.loads((whole.root / "summary.json").read_text("utf-8"))["stages"]
    for stage, encoder in (("search", "Supernet"), ("evaluate", "DiscreteNetwork")):
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
    assert_only_progress(whole.ended.err, STEPS)


def test_a_second_start_trains_nothing_and_changes_nothing(whole, quick):
    before = contents(whole.root)
    again = quick(WHOLE.flags(whole.root, STEPS))
    assert (again.code, complaints(again.err)) == (0, [])
    assert contents(whole.root) == before


# --- stopping and going on ----------------------------------------------------------------------


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
def interrupted(tmp_path_factory, quick) -> tuple[Interrupted, list[int]]:
    """A training that is stopped twice and goes on but for a worker; workers that outlived it.

    Of the baseline, which is traced in a fraction of the time: the program is that of a search.
    """
    root = tmp_path_factory.mktemp("interrupted") / "run"
    flags = tiny.SAC.flags(root, LONG_STEPS, "--stage=baseline")
    stopped = stop_twice(quick, root, flags, "baseline")
    # Workers notice that nobody is there any more; on a busy machine that takes them a while.
    until = time.monotonic() + 30
    while (orphans := _workers()) and time.monotonic() < until:
        time.sleep(0.5)
    ended = launch_and_kill_a_worker(quick, root, flags)
    return dataclasses.replace(stopped, ended=ended), orphans


def _workers() -> list[int]:
    """Process numbers of the workers of this task."""
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit()
        and b"dm_control.worker" in _command(entry)
        and b"swingup" in _command(entry)
    ]


def _command(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""


def test_sigterm_ends_well_with_a_checkpoint_of_the_last_step(interrupted):
    assert_stopped_well(interrupted[0].terminated, LONG_STEPS, "baseline")


def test_kill_loses_at_most_what_came_after_the_last_checkpoint(interrupted):
    # Every row is saved: the one that was being saved may be lost.
    stopped, orphans = interrupted
    assert_little_was_lost(stopped, 2 * 10 * NUM_ENVS)
    assert orphans == []


def test_steps_replay_and_episodes_go_on_after_each_stop_and_a_dead_worker(interrupted):
    interrupted, _ = interrupted
    assert interrupted.ended.code == 0, interrupted.ended.err
    going_on, *complaints = (
        line for line in interrupted.ended.err.splitlines() if " left" not in line
    )
    assert re.fullmatch(r"baseline: goes on at step [\d,]+, with new episodes: .*", going_on)
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
    stages = json.loads((interrupted.root / "summary.json").read_text("utf-8"))["stages"]
    entry = stages["baseline"]
    assert (entry["exit_state"], entry["encoder"]) == ("finished", "PiSacCNN")
    assert entry["env_steps"] >= LONG_STEPS and entry["eval_test_return_mean"] >= 0
    assert set(numbers(rows, "length_mean")) == {20}, "episodes that were cut off do not count"
    saved = list((interrupted.root / "baseline/checkpoints/replay").iterdir())
    assert len(saved) == 2, "what neither checkpoint needs is deleted"


# --- bad input ----------------------------------------------------------------------------------


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
    assert_refused_at_once(quick, tmp_path, BAD_INPUT[name])


# --- help and examples --------------------------------------------------------------------------


DOCUMENTED = documented(SAC, "docs/results.md")


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_documented_commands_are_valid(name, quick, tmp_path):
    assert_valid(quick, tmp_path, DOCUMENTED[name])


def test_documented_commands_are_found():
    assert len([name for name in DOCUMENTED if name.startswith(SAC.path)]) == 4
    assert len([name for name in DOCUMENTED if name.startswith("docs/launchers")]) >= 1


def test_a_file_of_a_task_is_taken_after_the_complete_one(quick, tmp_path):
    assert_valid(quick, tmp_path, ["--gin_file=sac.gin", "--gin_file=tasks/cheetah_run.gin"])


def test_help_shows_examples_and_every_flag(quick):
    flags = ("domain_name", "task_name", "gin_bindings", "gin_file", "root_dir", "stage")
    assert_helpful(quick, "--gin_file=sac.gin", *flags)
