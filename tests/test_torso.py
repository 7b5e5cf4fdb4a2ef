"""The Sonnet torso inside unmodified Acme: its agents, targets, savers and variable clients.

`scripts/test_acme_tf28.sh` runs this file beside dm-acme 0.4.0 and TensorFlow 2.8.
"""

from __future__ import annotations

import copy
import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("acme")

import acme
import catching
import dm_env
import reverb
import sonnet as snt
import tensorflow as tf
from acme import specs, wrappers
from acme.adders import reverb as adders
from acme.agents.tf import dmpo, dqn, r2d2
from acme.tf import networks, savers, variable_utils
from acme.tf import utils as tf2_utils
from acme.tf.networks import embedding
from acme.utils import loggers
from dm_env import specs as dm_env_specs
from reference import randomize
from spaces import CLASSIC_2, MICRO_2
from weights import alphas, unchanged, values

from rldarts_tf import (
    CLASSIC,
    MICRO,
    ConfigError,
    DiscreteNetwork,
    GenotypeError,
    ImpalaCNN,
    NatureCNN,
    Supernet,
    acme_compat,
    random_genotype,
)
from rldarts_tf.envs.catch import Catch
from rldarts_tf.torso import Torso

TENSORFLOW_28 = tf.__version__.startswith("2.8.")
SIZE = 8
IMAGE = specs.BoundedArray((SIZE, SIZE, 3), np.uint8, 0, 255, name="image")
SMALL = {"search_space": MICRO_2, "depths": (4,), "features": 16}
ENCODERS = {
    "micro": SMALL,
    "classic": {**SMALL, "search_space": CLASSIC_2.name},
    "batch": {**SMALL, "normalization": "batch"},
    "layer": {**SMALL, "normalization": "layer"},
    "recompute": {**SMALL, "search_space": CLASSIC_2, "recompute": True},
    "frozen": {**SMALL, "train_alpha": False},
    "bfloat16": {**SMALL, "precision": "mixed_bfloat16"},
    "discrete": {
        "encoder": "discrete",
        "genotype": random_genotype(CLASSIC, random.Random(5)),
        "depths": (4,),
    },
    "impala_cnn": {"encoder": "impala_cnn", "depths": (4, 4)},
    "nature_cnn": {"encoder": "nature_cnn"},
}
if TENSORFLOW_28:  # Keras' own convolutions fail there in half precision.
    del ENCODERS["bfloat16"]


def image_spec(case):
    # NatureCNN has no padding: smaller images would have nothing left.
    return IMAGE.replace(shape=(36, 36, 3)) if case == "nature_cnn" else IMAGE


def images(batch, spec=IMAGE, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (batch, *spec.shape))
    return tf.constant(pixels, tf.uint8)


def ids(variables):
    return [id(v) for v in variables]


def made(case):
    """(network of a torso and a head with variables that differ from initial ones, torso)."""
    torso = Torso(**ENCODERS[case])
    network = snt.Sequential([torso, snt.Linear(3)])
    tf2_utils.create_variables(network, [image_spec(case)])
    randomize(torso.variables, seed=1)
    return network, torso


@pytest.fixture(autouse=True)
def acme_files_in_a_temporary_directory(tmp_path, monkeypatch):
    """R2D2 saves a snapshot to ~/acme whatever it is asked for."""
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def patched_reverb(monkeypatch):
    """Reverb as Acme's own agents need it, in one test."""
    monkeypatch.setattr(reverb, "Client", reverb.Client)  # Put back afterwards.
    acme_compat.patch_reverb()


# --- what the torso is -----------------------------------------------------------------------


@pytest.mark.parametrize("case", ENCODERS)
def test_features_are_those_of_the_encoder_in_float32(case):
    _, torso = made(case)
    for x in (images(2, image_spec(case)), tf.random.uniform((2, *image_spec(case).shape))):
        features = torso(x)
        assert features.dtype == tf.float32
        assert features.shape == (2, torso.encoder.features)
        np.testing.assert_array_equal(features, torso.encoder(x, training=False))


