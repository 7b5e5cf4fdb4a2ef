"""Any algorithm in any suite whose actions fit: Catch through the launch path, and others."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tf_agents")
pytest.importorskip("acme")

from aiming import AimingSettings, AimingSuite
from launching import launch
from trainings import TINY

import rldarts_tf
from rldarts_tf import SearchSpace, Supernet, export
from rldarts_tf.agents.ppo.program import PPOProgram
from rldarts_tf.agents.rainbow.program import RainbowProgram
from rldarts_tf.agents.registry import algorithm_of
from rldarts_tf.agents.sac.program import SACProgram
from rldarts_tf.envs.catch import Catch, CatchSettings, CatchSuite
from rldarts_tf.envs.planted import PlantedSettings, PlantedSuite
from rldarts_tf.envs.suite import Suite, register_suite, suite_names, suite_of
from rldarts_tf.errors import ConfigError
from rldarts_tf.export.policies import load_policy
from rldarts_tf.runs.metrics import read_metrics
from rldarts_tf.runs.paths import RunPaths, StagePaths
from rldarts_tf.runs.summary import read_summary
from rldarts_tf.training.loop import Training
from rldarts_tf.training.program import StageSettings
from rldarts_tf.training.settings import TrainingSettings

PACKAGE = Path(rldarts_tf.__file__).parent
SPACE = SearchSpace(name="aim", normal_ops=("conv_3x3", "tanh"), num_normal=1, num_nodes=2)
CATCH = [
    "Algorithm.name = '{name}'",
    "CatchSettings.rows = 6",
    "EncoderSettings.features = 32",
    *(f"{stage}/EncoderSettings.depths = [4]" for stage in ("search", "evaluate", "baseline")),
    "search/EncoderSettings.search_space = 'catch'",
    "SearchSpace.name = 'catch'",
    "SearchSpace.normal_ops = ['conv_3x3', 'tanh']",
    "SearchSpace.num_normal = 1",
    "SearchSpace.num_nodes = 2",
    "TrainingSettings.evaluation_interval = 0",
    "TrainingSettings.final_evaluation_episodes = 64",
]
ALGORITHMS = {
    "ppo": (
        PPOProgram,
        [
            "TrainingSettings.num_env_steps = 10_000",
            "PPOSettings.num_envs = 16",
            "PPOSettings.steps_per_update = 32",
            "PPOSettings.num_epochs = 4",
            "PPOSettings.minibatch_size = 128",
            "PPOSettings.learning_rate = 3e-3",
            "PPOSettings.discount = 0.95",
        ],
    ),
    "rainbow": (
        RainbowProgram,
        [
            # Reverb's draws have no seed: one of eight trainings was far from done at 3,000 steps.
            "TrainingSettings.num_env_steps = 5_000",
            "RainbowSettings.num_envs = 8",
            "RainbowSettings.batch_size = 32",
            "RainbowSettings.samples_per_insert = 8",
            "RainbowSettings.min_replay_size = 200",
            "RainbowSettings.n_step = 5",
            "RainbowSettings.replay_capacity = 10_000",
            "RainbowSettings.learning_rate = 2e-3",
            "RainbowSettings.target_update_period = 25",
            "RainbowSettings.epsilon_base = 0.1",
            "RainbowSettings.epsilon_exponents = (1, 1)",
            "RainbowSettings.epsilon_decay = 0",
            "RainbowSettings.hidden_size = 64",
            "RainbowSettings.v_min = -1",
            "RainbowSettings.steps_per_update = 32",
        ],
    ),
}


@pytest.fixture(scope="module", params=ALGORITHMS)
def searched(request, tmp_path_factory):
    """(name of the algorithm, run directory) of a search on Catch."""
    program, numbers = ALGORITHMS[request.param]
    root = tmp_path_factory.mktemp(request.param) / "run"
    bindings = [binding.format(name=request.param) for binding in CATCH] + numbers
    launch(program, CatchSuite, root, bindings, "--stage=search", "--seed=1")
    return request.param, root


def test_catch_is_learned_through_the_launch_path(searched):
    entry = read_summary(RunPaths(searched[1]).summary_path)["stages"]["search"]
    assert entry["exit_state"] == "finished"
    assert (entry["game"], entry["variant"]) == ("catch", "6 x 5")
    assert entry["evaluations"] == {"test": "fresh episodes"}
    # A random player catches one ball in five: -0.6.
    assert entry["eval_test_return_mean"] > 0.2
    metrics = read_metrics(RunPaths(searched[1]).stage("search").metrics_path)
    assert metrics["return_mean"][0] < 0 < metrics["return_mean"][-1]
    # Every episode has five steps; what only begins one is none.
    assert (metrics["length_mean"] == 5).all()
    assert entry["env_steps"] // 5 - 16 <= entry["episodes"] <= entry["env_steps"] // 5


def test_the_exported_policy_catches(searched, tmp_path):
    policy = load_policy(searched[1], "search")
    assert isinstance(policy.suite, CatchSuite) and policy.suite.settings.rows == 6
    assert policy.image_shape == (6, 5, 1)
    export.save(policy, tmp_path / "policy")
    act = export.load(tmp_path / "policy")
    game, caught = Catch(rows=6, seed=5), 0
    for _ in range(30):
        time_step = game.reset()
        while not time_step.last():
            action = act(time_step.observation[None])["action"]
            time_step = game.step(int(action[0]))
        caught += time_step.reward == 1
    assert caught >= 18


# --- other pairs ------------------------------------------------------------------------------

CONTINUOUS = AimingSuite(AimingSettings(continuous=True))
DISCRETE = AimingSuite(AimingSettings())


def make_training(program, suite, root):
    root.mkdir()
    return Training(
        StagePaths(root),
        "search",
        Supernet(SPACE, [4], features=8),
        program,
        StageSettings(
            suite.fit(TINY[algorithm_of(program).name]),
            suite,
            TrainingSettings(num_env_steps=40, final_evaluation_episodes=2, pictures=0),
        ),
    )


@pytest.mark.parametrize(
    ("program", "suite"),
    [(PPOProgram, CONTINUOUS), (SACProgram, CONTINUOUS), (RainbowProgram, DISCRETE)],
    ids=["ppo continuous", "sac", "rainbow"],
)
def test_an_algorithm_trains_in_a_suite_that_it_does_not_know(program, suite, tmp_path):
    training = make_training(program, suite, tmp_path / "search")
    try:
        summary = training.run()
    finally:
        training.close()
    assert summary["exit_state"] == "finished" and summary["env_steps"] >= 40
    metrics = read_metrics(tmp_path / "search" / "metrics.csv")
    assert "crashes" not in metrics
    assert np.isfinite(metrics[training.program.columns[0]][-1])


@pytest.mark.parametrize(
    ("program", "suite", "message"),
    [
        (
            RainbowProgram,
            CONTINUOUS,
            r"^Rainbow chooses among discrete actions, and those of these environments are float32 "
            r"in -1\.0 to 1\.0, of shape \(1,\)$",
        ),
        (
            SACProgram,
            DISCRETE,
            r"^SAC has continuous actions in -1 to 1, and those of these environments are integers "
            r"from 0 to 2, of shape \(\)$",
        ),
    ],
    ids=["rainbow", "sac"],
)
def test_actions_that_do_not_fit_are_one_line(program, suite, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        make_training(program, suite, tmp_path / "search")


def test_the_agents_know_no_simulator():
    families = re.compile(
        r"rldarts_tf\.envs\.(procgen|dm_control|catch|gymnasium)|^(procgen|dm_control)"
    )
    for path in (PACKAGE / "agents").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names.append(node.module)
            assert not any(families.search(name) for name in names), path


# --- suites -----------------------------------------------------------------------------------


def test_a_suite_is_found_by_the_name_of_its_settings():
    assert {"CatchSettings", "ProcgenSettings", "DMControlSettings"} <= set(suite_names())
    assert suite_of("CatchSettings") is CatchSuite and suite_of("AimingSettings") is AimingSuite

    @dataclasses.dataclass(frozen=True)
    class OwnSettings:
        pass

    @register_suite
    class OwnSuite(AimingSuite):
        settings_class = OwnSettings

    assert suite_of("OwnSettings") is OwnSuite


def test_what_a_suite_says_of_itself_where_it_says_nothing_special():
    suite: Suite = CONTINUOUS
    assert suite.describe() == {
        "game": "aiming",
        "variant": "",
        "evaluations": {"test": "fresh episodes"},
    }
    assert suite.normalized(3.5, "aiming") == 3.5
    np.testing.assert_array_equal(suite.reward_scale(["aiming"] * 2)(np.ones(2)), [1, 1])
    with pytest.raises(ConfigError, match=r"^RainbowSettings\.reward_maximum: 'easy' is not supp"):
        suite.fit(dataclasses.replace(TINY["rainbow"], reward_maximum="easy"))


def test_specs_start_nothing_where_they_are_known(monkeypatch):
    pytest.importorskip("procgen")
    from rldarts_tf.envs.procgen import ProcgenSettings, ProcgenSuite, batch

    monkeypatch.setattr(batch, "_load_procgen", lambda: pytest.fail("a simulator was started"))
    suite = ProcgenSuite(ProcgenSettings())
    assert suite.observation_spec().shape == (64, 64, 3)
    assert (suite.action_spec().minimum, suite.action_spec().maximum) == (0, 14)


@pytest.mark.parametrize(
    "suite",
    [CatchSuite(CatchSettings(rows=5)), PlantedSuite(PlantedSettings(task="count"))],
    ids=["catch", "planted"],
)
def test_environments_with_a_state_resume_exactly(suite):
    first, second = suite.make(4, seed=3), suite.make(4, seed=8)
    actions = np.random.default_rng(0).integers(0, 3, (60, 4))
    for action in actions[:30]:
        first.step(action)
    second.set_state(first.get_state())
    for action in actions[30:]:
        one, other = first.step(action), second.step(action)
        for name in ("step_type", "reward", "discount", "observation"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for one, other in zip(first.episodes.take(), second.episodes.take()):
        np.testing.assert_array_equal(one, other)


def test_environments_without_a_state_begin_new_episodes_with_new_seeds():
    first = CONTINUOUS.make(2, seed=3)
    begun = first.reset().observation
    for _ in range(5):
        first.step(np.zeros((2, 1)))
    state = first.get_state()
    second = CONTINUOUS.make(2, seed=3)
    np.testing.assert_array_equal(second.reset().observation, begun)
    second.set_state(state)
    assert (second.current_time_step().step_type == 0).all()
    assert (second.current_time_step().observation != begun).any()
    np.testing.assert_array_equal(second.get_state()["generation"], 1)
