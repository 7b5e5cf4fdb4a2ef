"""Runs the examples of docs/extending.md exactly as they stand there."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("tf_agents")

import gin
import tensorflow as tf
from readme import EXTENDING, marked_block
from spaces import MICRO_2
from tf_agents.specs import tensor_spec
from trainings import TINY, StopAfter

import rldarts_tf
from rldarts_tf import commands, ops, search_space
from rldarts_tf.agents import registry
from rldarts_tf.agents.ppo.program import PPOProgram
from rldarts_tf.agents.ppo.settings import PPOSettings
from rldarts_tf.envs import suite as suites
from rldarts_tf.envs.catch.settings import CatchSettings
from rldarts_tf.envs.catch.suite import CatchSuite
from rldarts_tf.envs.procgen import settings as procgen_settings  # noqa: F401 - for gin
from rldarts_tf.errors import ConfigError
from rldarts_tf.launch import gin_files
from rldarts_tf.launch.stages import check_encoders
from rldarts_tf.runs.alpha_history import read_alphas
from rldarts_tf.runs.paths import StagePaths
from rldarts_tf.runs.summary import read_summary
from rldarts_tf.search import SearchSettings, relaxation_registry
from rldarts_tf.training.loop import Training
from rldarts_tf.training.program import StageSettings
from rldarts_tf.training.settings import EncoderSettings, TrainingSettings
from rldarts_tf.user_modules import import_modules

NAMES = (
    *("op", "space", "search", "relaxation", "gin", "baseline"),
    *("algorithm", "launcher", "experiment", "suite"),
)
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)


def run(name, **namespace):
    """Runs a block; returns its namespace."""
    # Keras names a class by its module.
    namespace = {"__name__": f"extending_{name}", **namespace}
    exec(compile(marked_block(name, EXTENDING), f"extending.md ({name})", "exec"), namespace)
    return namespace


@pytest.fixture(autouse=True)
def registries(monkeypatch):
    """Restores the registries after each test."""
    monkeypatch.setattr(ops, "_REGISTRY", dict(ops._REGISTRY))
    monkeypatch.setattr(search_space, "_REGISTRY", dict(search_space._REGISTRY))
    monkeypatch.setattr(relaxation_registry, "_REGISTRY", dict(relaxation_registry._REGISTRY))
    yield
    for name in ("my_ops", "my_relaxations"):
        sys.modules.pop(name, None)


def trained(encoder):
    """By name of a weight, whether the gradient of a loss reaches it."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(encoder(IMAGES, training=True) - 1))
    gradients = tape.gradient(loss, encoder.trainable_weights)
    return {
        w.name: g is not None and bool(np.any(g))
        for w, g in zip(encoder.trainable_weights, gradients)
    }


