"""The Rainbow launcher as its user meets it; what it shares with PPO's is in test_launcher.py."""

from __future__ import annotations

import dataclasses
import json
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
    interrupt,
    preloads,
)
from processes import Ended, assert_refused, contents, numbers, rows_of

from rldarts_tf.export import policies
from rldarts_tf.genotype import Genotype, random_genotype
from rldarts_tf.runs.alpha_history import read_alphas
from rldarts_tf.search_space import MICRO, SearchSpace

RAINBOW = tiny.RAINBOW.launcher

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

NUM_ENVS, UPDATE, MIN_REPLAY = 4, tiny.RAINBOW.update, 32
STEPS, LONG_STEPS = 4 * UPDATE, 12 * UPDATE
# Episodes end within so few steps.
SEED = "--seed=6"
quick = preloads(RAINBOW)


# --- a whole run: a search on some games, an evaluation on another ------------------------------

GAMES = {"search": "coinrun, maze", "evaluate": "bigfish"}
WHOLE = tiny.RAINBOW.having(
    *tiny.SMALL_SPACE,
    "search/ProcgenSettings.game = ['coinrun', 'maze']",
    "evaluate/ProcgenSettings.game = 'bigfish'",
    "TrainingSettings.pictures = 1",
)


def whole_flags(root: Path) -> list[str]:
    flags = WHOLE.flags(root, STEPS, SEED)
    return [flag for flag in flags if not flag.startswith("--env_name")]


@dataclasses.dataclass(frozen=True)
class Whole:
    """A run of all stages."""

    root: Path
    ended: Ended


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Whole:
    root = tmp_path_factory.mktemp("whole") / "run"
    ended = RAINBOW.launch(whole_flags(root))
    assert ended.code == 0, ended.err
    return Whole(root, ended)


def test_a_run_finds_a_cell_and_evaluates_it(whole):
    stages = json.loads((whole.root / "summary.json").read_text("utf-8"))["stages"]
    for stage, encoder in (("search", "Supernet"), ("evaluate", "DiscreteNetwork")):
        entry = stages[stage]
        assert (entry["exit_state"], entry["encoder"]) == ("finished", encoder)
        assert (entry["game"], entry["env_steps"]) == (GAMES[stage], STEPS)
        assert entry["eval_test_return_mean"] >= 0
    genotype = Genotype.load(whole.root / "genotype.json")
    assert genotype.space == SearchSpace("launcher_space", ("relu", "conv_3x3"), num_nodes=2)
    assert stages["evaluate"]["genotype"] == genotype.to_dict()
    assert {p.name for p in (whole.root / "cells").iterdir()} == {"normal.png", "normal.svg"}
    history = read_alphas(whole.root / "search/alphas.npz")
    assert history.steps.tolist() == list(range(0, STEPS + 1, UPDATE))
    assert (history.logits["normal"][-1] != history.logits["normal"][0]).any()


def test_a_cell_of_a_space_that_gin_defines_is_evaluated_on_another_game(whole, quick):
    root = whole.root
    # The same settings, as the directory recorded them: nothing is left to do.
    again = [f"--gin_file={root / 'config.gin'}", f"--root_dir={root}"]
    before = contents(root)
    assert quick(again).code == 0
    assert contents(root) == before
    other = quick([*whole_flags(root), *binding("evaluate/ProcgenSettings.game = 'maze'")])
    assert_refused(other, ["evaluate/", "ProcgenSettings.game", "'bigfish' -> 'maze'"])
    policy = policies.load_policy(root, "search")
    assert policy.encoder.space == Genotype.load(root / "genotype.json").space
    assert policies.load_policy(root, "evaluate").suite.games == ("bigfish",)


