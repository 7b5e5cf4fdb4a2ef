"""Gymnasium through the launch path: PPO, Rainbow and SAC, MinAtar, resuming, ids of one's own."""

from __future__ import annotations

import contextlib

import pytest

pytest.importorskip("gymnasium")
pytest.importorskip("tf_agents")
pytest.importorskip("acme")

import gin
import gymnasium
from absl import flags as absl_flags
from counting_envs import Blank
from gymnasium import spaces

from rldarts_tf.agents.ppo.program import PPOProgram
from rldarts_tf.agents.rainbow.program import RainbowProgram
from rldarts_tf.agents.sac.program import SACProgram
from rldarts_tf.envs.gymnasium.suite import GymnasiumSuite
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