@pytest.mark.parametrize("case", ENCODERS)
def test_each_variable_is_counted_once_and_alpha_is_among_them(case):
    network, torso = made(case)
    encoder = torso.encoder
    assert len(set(ids(torso.variables))) == len(torso.variables)
    assert set(ids(torso.variables)) == set(ids(encoder.weights))
    assert set(ids(torso.trainable_variables)) == set(ids(encoder.trainable_weights))
    assert len(network.variables) == len(torso.variables) + 2
    assert len(network.trainable_variables) == len(torso.trainable_variables) + 2
    if isinstance(encoder, Supernet):
        trained = case != "frozen"
        own = alphas(encoder)
        assert all((id(v) in ids(network.trainable_variables)) == trained for v in own)
        assert set(ids(own)) < set(ids(network.variables))
        # β is a setting that a program may schedule.
        assert id(encoder.alpha.inverse_temperature) not in ids(network.trainable_variables)


@pytest.mark.parametrize("case", ENCODERS)
def test_a_step_of_sonnets_optimizer_changes_what_is_trainable_and_nothing_else(case):
    network, torso = made(case)
    if isinstance(torso.encoder, Supernet) and case != "frozen":
        for v in alphas(torso.encoder):
            v.assign(tf.zeros_like(v))
    optimizer = snt.optimizers.Adam(1e-2)
    variables = network.trainable_variables
    others = [v for v in network.variables if id(v) not in ids(variables)]
    before, others_before = values(variables), values(others)
    x = images(4, image_spec(case))

    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(network(x) - 1))
    optimizer.apply(tape.gradient(loss, variables), variables)
    assert unchanged(variables, before) == []
    assert len(unchanged(others, others_before)) == len(others)


def test_a_given_encoder_is_used_itself():
    encoder = Supernet(MICRO_2, depths=[4], features=8)
    torso = Torso(encoder)
    assert torso.encoder is encoder
    tf2_utils.create_variables(torso, [IMAGE])
    assert set(ids(torso.trainable_variables)) == set(ids(encoder.trainable_weights))


def test_the_default_is_the_classic_supernet():
    encoder = Torso().encoder
    assert isinstance(encoder, Supernet)
    assert (encoder.space, encoder.depths, encoder.features) == (CLASSIC, (16, 16, 16), 256)


def test_kinds_are_chosen_by_name(tmp_path):
    genotype = random_genotype(MICRO, random.Random(5))
    genotype.save(tmp_path / "genotype.json")
    discrete = Torso("discrete", genotype=tmp_path / "genotype.json", depths=[4]).encoder
    assert isinstance(discrete, DiscreteNetwork)
    assert discrete.genotype == genotype
    impala = Torso("impala_cnn", depths=[4, 5], features=9).encoder
    assert isinstance(impala, ImpalaCNN)
    assert (impala.depths, impala.features) == ((4, 5), 9)
    nature = Torso("nature_cnn", features=9).encoder
    assert isinstance(nature, NatureCNN)
    assert nature.features == 9