def test_each_marker_stands_once_and_there_are_no_others():
    markers = re.findall(r"docs-test: *(\S+)", EXTENDING.read_text(encoding="utf-8"))
    assert sorted(markers) == sorted(NAMES)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_ops_keep_the_shapes_of_the_contract(stride):
    before = set(rldarts_tf.registered_ops())
    run("op")
    own = sorted(set(rldarts_tf.registered_ops()) - before)
    assert own == ["conv_7x7_relu", "gated_3x3", "softplus"]
    x = tf.random.stateless_normal((2, 7, 9, 3), seed=(1, 2))
    for name in own:
        layer = rldarts_tf.make_op(name, 3, stride)
        assert layer(x).shape == (2, -(-7 // stride), -(-9 // stride), 3)


def test_the_gated_convolution_is_what_it_says_in_the_policy_of_the_network():
    run("op")
    layer = rldarts_tf.make_op("gated_3x3", 4, dtype="mixed_bfloat16")
    x = tf.random.stateless_normal((1, 5, 5, 2), seed=(1, 2))
    assert layer(x).dtype == tf.bfloat16
    layer = rldarts_tf.make_op("gated_3x3", 4)
    expected = layer._value(x) * tf.sigmoid(layer._gate(x))
    np.testing.assert_array_equal(layer(x), expected)
    twin = type(layer).from_config(layer.get_config())
    assert twin(x).shape == layer(x).shape


def test_the_space_makes_a_supernet_that_trains_and_a_network(capsys):
    run("op")
    made = run("space")
    space, supernet = made["space"], made["supernet"]
    assert rldarts_tf.get_search_space("gated") == space
    assert capsys.readouterr().out.startswith(f"{space.size()} Cost(parameters=")
    assert made["genotype"].search_space == "gated"
    assert made["network"](IMAGES).shape == (2, 256)
    reached = trained(supernet)
    assert all(value for name, value in reached.items() if "alpha" in name), reached
    assert supernet.discretize().search_space == "gated"


@pytest.fixture
def launch_flags():
    gin.clear_config()
    yield
    gin.clear_config()


def test_the_gin_file_defines_a_space_of_the_imported_ops(tmp_path, monkeypatch, launch_flags):
    (tmp_path / "my_ops.py").write_text(marked_block("op", EXTENDING), "utf-8")
    (tmp_path / "my_space.gin").write_text(marked_block("gin", EXTENDING, "gin"), "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    import_modules(["my_ops"])
    gin_files.load(["classic.gin", "my_space.gin"], algorithm=registry.ALGORITHMS["ppo"])
    resolved = gin_files.resolve(EncoderSettings, PPOSettings)
    encoders = {stage: settings[0] for stage, settings in resolved.items()}
    check_encoders(encoders)
    supernet = encoders["search"].make("supernet")
    assert (supernet.space.name, supernet.depths) == ("gated_micro", (8, 8, 8))
    assert supernet.space.normal_ops == ("gated_3x3", "conv_3x3", "relu")


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder with all that an algorithm and an environment family consist of, imported once."""
    folder = tmp_path_factory.mktemp("own")
    for file, name in {
        "my_games.py": "suite",
        "my_agents.py": "algorithm",
        "my_launcher.py": "launcher",
        "my_experiment.gin": "experiment",
    }.items():
        language = "gin" if file.endswith("gin") else "python"
        (folder / file).write_text(marked_block(name, EXTENDING, language), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suites, "_SUITES", dict(suites._SUITES))
        patch.setattr(registry, "ALGORITHMS", dict(registry.ALGORITHMS))
        patch.syspath_prepend(str(folder))
        games, agents = map(import_module, ("my_games", "my_agents"))
        yield SimpleNamespace(folder=folder, games=games, agents=agents)


def test_ppo_trains_in_the_suite_and_its_specs_and_scale_are_its_own(own, tmp_path):
    kind = suites.suite_of("SidesSettings")
    assert kind is own.games.SidesSuite
    suite = kind(kind.settings_class(size=4))
    assert suite.observation_spec().shape == (4, 4, 1) and suite.action_spec().num_values == 2
    assert suite.normalized(5.0, "sides") == 0.5
    numbers = PPOSettings(num_envs=8, steps_per_update=33, minibatch_size=66, learning_rate=0.01)
    length = TrainingSettings(num_env_steps=1200, final_evaluation_episodes=8)
    (tmp_path / "stage").mkdir()
    training = Training(
        StagePaths(tmp_path / "stage"),
        "baseline",
        rldarts_tf.ImpalaCNN([4], features=16),
        PPOProgram,
        StageSettings(suite.fit(numbers), suite, length),
    )
    try:
        summary = training.run()
    finally:
        training.close()
    # One step in eleven only begins an episode.
    assert summary["env_steps"] == 5 * 8 * 30
    assert summary["eval_test_return_mean_normalized"] > 0.6


def test_the_baseline_is_an_encoder_of_tf_agents_and_is_saved_by_its_config():
    spec = tensor_spec.BoundedTensorSpec((16, 16, 3), tf.uint8, 0, 255)
    made = run("baseline", observation_spec=spec)
    assert made["network"](IMAGES)[0].shape == (2, 256)
    encoder = made["encoder"]
    assert all(trained(encoder).values())
    assert [w.shape[-1] for w in encoder.weights if len(w.shape) == 4] == [8, 8]
    twin = type(encoder).from_config(encoder.get_config())
    twin(IMAGES)
    twin.set_weights(encoder.get_weights())
    np.testing.assert_array_equal(twin(IMAGES), encoder(IMAGES))


def test_the_search_method_trains_theta_and_alpha_and_makes_alpha_decide():
    space = rldarts_tf.SearchSpace("planted", ("tanh", "conv_3x3"), num_nodes=1)
    supernet = rldarts_tf.Supernet(space, depths=[4], features=8)
    head = tf.keras.layers.Dense(1)
    head(supernet(IMAGES[:, :8, :8]))
    made = run("search")
    weights = [*supernet.trainable_variables, *head.trainable_variables]
    alpha = supernet.alpha.trainable_variables
    weights = [w for w in weights if not any(w is a for a in alpha)]

    def loss(batch):
        images, labels = batch
        return tf.reduce_mean(tf.square(head(supernet(images))[:, 0] - labels))

    # The label: whether the columns of an image are all the same.
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (64, 8, 8, 3)).astype(np.uint8)
    labels = random.integers(0, 2, 64).astype(np.float32)
    images[labels == 1] = images[labels == 1][:, :, :1]
    batches = [(images[i::2], labels[i::2]) for i in range(2)]
    search = made["AlternatingSearch"](supernet, loss, weights, num_steps=30)
    before = [float(loss(batch)) for batch in batches]
    theta = [w.numpy() for w in weights]
    for step in range(30):
        search.step(batches[step % 2], batches[1 - step % 2])
    assert np.mean([float(loss(batch)) for batch in batches]) < np.mean(before)
    assert any(np.any(w.numpy() != old) for w, old in zip(weights, theta))
    assert all(np.any(a.numpy()) for a in alpha)
    entropy = supernet.alpha.entropy()["normal"]
    assert entropy < np.log(len(space.ops("normal")))
    assert supernet.discretize().search_space == "planted"


def test_a_search_with_the_relaxation_is_resumed_and_its_cell_read_off(
    tmp_path, monkeypatch, launch_flags, capsys
):
    (tmp_path / "my_relaxations.py").write_text(marked_block("relaxation", EXTENDING), "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    binding = "search/SearchSettings.relaxation = 'softplus'"
    with pytest.raises(ConfigError, match=r"relaxation must be one of softmax.*'softplus'; --imp"):
        SearchSettings(relaxation="softplus")
    import_modules(["my_relaxations"])
    gin_files.load(["minatar.gin"], [binding], algorithm=registry.ALGORITHMS["ppo"])
    method = gin_files.search_settings()
    assert method.relaxation == "softplus" and not method.reads_logits and method.sums_to_one
    length = TrainingSettings(num_env_steps=96, pictures=0, evaluation_interval=0, seed=3)
    stage = StageSettings(TINY["ppo"], CatchSuite(CatchSettings()), length)
    ends = []
    for name, stops in (("whole", [None]), ("parts", [2, None])):
        paths = StagePaths(tmp_path / name / "search")
        for stop in stops:
            tf.keras.utils.set_random_seed(0)
            supernet = rldarts_tf.Supernet(MICRO_2, [2], features=8, search=method)
            stopping = StopAfter(stop)
            with Training(paths, "search", supernet, PPOProgram, stage, stopping) as training:
                training._evaluate = lambda number: {}
                training.run()
        ends.append(supernet)
    whole, parts = ends
    z = np.concatenate([5.0 * node.numpy() for node in whole.alpha.logits["normal"]])
    s = np.log1p(np.exp(z))
    p = s / s.sum(axis=1, keepdims=True)
    assert np.any(z)
    twin = rldarts_tf.Supernet.from_config(parts.get_config())
    twin.alpha.set_weights(parts.alpha.get_weights())
    for supernet in (whole, parts, twin):
        np.testing.assert_allclose(supernet.op_weights()["normal"], p, rtol=1e-5)
    np.testing.assert_allclose(
        whole.alpha.entropy()["normal"], -np.sum(p * np.log(p), axis=1).mean(), rtol=1e-5
    )
    recorded = read_alphas(StagePaths(tmp_path / "whole/search").alphas_path)
    np.testing.assert_allclose(recorded.op_weights()["normal"][-1], p, rtol=1e-5)
    (tmp_path / "whole/config.gin").write_text(
        f"{binding}\nsearch/EncoderSettings.search_space = {MICRO_2.name!r}\n"
    )
    capsys.readouterr()
    assert commands.main(["discretize", str(tmp_path / "whole")]) == 0
    assert whole.discretize().to_json() in capsys.readouterr().out


def test_the_algorithm_learns_in_the_environment_trains_alpha_and_resumes(own, tmp_path):
    sides = own.games.SidesSuite(own.games.SidesSettings(length=8))
    settings = sides.fit(own.agents.ReinforceSettings())
    space = rldarts_tf.SearchSpace("sides", ("conv_3x3", "relu"), num_normal=1, num_nodes=1)

    def trained(num_env_steps):
        encoder = rldarts_tf.Supernet(space, [4], features=8)
        training = TrainingSettings(
            num_env_steps=num_env_steps,
            evaluation_interval=0,
            final_evaluation_episodes=16,
            pictures=0,
        )
        stage = StageSettings(settings, sides, training)
        session = Training(
            StagePaths(tmp_path / "search"), "search", encoder, own.agents.ReinforceProgram, stage
        )
        try:
            return session.run(), encoder
        finally:
            session.close()

    summary, encoder = trained(7000)
    assert summary["eval_test_return_mean_normalized"] > 0.9  # chance: 0.5
    assert all(node.numpy().any() for node in encoder.alpha.logits["normal"])
    again, resumed = trained(7200)
    assert 7200 <= again["env_steps"] < 7500
    assert again["eval_test_return_mean_normalized"] > 0.9
    assert all(node.numpy().any() for node in resumed.alpha.logits["normal"])


@pytest.mark.slow
def test_the_launcher_searches_and_its_policy_is_exported(own, server):
    imports = ["--import", "my_agents", "--import", "my_games"]
    for arguments in (
        ["my_launcher.py", "--root_dir=run", "--num_env_steps=500", "--stage=search"],
        ["-m", "rldarts_tf", *imports, "export", "run", "--output=policy", "--stage=search"],
    ):
        ended = server.run(arguments, cwd=own.folder)
        assert ended.code == 0, ended.err
    summary = read_summary(own.folder / "run" / "summary.json")
    assert summary["stages"]["search"]["game"] == "sides"
    policy = tf.saved_model.load(str(own.folder / "policy")).signatures["serving_default"]
    assert policy(observation=tf.zeros((3, 8, 8, 1), tf.uint8))["action"].shape == (3,)
