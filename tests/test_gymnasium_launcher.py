"""Gymnasium through the launch path: PPO, Rainbow and SAC, MinAtar, resuming, ids of one's own."""

from __future__ import annotations

import contextlib
import re
import time

import pytest

pytest.importorskip("gymnasium")
pytest.importorskip("tf_agents")
pytest.importorskip("acme")

import gin
import gymnasium
import numpy as np
from absl import flags as absl_flags
from counting_envs import Blank
from gymnasium import spaces
from processes import checkpoint_step

from rldarts_tf.agents.ppo.program import PPOProgram
from rldarts_tf.agents.rainbow.program import RainbowProgram
from rldarts_tf.agents.sac.program import SACProgram
from rldarts_tf.envs.gymnasium.suite import GymnasiumSuite
from rldarts_tf.errors import ConfigError, RunError
from rldarts_tf.launch import Experiment, experiment, flags
from rldarts_tf.runs.metrics import read_metrics
from rldarts_tf.runs.paths import RunPaths
from rldarts_tf.runs.summary import read_summary

COUNTING = "RLDartsTest/Counting-v0"
ROBOT = "RLDartsTest/Robot-v0"
gymnasium.register(
    ROBOT,
    lambda: Blank(spaces.Box(0, 1, (12, 9, 2)), spaces.Box(-2, 2, (3,))),
)
EXPERIMENTS = {
    "ppo": Experiment(
        name="ppo_gymnasium", gin="minatar.gin", program=PPOProgram, suite=GymnasiumSuite
    ),
    "rainbow": Experiment(
        name="rainbow_gymnasium",
        gin="minatar_rainbow.gin",
        program=RainbowProgram,
        suite=GymnasiumSuite,
    ),
    "sac": Experiment(
        name="sac_gymnasium", gin="gymnasium_sac.gin", program=SACProgram, suite=GymnasiumSuite
    ),
}
TINY = {
    "ppo": [
        "PPOSettings.num_envs = 4",
        "PPOSettings.steps_per_update = 16",
        "PPOSettings.minibatch_size = 32",
        "PPOSettings.num_epochs = 1",
    ],
    "rainbow": [
        "RainbowSettings.num_envs = 4",
        "RainbowSettings.steps_per_update = 8",
        "RainbowSettings.batch_size = 8",
        "RainbowSettings.samples_per_insert = 2",
        "RainbowSettings.min_replay_size = 20",
        "RainbowSettings.replay_capacity = 500",
        "RainbowSettings.hidden_size = 8",
    ],
    "sac": [
        "SACSettings.num_envs = 2",
        "SACSettings.steps_per_update = 20",
        "SACSettings.batch_size = 8",
        "SACSettings.samples_per_insert = 8",
        "SACSettings.min_replay_size = 20",
        "SACSettings.replay_capacity = 500",
        "SACSettings.hidden_sizes = (8,)",
        "SACSettings.random_shift = 1",
        "search/EncoderSettings.depths = [4]",
    ],
}
SHORT = [
    "EncoderSettings.features = 8",
    "SearchSpace.name = 'small'",
    "SearchSpace.normal_ops = ['conv_3x3', 'tanh']",
    "SearchSpace.num_normal = 1",
    "SearchSpace.num_nodes = 2",
    "search/EncoderSettings.search_space = 'small'",
    "TrainingSettings.evaluation_interval = 0",
    "TrainingSettings.final_evaluation_episodes = 4",
]


def launch(algorithm, root, *arguments):
    """Runs a launcher's experiment in this process."""
    made = EXPERIMENTS[algorithm]
    values = flags.define(made, absl_flags.FlagValues())
    bound = [f"--gin_bindings={binding}" for binding in [*SHORT, *TINY[algorithm]]]
    values(["test", f"--root_dir={root}", *bound, *arguments])
    try:
        experiment.run(made, values)
    finally:
        gin.clear_config()


@pytest.mark.parametrize(
    ("algorithm", "game"), [("ppo", COUNTING), ("rainbow", COUNTING), ("sac", ROBOT)]
)
def test_an_algorithm_searches_on_an_environment_of_the_users_own(algorithm, game, tmp_path):
    arguments = (f"--env_name={game}", "--stage=search", "--num_env_steps=128")
    launch(algorithm, tmp_path / "run", *arguments)
    paths = RunPaths(tmp_path / "run")
    entry = read_summary(paths.summary_path)["stages"]["search"]
    assert (entry["exit_state"], entry["game"]) == ("finished", game)
    assert entry["env_steps"] >= 128
    # Without reference scores returns are left raw.
    assert entry["eval_test_return_mean_normalized"] == entry["eval_test_return_mean"]


RAW = (
    r"warning: RainbowSettings\.v_max = 0\.25 .*Counting-v0.* "
    r"GymnasiumSettings\.reference_returns\n"
)


@pytest.mark.parametrize(
    ("binding", "warned"),
    [
        ("RainbowSettings.v_max = 0.25", True),
        ("RainbowSettings.v_max = 20", False),
        (f"GymnasiumSettings.reference_returns = {{'{COUNTING}': (1, 10)}}", False),
        (f"GymnasiumSettings.reference_returns = {{'{COUNTING}': (-9, 0)}}", True),
    ],
)
def test_atoms_for_scaled_returns_are_warned_of_where_nothing_scales_them(
    binding, warned, tmp_path, capfd
):
    arguments = (f"--env_name={COUNTING}", "--stage=search", "--num_env_steps=32")
    launch("rainbow", tmp_path / "run", *arguments, f"--gin_bindings={binding}")
    lines = [line for line in capfd.readouterr().err.splitlines(True) if "warning: Rain" in line]
    assert len(lines) == warned and all(re.fullmatch(RAW, line) for line in lines)