ERRORS = {
    "unknown kind": ({"encoder": "supernett"}, "encoder must be one of supernet, .*'supernett'"),
    "no encoder": ({"encoder": snt.Linear(3)}, "encoder must be an Encoder or the name of a kind"),
    "unknown space": ({"search_space": "macro"}, "unknown search space 'macro'"),
    "no genotype": ({"encoder": "discrete"}, "genotype is required for encoder 'discrete'"),
    "options of a kind beside an encoder": (
        {"encoder": Supernet(MICRO, [4]), "depths": [8]},
        "depths: only for the name of a kind",
    ),
    "zero depth": ({"depths": [4, 0]}, r"depths\[1\] must be an integer of at least 1, got 0"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_bad_arguments_are_refused_with_one_line_that_names_them(case):
    arguments, message = ERRORS[case]
    with pytest.raises(ConfigError, match=message) as error:
        Torso(**arguments)
    assert "\n" not in str(error.value)


def test_a_genotype_file_that_is_missing_is_an_error_of_its_own(tmp_path):
    with pytest.raises(GenotypeError, match=r"none\.json"):
        Torso("discrete", genotype=tmp_path / "none.json")


def test_images_without_a_batch_are_refused():
    with pytest.raises(ConfigError, match="rank 4"):
        Torso(**SMALL)(images(1)[0])


def test_the_module_needs_sonnet_but_neither_acme_nor_reverb():
    # TensorFlow by itself loads jax, where that is installed.
    program = (
        "import json, sys, sonnet; before = set(sys.modules); import rldarts_tf.torso; "
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    output = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).resolve().parents[1],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout
    loaded = {name.split(".")[0] for name in json.loads(output.splitlines()[-1])}
    assert "rldarts_tf" in loaded
    assert loaded.isdisjoint(("acme", "reverb", "trfl", "gin", "jax", "tf_agents"))


# --- what Acme does with networks ------------------------------------------------------------


@pytest.mark.parametrize("case", ["micro", "discrete", "impala_cnn"])
def test_create_variables_returns_the_spec_of_the_features(case):
    torso = Torso(**ENCODERS[case])
    spec = tf2_utils.create_variables(torso, [IMAGE])
    assert spec == tf.TensorSpec((torso.encoder.features,), tf.float32)


@pytest.mark.parametrize("case", ENCODERS)
def test_a_deep_copy_has_equal_weights_in_the_same_order_and_shares_none(case):
    network, torso = made(case)
    target = copy.deepcopy(network)
    (copied,) = (module for module in target.submodules if isinstance(module, Torso))
    assert isinstance(copied, Torso)
    assert type(copied.encoder) is type(torso.encoder)
    assert copied.encoder.get_config() == torso.encoder.get_config()
    for attribute in ("variables", "trainable_variables"):
        mine, theirs = getattr(target, attribute), getattr(network, attribute)
        assert len(unchanged(mine, values(theirs))) == len(theirs)
        assert not set(ids(mine)) & set(ids(theirs))
    x = images(3, image_spec(case))
    np.testing.assert_array_equal(target(x), network(x))
    before = network(x).numpy()
    for v in target.variables:
        v.assign(v + 1)
    np.testing.assert_array_equal(network(x), before)
    # As Acme updates targets.
    for src, dest in zip(network.variables, target.variables):
        dest.assign(src)
    np.testing.assert_array_equal(target(x), before)


@pytest.mark.parametrize("case", ENCODERS)
def test_a_network_copied_before_it_has_weights_is_updated_in_the_same_order(case):
    """The order in Acme's agents: copy first, then create the variables of both."""
    torso = Torso(**ENCODERS[case])
    network = snt.Sequential([torso, snt.Linear(3)])
    is_supernet = isinstance(torso.encoder, Supernet)
    if is_supernet:
        randomize(torso.encoder.alpha.variables, seed=2)
    target = copy.deepcopy(network)
    if is_supernet:  # Its α exists from the start.
        np.testing.assert_array_equal(
            *(m._layers[0].encoder.alpha.numpy_op_weights()["normal"] for m in (network, target))
        )
    for module in (network, target):
        tf2_utils.create_variables(module, [image_spec(case)])
    assert not set(ids(network.variables)) & set(ids(target.variables))
    randomize(network.variables, seed=2)
    for src, dest in zip(network.variables, target.variables):
        assert src.shape == dest.shape
        dest.assign(src)
    x = images(3, image_spec(case))
    np.testing.assert_array_equal(target(x), network(x))


def test_torsos_that_share_an_encoder_share_one_in_the_copy_too():
    encoder = Supernet(MICRO_2, depths=[4], features=8)
    pair = [Torso(encoder), Torso(encoder, name="second")]
    first, second = copy.deepcopy(pair)
    assert first.encoder is second.encoder is not encoder


def test_a_copy_is_found_by_checkpoints_in_place_of_the_original(tmp_path):
    network, _ = made("micro")
    target = copy.deepcopy(network)
    randomize(network.variables, seed=3)
    path = tf.train.Checkpoint(network=target).save(str(tmp_path / "c"))
    expected = target(images(2)).numpy()
    randomize(target.variables, seed=4)
    tf.train.Checkpoint(network=target).restore(path).assert_consumed()
    np.testing.assert_array_equal(target(images(2)), expected)


@pytest.mark.parametrize("created", [True, False], ids=["after", "before"])
@pytest.mark.parametrize("case", ["micro", "batch", "discrete", "nature_cnn"])
def test_acmes_checkpointer_restores_weights_before_and_after_they_exist(case, created, tmp_path):
    def checkpointer(network):
        return savers.Checkpointer(
            {"network": network}, directory=str(tmp_path), add_uid=False, time_delta_minutes=0.0
        )

    network, _ = made(case)
    x = images(2, image_spec(case))
    assert checkpointer(network).save(force=True)
    again = snt.Sequential([Torso(**ENCODERS[case]), snt.Linear(3)])
    if created:
        tf2_utils.create_variables(again, [image_spec(case)])
    checkpointer(again)
    np.testing.assert_array_equal(again(x), network(x))
    assert len(unchanged(again.variables, values(network.variables))) == len(network.variables)


@pytest.mark.parametrize("case", ENCODERS)
def test_a_snapshot_of_acmes_snapshotter_gives_equal_output(case, tmp_path):
    network, _ = made(case)
    snapshotter = savers.Snapshotter({"network": network}, directory=str(tmp_path))
    assert snapshotter.save(force=True)
    loaded = tf.saved_model.load(str(Path(snapshotter.directory) / "network"))
    for batch in (1, 3):
        x = images(batch, image_spec(case), seed=batch)
        # In half precision a graph rounds elsewhere than eager code.
        tolerance = 0.05 if case == "bfloat16" else 1e-5
        np.testing.assert_allclose(loaded(x), network(x), rtol=tolerance, atol=tolerance)
    assert len(loaded.variables) == len(network.variables)
    assert len(loaded.trainable_variables) == len(network.trainable_variables)


# --- Reverb ----------------------------------------------------------------------------------


@pytest.fixture
def server():
    """A queue for the transitions of Catch."""
    spec = specs.make_environment_spec(Catch(6, 5, seed=0))
    table = reverb.Table.queue(
        adders.DEFAULT_PRIORITY_TABLE,
        max_size=100,
        signature=adders.NStepTransitionAdder.signature(spec),
    )
    server = reverb.Server([table])
    yield server
    server.stop()


def add_an_episode(client):
    adder = adders.NStepTransitionAdder(client, n_step=1, discount=0.9)
    environment = Catch(6, 5, seed=0)
    adder.add_first(environment.reset())
    for _ in range(5):
        adder.add(np.int32(1), environment.step(1))


def test_acmes_adders_write_with_our_client(server):
    client = acme_compat.ReverbClient(f"localhost:{server.port}")
    add_an_episode(client)
    (transitions,) = client.sample(adders.DEFAULT_PRIORITY_TABLE, 1, emit_timesteps=False)
    observation, action, reward, discount, following, *_ = transitions.data
    first = Catch(6, 5, seed=0)
    np.testing.assert_array_equal(observation, first.reset().observation)
    np.testing.assert_array_equal(following, first.step(1).observation)
    assert (action, reward, discount) == (1, 0, 1)


@pytest.mark.skipif(TENSORFLOW_28, reason="there is nothing to patch in that Reverb")
def test_the_patch_lets_clients_that_acme_makes_write_too(server, monkeypatch):
    monkeypatch.setattr(reverb, "Client", reverb.Client)
    original = reverb.Client
    address = f"localhost:{server.port}"
    with pytest.raises(TypeError, match="get_signature_timeout_ms"):
        add_an_episode(reverb.Client(address))
    acme_compat.patch_reverb()
    assert reverb.Client is acme_compat.ReverbClient
    assert issubclass(reverb.Client, original)
    add_an_episode(reverb.Client(address))
    acme_compat.patch_reverb()
    assert reverb.Client is acme_compat.ReverbClient


@pytest.mark.skipif(not TENSORFLOW_28, reason="this Reverb has to be patched")
def test_the_patch_does_nothing_where_nothing_is_wrong():
    original = reverb.Client
    acme_compat.patch_reverb()
    assert reverb.Client is original


# --- Acme's own agents -----------------------------------------------------------------------


class Continuous(wrappers.EnvironmentWrapper):
    """Catch for agents with continuous actions: left, stay and right are thirds of -1..1."""

    def step(self, action) -> dm_env.TimeStep:
        return self._environment.step(int(np.digitize(action[0], [-1 / 3, 1 / 3])))

    def action_spec(self):
        return dm_env_specs.BoundedArray((1,), np.float32, -1.0, 1.0, name="action")


class RecurrentNetwork(networks.R2D2AtariNetwork):
    """Acme's, with another torso."""

    def __init__(self, num_actions, torso):
        super().__init__(num_actions)
        self._embed = embedding.OAREmbedding(torso, num_actions)


def make_dqn(torso):
    environment = Catch(6, 5, seed=1)
    agent = dqn.DQN(
        specs.make_environment_spec(environment),
        snt.Sequential([torso, networks.DuellingMLP(3, hidden_sizes=[16])]),
        batch_size=8,
        samples_per_insert=8,
        min_replay_size=10,
        target_update_period=4,
        learning_rate=1e-2,
        logger=loggers.NoOpLogger(),
        checkpoint=False,
    )
    return environment, agent


def make_r2d2(torso):
    environment = wrappers.ObservationActionRewardWrapper(Catch(6, 5, seed=1))
    agent = r2d2.R2D2(
        specs.make_environment_spec(environment),
        RecurrentNetwork(3, torso),
        batch_size=4,
        samples_per_insert=4,
        min_replay_size=5,
        burn_in_length=1,
        trace_length=2,
        replay_period=2,
        target_update_period=4,
        learning_rate=1e-2,
        logger=loggers.NoOpLogger(),
        checkpoint=False,
    )
    return environment, agent


def make_dmpo(torso):
    environment = Continuous(Catch(6, 5, seed=1))
    agent = dmpo.DistributionalMPO(
        specs.make_environment_spec(environment),
        policy_network=snt.Sequential(
            [networks.LayerNormMLP([8]), networks.MultivariateNormalDiagHead(1)]
        ),
        critic_network=snt.Sequential(
            [
                networks.CriticMultiplexer(critic_network=networks.LayerNormMLP([8, 8])),
                networks.DiscreteValuedHead(-1.0, 1.0, 11),
            ]
        ),
        observation_network=snt.Sequential([torso, snt.Linear(8)]),
        batch_size=8,
        samples_per_insert=8,
        min_replay_size=10,
        target_critic_update_period=4,
        critic_optimizer=snt.optimizers.Adam(1e-2),
        logger=loggers.NoOpLogger(),
        checkpoint=False,
    )
    return environment, agent


AGENTS = {"dqn": make_dqn, "r2d2": make_r2d2, "dmpo": make_dmpo}


@pytest.mark.parametrize("name", AGENTS)
def test_acmes_agent_trains_alpha_and_every_weight_of_the_torso(name, patched_reverb):
    torso = Torso(**SMALL)
    environment, agent = AGENTS[name](torso)
    before = values(torso.trainable_variables)
    loop = acme.EnvironmentLoop(environment, agent, logger=loggers.NoOpLogger())
    loop.run(num_episodes=6)
    assert set(ids(alphas(torso.encoder))) < set(ids(torso.trainable_variables))
    assert unchanged(torso.trainable_variables, before) == []
    assert all(np.isfinite(v).all() for v in values(torso.variables))
    # The agent's target is another network, behind by some steps.
    learner = agent._learner
    (target,) = [
        module
        for attribute in ("_target_network", "_target_observation_network")
        if hasattr(learner, attribute)
        for module in getattr(learner, attribute).submodules
        if isinstance(module, Torso)
    ]
    assert not set(ids(target.variables)) & set(ids(torso.variables))
    own = alphas(target.encoder)
    assert unchanged(own, values([tf.zeros_like(v) for v in own])) == []


def test_a_frozen_alpha_stays_while_an_agent_trains_the_rest(patched_reverb):
    torso = Torso(**SMALL, train_alpha=False)
    environment, agent = make_dqn(torso)
    before = values(torso.trainable_variables)
    acme.EnvironmentLoop(environment, agent, logger=loggers.NoOpLogger()).run(num_episodes=6)
    assert unchanged(torso.trainable_variables, before) == []
    assert not any(v.numpy().any() for v in alphas(torso.encoder))


def test_variable_clients_carry_alpha_to_an_actor(patched_reverb):
    torso = Torso(**SMALL)
    environment, agent = make_dqn(torso)
    actor = snt.Sequential([Torso(**SMALL), networks.DuellingMLP(3, hidden_sizes=[16])])
    tf2_utils.create_variables(actor, [environment.observation_spec()])
    client = variable_utils.VariableClient(agent, {"policy": actor.trainable_variables})
    acme.EnvironmentLoop(environment, agent, logger=loggers.NoOpLogger()).run(num_episodes=4)
    x = images(3, environment.observation_spec())
    assert not np.array_equal(actor(x), agent._learner._network(x))
    client.update_and_wait()
    np.testing.assert_array_equal(actor(x), agent._learner._network(x))
    assert all(v.numpy().any() for v in alphas(actor._layers[0].encoder))


@pytest.mark.slow
def test_acmes_dqn_with_a_supernet_learns_catch(patched_reverb):
    environment = Catch(6, 5, seed=1)
    torso = Torso(search_space=MICRO_2, depths=(8,), features=64)
    network = snt.Sequential([torso, snt.Linear(3)])
    agent = dqn.DQN(
        specs.make_environment_spec(environment),
        network,
        batch_size=32,
        samples_per_insert=64.0,
        min_replay_size=200,
        target_update_period=50,
        n_step=5,
        epsilon=tf.Variable(0.1),
        learning_rate=2e-3,
        logger=loggers.NoOpLogger(),
        checkpoint=False,
    )
    loop = acme.EnvironmentLoop(environment, agent, logger=loggers.NoOpLogger())
    # 150 to 250 episodes are enough, as a rule; how many depends on the order in which threads fill
    # replay. A random player has -0.6, a perfect one 1.
    for _ in range(16):
        loop.run(num_episodes=50)
        learned = catching.mean_return(network, seed=3, miss_reward=-1.0)
        if learned >= 0.9:
            break
    assert learned >= 0.9
    assert all(v.numpy().any() for v in alphas(torso.encoder))


# --- the game --------------------------------------------------------------------------------


def play(environment, policy):
    """Mean return of 200 episodes; checks every time step against the specs."""
    returns = []
    for _ in range(200):
        step, length = environment.reset(), 0
        assert step.first()
        while not step.last():
            environment.observation_spec().validate(step.observation)
            step = environment.step(policy(step.observation))
            length += 1
            environment.reward_spec().validate(step.reward)
            environment.discount_spec().validate(step.discount)
            assert step.discount == (0 if step.last() else 1)
            assert step.last() or step.reward == 0
        assert length == environment.observation_spec().shape[0] - 1
        returns.append(step.reward)
    return np.mean(returns)


def follow(image):
    """Moves the paddle towards the ball, as the picture shows them."""
    ball = np.argwhere(image[:-1, :, 0])
    if not len(ball):
        return 1
    return 1 + int(np.sign(ball[0, 1] - np.argmax(image[-1, :, 0])))


@pytest.mark.parametrize("options", [{}, {"rows": 5, "channels": 3}, {"miss_reward": 0.0}])
def test_catch_is_won_by_following_the_ball_and_lost_by_chance(options):
    assert play(Catch(**options, seed=0), follow) == 1
    rng = np.random.default_rng(0)
    by_chance = play(Catch(**options, seed=0), lambda _: rng.integers(3))
    caught = (by_chance - options.get("miss_reward", -1)) / (1 - options.get("miss_reward", -1))
    assert 0.1 < caught < 0.3


def test_catch_repeats_itself_with_the_same_seed_and_only_then():
    def frames(seed):
        environment = Catch(seed=seed)
        return np.stack([environment.step(0).observation for _ in range(60)])

    np.testing.assert_array_equal(frames(1), frames(1))
    assert not np.array_equal(frames(1), frames(2))