@pytest.mark.parametrize("stage", ["search", "evaluate"])
def test_the_learner_takes_as_many_samples_as_the_settings_say(whole, stage):
    rows = rows_of(whole.root / stage / "metrics.csv")
    steps = numbers(rows, "step")
    assert steps == list(range(UPDATE, STEPS + 1, UPDATE))
    assert numbers(rows, "learner_steps") == [(step - MIN_REPLAY) // 8 for step in steps]
    assert len(numbers(rows, "loss")) == sum(step > MIN_REPLAY for step in steps)
    assert len(numbers(rows, "replay_size")) == len(rows)


def test_standard_error_has_progress_and_nothing_else(whole):
    assert_only_progress(whole.ended.err, STEPS)


def test_a_second_start_trains_nothing_and_changes_nothing(whole, quick):
    before = contents(whole.root)
    again = quick(whole_flags(whole.root))
    assert (again.code, complaints(again.err)) == (0, [])
    assert contents(whole.root) == before


# --- stopping and going on ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory, quick) -> Interrupted:
    root = tmp_path_factory.mktemp("interrupted") / "run"
    flags = tiny.RAINBOW.having(*tiny.SMALL_SPACE).flags(root, LONG_STEPS, SEED, "--stage=search")
    return interrupt(quick, root, flags)


def test_sigterm_ends_well_with_a_checkpoint_of_the_last_step(interrupted):
    assert_stopped_well(interrupted.terminated, LONG_STEPS)


def test_kill_loses_at_most_what_came_after_the_last_checkpoint(interrupted):
    # Every update is saved: the one that was being saved may be lost.
    assert_little_was_lost(interrupted, 2 * UPDATE)


def test_steps_replay_and_alpha_go_on_after_each_stop(interrupted):
    assert interrupted.ended.code == 0, interrupted.ended.err
    rows = rows_of(interrupted.root / "search/metrics.csv")
    steps = np.array(numbers(rows, "step"))
    assert steps[-1] == LONG_STEPS and (np.diff(steps) > 0).all()
    assert np.diff(steps).max() <= UPDATE
    np.testing.assert_array_equal(
        numbers(rows, "learner_steps"), np.maximum(steps - MIN_REPLAY, 0) // 8
    )
    # Nothing that replay held was lost: it falls behind the steps only by the windows of the
    # adders, which are begun anew at each of the three starts.
    behind = steps - np.array(numbers(rows, "replay_size"))
    assert np.abs(behind).max() <= 3 * NUM_ENVS * 2 + NUM_ENVS * len(numbers(rows, "episodes"))
    episodes = numbers(rows, "episodes")
    assert episodes == sorted(episodes)
    history = read_alphas(interrupted.root / "search/alphas.npz")
    np.testing.assert_array_equal(history.steps[1:], steps)
    weights = history.op_weights()["normal"][:, :1]
    # Adam moves a weight by about the learning rate per step; a new start would be a jump.
    moved = np.abs(np.diff(weights, axis=0)).max(axis=(1, 2))
    assert moved[1:].max() < 20 * np.median(moved[1:]) + 1e-3
    saved = list((interrupted.root / "search/checkpoints/replay").iterdir())
    assert len(saved) == 2, "what neither checkpoint needs is deleted"


# --- bad input ----------------------------------------------------------------------------------


BAD_INPUT = {
    "configuration of another algorithm": (
        ["--gin_file=classic.gin"],
        ["gin_file 'classic.gin'", "PPOSettings", "RainbowSettings"],
    ),
    "configuration of another algorithm with an overlay": (
        ["--gin_file=classic.gin", "--gin_file=hardware/cpu.gin"],
        ["gin_file 'classic.gin', 'hardware/cpu.gin'", "PPOSettings", "RainbowSettings"],
    ),
    "setting of another algorithm": (
        ["--gin_file=micro.gin", *binding("search/PPOSettings.num_envs = 2")],
        ["gin_bindings", "PPOSettings.num_envs", "RainbowSettings"],
    ),
    "unknown game among several": (["--env_name=maze,startpilot"], ["game", "'starpilot'"]),
    "game twice": (["--env_name=maze,maze"], ["game", "'maze'", "twice"]),
    "fewer environments than games": (
        ["--gin_file=joint.gin", *binding("RainbowSettings.num_envs = 8")],
        ["RainbowSettings.num_envs", "8", "16"],
    ),
    "less capacity than is waited for": (
        binding("RainbowSettings.replay_capacity = 5_000"),
        ["RainbowSettings.min_replay_size = 10000", "replay_capacity = 5000"],
    ),
    "no steps in a return": (binding("RainbowSettings.n_step = 0"), ["RainbowSettings.n_step"]),
    "no default in a table": (
        binding("RainbowSettings.n_step_by_game = {'maze': 3}"),
        ["RainbowSettings.n_step_by_game", "'default'"],
    ),
    "support without extent": (
        binding("evaluate/RainbowSettings.v_max = 0.0"),
        ["RainbowSettings.v_min", "v_max", "'evaluate'"],
    ),
    "unknown maximum": (
        binding("RainbowSettings.reward_maximum = 'huge'"),
        ["RainbowSettings.reward_maximum", "'huge'"],
    ),
    "probability above one": (
        binding("RainbowSettings.epsilon_base = 1.5"),
        ["RainbowSettings.epsilon_base"],
    ),
    "unknown setting": (binding("RainbowSettings.noisy = True"), ["noisy", "RainbowSettings"]),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_ends_with_one_line_and_writes_nothing(name, quick, tmp_path):
    assert_refused_at_once(quick, tmp_path, BAD_INPUT[name])


def test_one_game_has_the_same_messages_for_both_launchers(quick, tmp_path):
    ended = quick([f"--root_dir={tmp_path / 'run'}", "--env_name=startpilot"])
    assert_refused(ended, ["game", "'startpilot'", "'starpilot'"])


# --- help and examples --------------------------------------------------------------------------


DOCUMENTED = documented(RAINBOW, "docs/results.md")


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_documented_commands_are_valid(name, quick, tmp_path):
    random_genotype(MICRO, 0).save(tmp_path / "cell.json")
    cell = f"--genotype={tmp_path / 'cell.json'}"
    flags = [cell if flag.startswith("--genotype=") else flag for flag in DOCUMENTED[name]]
    assert_valid(quick, tmp_path, flags)


def test_documented_commands_are_found():
    assert len([name for name in DOCUMENTED if name.startswith(RAINBOW.path)]) == 4
    assert len([name for name in DOCUMENTED if name.startswith("docs/launchers")]) >= 2


def test_help_shows_examples_and_every_flag(quick):
    flags = ("env_name", "gin_bindings", "gin_file", "root_dir", "seed", "stage")
    assert_helpful(quick, "--gin_file=joint.gin", *flags)