def test_a_run_that_is_resumed_goes_on_counting_with_new_episodes(tmp_path, monkeypatch):
    arguments = (f"--env_name={COUNTING}", "--stage=search", "--num_env_steps=128")
    with monkeypatch.context() as patch:
        patch.setattr(
            experiment.process, "stop_on_signals", lambda: contextlib.nullcontext(lambda: True)
        )
        launch("ppo", tmp_path / "run", *arguments)
    paths = RunPaths(tmp_path / "run")
    before = read_metrics(paths.stage("search").metrics_path)
    assert before["step"][-1] < 128
    launch("ppo", tmp_path / "run", *arguments)
    after = read_metrics(paths.stage("search").metrics_path)
    assert after["step"][-1] >= 128 and after["episodes"][0] == before["episodes"][0]
    assert after["episodes"][1] > before["episodes"][-1]
    assert read_summary(paths.summary_path)["stages"]["search"]["exit_state"] == "finished"


@pytest.mark.parametrize(
    ("algorithm", "baseline", "least"),
    [("ppo", "nature_cnn", 36), ("sac", "pisac_cnn", 15)],
)
def test_a_baseline_that_is_too_large_for_the_images_is_refused(
    algorithm, baseline, least, tmp_path
):
    with pytest.raises(ConfigError, match=rf"of at least {least} x {least} pixels, got 12 x 9$"):
        launch(
            algorithm,
            tmp_path / "run",
            f"--env_name={ROBOT}",
            "--stage=baseline",
            "--num_env_steps=64",
            f"--gin_bindings=EncoderSettings.baseline = '{baseline}'",
        )


class Faulty(Blank):
    """Fails in the 20th step after its construction, as `fault` of the class says."""

    fault = None

    def __init__(self):
        super().__init__(spaces.Box(0, 255, (8, 8, 1), np.uint8))

    def step(self, action):
        if len(self.played) == 19 and Faulty.fault == "raise":
            raise KeyError("wheel")
        if len(self.played) == 19 and Faulty.fault == "hang":
            time.sleep(600)
        return super().step(action)


gymnasium.register("RLDartsTest/Faulty-v0", Faulty)


@pytest.mark.parametrize(
    ("fault", "vectorization", "said"),
    [
        (
            "raise",
            "sync",
            r"failed: KeyError: 'wheel' \(test_gymnasium_launcher.py:\d+, in step\)$",
        ),
        ("hang", "async", "failed: no answer within 20 s$"),
    ],
)
def test_a_run_whose_environment_fails_keeps_its_checkpoint_and_is_resumed(
    fault, vectorization, said, tmp_path, monkeypatch, capsys
):
    arguments = [
        "--env_name=RLDartsTest/Faulty-v0",
        "--stage=search",
        "--num_env_steps=128",
        f"--gin_bindings=GymnasiumSettings.vectorization = '{vectorization}'",
        "--gin_bindings=GymnasiumSettings.step_timeout = 20",
        "--gin_bindings=TrainingSettings.checkpoint_minutes = 0",
    ]
    root = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Faulty, "fault", fault)
        with pytest.raises(RunError, match=f"^the simulator RLDartsTest/Faulty-v0 {said}"):
            launch("ppo", root, *arguments)
    # 16 steps of each of 4 environments, of which two begin an episode.
    assert checkpoint_step(root / "search") == 56
    assert "goes on" not in capsys.readouterr().err
    launch("ppo", root, *arguments)
    going_on = "search: goes on at step 56, with new episodes: those that ran cannot be saved\n"
    assert going_on in capsys.readouterr().err
    paths = RunPaths(root)
    steps = read_metrics(paths.stage("search").metrics_path)["step"]
    assert steps[0] == 56 < steps[1] and steps[-1] >= 128
    assert read_summary(paths.summary_path)["stages"]["search"]["exit_state"] == "finished"
    assert not [*paths.stage("search").path.glob("**/damaged-*")]


@pytest.mark.parametrize("algorithm", ["ppo", "rainbow"])
def test_minatar_is_played_by_its_id_alone(algorithm, tmp_path):
    pytest.importorskip("minatar")
    launch(
        algorithm,
        tmp_path / "run",
        "--env_name=MinAtar/Seaquest-v1",
        "--stage=baseline",
        "--num_env_steps=128",
        "--gin_bindings=EncoderSettings.baseline = 'minatar_cnn'",
        "--gin_bindings=TrainingSettings.final_evaluation_episodes = 1",
    )
    entry = read_summary(RunPaths(tmp_path / "run").summary_path)["stages"]["baseline"]
    assert (entry["encoder"], entry["exit_state"]) == ("MinAtarCNN", "finished")
    score = (entry["eval_test_return_mean"] - 0.1) / (54 - 0.1)
    assert entry["eval_test_return_mean_normalized"] == pytest.approx(score)


def test_a_module_of_the_users_own_is_named_by_a_flag():
    made = EXPERIMENTS["ppo"]
    values = flags.define(made, absl_flags.FlagValues())
    values(["test", "--env_module=my_package.envs", "--import=my_ops"])
    assert values["import"].value == ["my_package.envs", "my_ops"]
