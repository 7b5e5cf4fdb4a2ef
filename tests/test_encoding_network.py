"""The TF-Agents networks: against TF-Agents' own, and inside its unmodified agents."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest

pytest.importorskip("tf_agents")

import gin
import tensorflow as tf
from spaces import MICRO_2
from tf_agents.agents.dqn import dqn_agent
from tf_agents.agents.ppo import ppo_clip_agent
from tf_agents.agents.reinforce import reinforce_agent
from tf_agents.agents.sac import sac_agent, tanh_normal_projection_network
from tf_agents.drivers import dynamic_episode_driver, dynamic_step_driver
from tf_agents.environments import py_environment, tf_py_environment
from tf_agents.networks import encoding_network as tf_agents_encoding_network
from tf_agents.policies import policy_saver
from tf_agents.replay_buffers import tf_uniform_replay_buffer
from tf_agents.specs import array_spec, tensor_spec
from tf_agents.trajectories import time_step as ts
from tf_agents.utils import common
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
    random_genotype,
)
from rldarts_tf.encoders import Encoder
from rldarts_tf.encoding_network import (
    ActorDistributionNetwork,
    CriticNetwork,
    EncodingNetwork,
    QNetwork,
    ValueNetwork,
)

SIZE = 8
IMAGE = tensor_spec.BoundedTensorSpec((SIZE, SIZE, 1), tf.uint8, 0, 255, name="image")
FLOAT_IMAGE = tensor_spec.TensorSpec((SIZE, SIZE, 1), tf.float32, name="image")
VECTOR = tensor_spec.TensorSpec((3,), tf.float32, name="vector")
THREE_ACTIONS = tensor_spec.BoundedTensorSpec((), tf.int32, 0, 2)
TWO_TORQUES = tensor_spec.BoundedTensorSpec((2,), tf.float32, -2.0, 2.0)
SPOT_ENCODER = {"search_space": MICRO_2, "depths": [4], "features": 16}
SMALL = {"search_space": MICRO_2, "depths": [4], "features": 8}


@pytest.fixture(autouse=True)
def seeded():
    tf.keras.utils.set_random_seed(1)


@pytest.fixture
def gin_config():
    """Parses bindings; they hold for one test."""
    yield gin.parse_config
    gin.clear_config()


def images(*outer, seed=0, channels=1):
    pixels = np.random.default_rng(seed).integers(0, 256, (*outer, SIZE, SIZE, channels))
    return tf.constant(pixels, tf.uint8)


def vectors(*outer, size=3, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=(*outer, size)), tf.float32)


def small_supernet(space=MICRO_2, **options):
    return Supernet(space, **{"depths": [4], "features": 8, **options})


def count(variable, variables):
    return sum(other is variable for other in variables)


def randomize(variables, scale=0.5, seed=0):
    """Gives each variable values that nothing else would have given it."""
    rng = np.random.default_rng(seed)
    for variable in variables:
        variable.assign(rng.normal(scale=scale, size=variable.shape))


# --- what the network computes ---------------------------------------------------------------


@pytest.mark.parametrize("space", ["classic", "micro"])
def test_outer_dimensions_are_folded(space):
    network = EncodingNetwork(IMAGE, search_space=space, depths=[4], features=8)
    observations = images(2, 3)
    flat, _ = network(tf.reshape(observations, (6, SIZE, SIZE, 1)))
    folded, state = network(observations)
    single, _ = network(observations[1, 2])
    assert flat.shape == (6, 8)
    assert state == ()
    assert np.ptp(flat, axis=0).max() > 1e-3  # The observations do matter.
    np.testing.assert_allclose(folded, tf.reshape(flat, (2, 3, 8)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(single, flat[5], rtol=1e-5, atol=1e-6)


def test_outer_dimensions_may_be_unknown_when_a_graph_is_made():
    network = EncodingNetwork(IMAGE, **SMALL, fc_layer_params=(5,))
    spec = tf.TensorSpec([None, None, SIZE, SIZE, 1], tf.uint8)
    graph = tf.function(lambda x: network(x)[0], input_signature=[spec])
    assert graph.get_concrete_function().output_shapes.as_list() == [None, None, 5]
    np.testing.assert_allclose(graph(images(2, 3)), network(images(2, 3))[0], rtol=1e-5, atol=1e-6)


def test_uint8_images_are_scaled_and_float_images_are_taken_as_they_are():
    encoder = small_supernet()
    of_bytes, of_floats = (
        EncodingNetwork(IMAGE, encoder=encoder),
        EncodingNetwork(FLOAT_IMAGE, encoder=encoder),
    )
    pixels = images(3)
    features, _ = of_bytes(pixels)
    assert features.dtype == tf.float32
    np.testing.assert_allclose(
        features, of_floats(tf.cast(pixels, tf.float32) / 255)[0], rtol=1e-5, atol=1e-6
    )
    unscaled, _ = of_floats(tf.cast(pixels, tf.float32))
    assert np.abs(features - unscaled).max() > 1


def test_fully_connected_layers_follow_the_encoder():
    network = EncodingNetwork(IMAGE, **SMALL, fc_layer_params=(7, 5), activation_fn="tanh")
    network.create_variables()
    fc = network.trainable_weights[-4:]
    randomize(fc)
    x = network.encoder(images(3)).numpy()
    for kernel, bias in (fc[:2], fc[2:]):
        x = np.tanh(x @ kernel.numpy() + bias.numpy())
    assert x.shape == (3, 5)
    np.testing.assert_allclose(network(images(3))[0], x, rtol=1e-5, atol=1e-6)
    assert network.create_variables().shape == (5,)
    # Agents that sort variables by name find the same order whatever was made before.
    again = EncodingNetwork(IMAGE, **SMALL, fc_layer_params=(7, 5))
    again.create_variables()
    assert [v.name for v in again.trainable_weights[-4:]] == [v.name for v in fc]


class Flat(Encoder):
    """Hands its images on, so that what came before it can be seen."""

    def call(self, images, training=None):
        del training
        return tf.reshape(images, (-1, np.prod(images.shape[1:])))


class VectorToImage(tf.keras.layers.Layer):
    """[B, n] -> [B, SIZE, SIZE, n]."""

    def call(self, vector):
        return tf.tile(vector[:, None, None, :], (1, SIZE, SIZE, 1))


class AddAll(tf.keras.layers.Layer):
    """A dict of vectors -> an image."""

    def call(self, nest):
        return VectorToImage()(tf.add_n(tf.nest.flatten(nest)))


class ImageAndVector(tf.keras.layers.Layer):
    """A dict of an image and a vector -> an image."""

    def call(self, nest):
        return tf.concat([nest["image"], VectorToImage()(nest["vector"])], axis=-1)


def scaled():
    return tf.keras.layers.Lambda(lambda x: tf.cast(x, tf.float32) / 255)


def joined():
    return tf.keras.layers.Concatenate(axis=-1)


PREPROCESSING = {
    "a layer for an image": (IMAGE, scaled, None),
    "a layer that makes an image": (VECTOR, VectorToImage, None),
    "a combiner for an image": (FLOAT_IMAGE, None, lambda: tf.keras.layers.Rescaling(3.0)),
    "a dict, layers and a combiner": (
        {"image": IMAGE, "vector": VECTOR},
        lambda: {"image": scaled(), "vector": VectorToImage()},
        joined,
    ),
    "a tuple, layers and a combiner": (
        (VECTOR, IMAGE),
        lambda: (VectorToImage(), scaled()),
        joined,
    ),
    "a list and a combiner": ([FLOAT_IMAGE, FLOAT_IMAGE], None, joined),
    "a dict and a combiner that knows its keys": (
        {"image": FLOAT_IMAGE, "vector": VECTOR},
        None,
        ImageAndVector,
    ),
    "a layer for a nest within the nest": (
        {"image": IMAGE, "vectors": {"a": VECTOR, "b": VECTOR}},
        lambda: {"image": scaled(), "vectors": AddAll()},
        joined,
    ),
}


@pytest.mark.parametrize("outer", [(2,), (2, 3)])
@pytest.mark.parametrize("case", PREPROCESSING)
def test_preprocessing_is_that_of_tf_agents(case, outer):
    spec, make_layers, make_combiner = PREPROCESSING[case]
    options = {
        "preprocessing_layers": make_layers and make_layers(),
        "preprocessing_combiner": make_combiner and make_combiner(),
    }
    observations = tensor_spec.sample_spec_nest(spec, outer_dims=outer, seed=3)
    actual, _ = EncodingNetwork(spec, encoder=Flat(), **options)(observations)
    # Without convolutions and dense layers TF-Agents' network flattens what it has preprocessed.
    expected, _ = tf_agents_encoding_network.EncodingNetwork(spec, **options)(observations)
    assert actual.shape == expected.shape
    np.testing.assert_array_equal(actual, expected)


def test_preprocessing_layers_are_copied_and_their_weights_trained():
    layer = tf.keras.Sequential(
        [tf.keras.layers.Dense(SIZE * SIZE), tf.keras.layers.Reshape((SIZE, SIZE, 1))]
    )
    network = EncodingNetwork(VECTOR, preprocessing_layers=layer, **SMALL)
    network.create_variables()
    assert not layer.built
    alone = EncodingNetwork(FLOAT_IMAGE, **SMALL)
    alone.create_variables()
    assert len(network.trainable_weights) == len(alone.trainable_weights) + 2
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(network(vectors(4))[0])
    assert all(g is not None for g in tape.gradient(loss, network.trainable_weights))


# --- which encoder ---------------------------------------------------------------------------


def test_a_given_encoder_is_used_itself_so_that_the_alpha_you_hold_is_trained():
    encoder = small_supernet()
    network = EncodingNetwork(IMAGE, encoder=encoder)
    assert network.encoder is encoder
    before = values(alphas(encoder))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(network(images(4))[0])
    weights = network.trainable_weights
    tf.keras.optimizers.SGD(0.1).apply_gradients(zip(tape.gradient(loss, weights), weights))
    assert unchanged(alphas(encoder), before) == []


def test_the_default_is_the_classic_supernet():
    encoder = EncodingNetwork(IMAGE).encoder
    assert isinstance(encoder, Supernet)
    assert (encoder.space, encoder.depths, encoder.features) == (CLASSIC, (16, 16, 16), 256)


def test_alpha_that_is_not_trained_is_in_no_trainable_weights():
    network = EncodingNetwork(IMAGE, search_space=MICRO, depths=[4, 5], train_alpha=False)
    network.create_variables()
    assert [count(v, network.trainable_weights) for v in alphas(network.encoder)] == [0] * 4


@pytest.mark.parametrize("from_file", [False, True], ids=["object", "file"])
def test_a_discrete_network_comes_from_a_genotype_or_its_file(from_file, tmp_path):
    genotype = random_genotype(CLASSIC, random.Random(5))
    source = genotype
    if from_file:
        source = tmp_path / "genotype.json"
        genotype.save(source)
    network = EncodingNetwork(IMAGE, encoder="discrete", genotype=source, depths=[4], features=8)
    assert isinstance(network.encoder, DiscreteNetwork)
    assert network.encoder.genotype == genotype
    assert network(images(2))[0].shape == (2, 8)


def test_the_baselines_are_chosen_by_name():
    impala = EncodingNetwork(IMAGE, encoder="impala_cnn", depths=[4, 5], features=8, kernel_size=5)
    assert isinstance(impala.encoder, ImpalaCNN)
    assert (impala.encoder.depths, impala.encoder.features) == ((4, 5), 8)
    assert impala.encoder.kernel_size == impala.copy().encoder.kernel_size == 5
    assert impala(images(2))[0].shape == (2, 8)
    nature_spec = tensor_spec.BoundedTensorSpec((36, 36, 1), tf.uint8, 0, 255)
    nature = EncodingNetwork(nature_spec, encoder="nature_cnn", features=9)
    assert isinstance(nature.encoder, NatureCNN)
    assert nature(tf.zeros((2, 36, 36, 1), tf.uint8))[0].shape == (2, 9)


@pytest.mark.parametrize(
    ("bindings", "kind", "depths"),
    [
        (["depths = (4, 5)", "search_space = 'micro'"], Supernet, (4, 5)),
        (["encoder = 'discrete'", "genotype = %path", "depths = (4,)"], DiscreteNetwork, (4,)),
        (["encoder = 'impala_cnn'", "depths = (4, 6)"], ImpalaCNN, (4, 6)),
        (["encoder = 'nature_cnn'"], NatureCNN, None),
    ],
    ids=["supernet", "discrete", "impala_cnn", "nature_cnn"],
)
def test_gin_chooses_the_encoder(bindings, kind, depths, gin_config, tmp_path):
    path = tmp_path / "genotype.json"
    genotype = random_genotype(MICRO, random.Random(5))
    genotype.save(path)
    bindings = [*bindings, "features = 11", "fc_layer_params = (3,)"]
    gin_config(f"path = '{path}'")
    gin_config([f"rldarts_tf.EncodingNetwork.{binding}" for binding in bindings])
    network = EncodingNetwork(IMAGE)
    gin.clear_config()
    # A copy is made of the arguments that the network had, also those from gin.
    for encoder in (network.encoder, network.copy().encoder):
        assert type(encoder) is kind
        assert encoder.features == 11
        assert getattr(encoder, "depths", None) == depths
    if kind is Supernet:
        assert network.encoder.space == MICRO
    if kind is DiscreteNetwork:
        assert network.encoder.genotype == genotype


ERRORS = {
    "unknown kind": ({"encoder": "supernett"}, "encoder must be one of supernet, .*'supernett'"),
    "no encoder": ({"encoder": tf.keras.layers.Dense(3)}, "encoder must be an Encoder or"),
    "unknown space": ({"search_space": "macro"}, "unknown search space 'macro'"),
    "no genotype": ({"encoder": "discrete"}, "genotype is required for encoder 'discrete'"),
    "genotype of no use": ({"genotype": "cell.json"}, "genotype is only for encoder 'discrete'"),
    "zero depth": ({"depths": [4, 0]}, r"depths\[1\] must be an integer of at least 1, got 0"),
    "no image": ({"input_tensor_spec": VECTOR}, r"input_tensor_spec: .* rank 3.*\(3,\)"),
    "a batched image": (
        {"input_tensor_spec": tensor_spec.TensorSpec((2, SIZE, SIZE, 1), tf.float32)},
        "input_tensor_spec: .* rank 3",
    ),
    "no combiner": (
        {"input_tensor_spec": [IMAGE, IMAGE], "preprocessing_layers": [scaled(), scaled()]},
        "preprocessing_combiner is required",
    ),
    "layers of another structure": (
        {"input_tensor_spec": {"a": IMAGE}, "preprocessing_layers": {"b": scaled()}},
        "preprocessing_layers: .*structure",
    ),
    "too many layers": (
        {"preprocessing_layers": [scaled(), scaled()]},
        "preprocessing_layers: .*structure",
    ),
    "no layer": ({"preprocessing_layers": tf.nn.relu}, "preprocessing_layers.* Keras layer"),
    "no layer to combine": (
        {"preprocessing_combiner": tf.concat},
        "preprocessing_combiner.* Keras layer",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_bad_arguments_are_refused_with_one_line_that_names_them(case):
    arguments, message = ERRORS[case]
    with pytest.raises(ConfigError, match=message) as error:
        EncodingNetwork(**{"input_tensor_spec": IMAGE, **arguments})
    # Gin adds lines of its own after ours.
    assert re.search(message, str(error.value).splitlines()[0])


def test_a_genotype_file_that_is_missing_is_an_error_of_its_own(tmp_path):
    with pytest.raises(GenotypeError, match=r"none\.json"):
        EncodingNetwork(IMAGE, encoder="discrete", genotype=tmp_path / "none.json")


def test_bad_gin_bindings_are_the_same_errors(gin_config):
    gin_config("rldarts_tf.EncodingNetwork.encoder = 'supernett'")
    with pytest.raises(ConfigError) as error:
        EncodingNetwork(IMAGE)
    assert "'supernett'" in str(error.value).splitlines()[0]


def test_a_binding_of_no_option_is_refused_where_it_is_read(gin_config):
    with pytest.raises(ValueError, match="dephts"):
        gin_config("rldarts_tf.EncodingNetwork.dephts = [4]")


def test_preprocessing_that_makes_no_image_is_refused():
    network = EncodingNetwork(VECTOR, preprocessing_layers=tf.keras.layers.Dense(3), **SMALL)
    with pytest.raises(ConfigError, match="rank 4"):
        network.create_variables()


# --- the networks around an encoder ----------------------------------------------------------


AROUND = {
    "encoder": lambda encoder: EncodingNetwork(IMAGE, encoder=encoder),
    "actor": lambda encoder: ActorDistributionNetwork(IMAGE, THREE_ACTIONS, encoder),
    "value": lambda encoder: ValueNetwork(IMAGE, encoder),
    "q": lambda encoder: QNetwork(IMAGE, THREE_ACTIONS, encoder),
    "q around a network": lambda encoder: QNetwork(
        IMAGE, THREE_ACTIONS, EncodingNetwork(IMAGE, encoder=encoder, fc_layer_params=(5,))
    ),
}


@pytest.mark.parametrize("case", AROUND)
def test_alpha_is_in_trainable_weights_exactly_once(case):
    encoder = small_supernet(CLASSIC)
    network = AROUND[case](encoder)
    network.create_variables()
    assert len(alphas(encoder)) == 8
    for variables in (network.trainable_weights, network.variables):
        assert [count(v, variables) for v in alphas(encoder)] == [1] * 8
        assert len({id(v) for v in variables}) == len(variables)


@pytest.mark.parametrize("case", AROUND)
def test_a_copy_has_the_same_config_and_variables_of_its_own(case):
    encoder = small_supernet(inverse_temperature=3.0)
    network = AROUND[case](encoder)
    network.create_variables()
    randomize(alphas(encoder))
    twin = network.copy(name="Twin")
    twin.create_variables()
    assert twin.name == "Twin"
    assert type(twin) is type(network)
    assert [v.shape for v in twin.variables] == [v.shape for v in network.variables]
    assert not {id(v) for v in twin.variables} & {id(v) for v in network.variables}
    # The weights of a copy are initial ones, as everywhere in TF-Agents.
    (twin_encoder,) = [m for m in twin.submodules if isinstance(m, Supernet)]
    # PPOAgent orders variables by name: those of two encoders must differ.
    assert twin_encoder.name != encoder.name
    assert {**twin_encoder.get_config(), "name": encoder.name} == encoder.get_config()
    assert all(not v.numpy().any() for v in alphas(twin_encoder))
    common.soft_variables_update(network.variables, twin.variables, tau=1.0)
    assert all(v.numpy().any() for v in alphas(twin_encoder))
    x = images(2)
    np.testing.assert_allclose(*(parameters(net(x)[0]) for net in (twin, network)), rtol=1e-5)


def parameters(output):
    return output.logits if hasattr(output, "logits") else output


def test_a_copy_can_be_given_an_encoder():
    encoder = EncodingNetwork(IMAGE, **SMALL)
    network = ValueNetwork(IMAGE, encoder)
    network.create_variables()
    twin = network.copy(encoder=encoder)
    twin.create_variables()
    assert len({id(v) for v in twin.variables} & {id(v) for v in network.variables}) == len(
        encoder.variables
    )


@pytest.mark.parametrize("outer", [(2,), (2, 3)])
def test_heads_are_linear_maps_of_the_features(outer):
    encoder = EncodingNetwork(IMAGE, **SMALL)
    x = images(*outer)
    features, _ = encoder(x)
    for network, units in (
        (ActorDistributionNetwork(IMAGE, THREE_ACTIONS, encoder), 3),
        (ValueNetwork(IMAGE, encoder), 1),
        (QNetwork(IMAGE, THREE_ACTIONS, encoder), 3),
    ):
        network.create_variables()
        head = [v for v in network.trainable_weights if not count(v, encoder.trainable_weights)]
        randomize(head)
        kernel, bias = values(head)
        assert kernel.shape == (8, units)
        expected = features.numpy() @ kernel + bias
        if units == 1:
            expected = expected[..., 0]
        actual = parameters(network(x)[0])
        assert actual.shape == expected.shape
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_actors_of_discrete_continuous_and_nested_actions():
    encoder = EncodingNetwork(IMAGE, **SMALL)
    spec = {"move": THREE_ACTIONS, "torque": TWO_TORQUES}
    actor = ActorDistributionNetwork(IMAGE, spec, encoder)
    actor.create_variables()
    for outer in ((4,), (4, 2)):
        distribution, _ = actor(images(*outer))
        samples = tf.nest.map_structure(lambda d: d.sample(seed=2), distribution)
        for action, action_spec in zip(tf.nest.flatten(samples), tf.nest.flatten(spec)):
            assert action.shape == (*outer, *action_spec.shape)
            assert action.dtype == action_spec.dtype
        # Initial means are near the middle of the range: the last layer starts small.
        assert np.abs(distribution["torque"].mean()).max() < 0.5
        probabilities = tf.nn.softmax(distribution["move"].logits)
        np.testing.assert_allclose(probabilities, np.full((*outer, 3), 1 / 3), atol=0.1)


def test_q_networks_refuse_continuous_actions():
    with pytest.raises(ValueError, match=r"[Aa]ction"):
        QNetwork(IMAGE, TWO_TORQUES, small_supernet())


# --- shared computation ----------------------------------------------------------------------


class Recording(Encoder):
    """A linear encoder that counts how often it computes (or is put into a graph)."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.calls = 0
        self._conv = tf.keras.layers.Conv2D(2, 3, padding="same")

    def feature_maps(self, x, training):
        del training
        self.calls += 1
        return self._conv(x)


@pytest.fixture
def recording():
    """(encoder network, actor, value network) with the calls of creation not counted."""
    shared = EncodingNetwork(IMAGE, encoder=Recording(features=6))
    actor = ActorDistributionNetwork(IMAGE, THREE_ACTIONS, shared)
    value = ValueNetwork(IMAGE, shared)
    actor.create_variables()
    value.create_variables()
    randomize(actor.variables + value.variables)
    shared.encoder.calls = 0
    return shared, actor, value


@pytest.mark.parametrize("outer", [(2,), (2, 3)])
def test_within_the_context_an_observation_is_encoded_once(recording, outer):
    shared, actor, value = recording
    first, second = images(*outer), images(*outer, seed=1)
    expected = [value(x)[0].numpy() for x in (first, second)]
    assert shared.encoder.calls == 2
    with shared.shared_computation():
        logits = actor(first)[0].logits
        np.testing.assert_array_equal(value(first)[0], expected[0])
        assert shared.encoder.calls == 3
        np.testing.assert_array_equal(value(second)[0], expected[1])
        assert shared.encoder.calls == 4
        np.testing.assert_array_equal(value(first)[0], expected[0])
        assert shared.encoder.calls == 4
        value(tf.identity(first))  # Equal values, but another tensor.
        assert shared.encoder.calls == 5
    np.testing.assert_array_equal(actor(first)[0].logits, logits)
    value(first)
    assert shared.encoder.calls == 7


@pytest.mark.parametrize(("normalization", "passes"), [("batch", 2), (None, 1)])
def test_training_and_inference_share_only_where_they_are_the_same(
    normalization, passes, monkeypatch
):
    encoder = small_supernet(normalization=normalization)
    network = EncodingNetwork(IMAGE, encoder=encoder)
    x = images(4)
    network(x)
    calls = []
    compute = encoder.feature_maps

    def recorded(*args, **kwargs):
        calls.append(args)
        return compute(*args, **kwargs)

    monkeypatch.setattr(encoder, "feature_maps", recorded)
    with network.shared_computation():
        inference, _ = network(x, training=False)
        training, _ = network(x, training=True)
    assert len(calls) == passes
    assert np.allclose(inference, training) == (passes == 1)


def test_contexts_nest_and_end_with_an_exception(recording):
    shared, _, value = recording
    x = images(2)
    with shared.shared_computation():
        value(x)
        value(images(2, seed=1))
        with pytest.raises(KeyError), shared.shared_computation():
            value(x)
            raise KeyError
        assert shared.encoder.calls == 3
        value(x)
        assert shared.encoder.calls == 3
    value(x)
    assert shared.encoder.calls == 4


def test_a_nested_observation_is_encoded_once():
    network = EncodingNetwork(
        {"image": IMAGE, "vector": VECTOR},
        preprocessing_layers={"image": scaled(), "vector": VectorToImage()},
        preprocessing_combiner=joined(),
        encoder=Recording(),
    )
    x = {"image": images(2), "vector": vectors(2)}
    with network.shared_computation():
        features, _ = network(x)
        again, _ = network(dict(x))
        np.testing.assert_array_equal(features, again)
        assert network.encoder.calls == 1
        network({**x, "vector": vectors(2, seed=1)})
        assert network.encoder.calls == 2


def test_gradients_are_those_without_the_shared_computation():
    shared = EncodingNetwork(IMAGE, encoder=small_supernet(CLASSIC))
    actor = ActorDistributionNetwork(IMAGE, THREE_ACTIONS, shared)
    value = ValueNetwork(IMAGE, shared)
    actor.create_variables()
    value.create_variables()
    randomize(alphas(shared.encoder), scale=0.2)
    variables = [*actor.trainable_weights, *value.trainable_weights[-2:]]
    x = images(4)

    def gradients():
        with tf.GradientTape() as tape:
            log_prob = actor(x, training=True)[0].log_prob([0, 1, 2, 0])
            loss = tf.reduce_sum(tf.square(value(x, training=True)[0] - 3) - log_prob)
        return tape.gradient(loss, variables)

    expected = gradients()
    with shared.shared_computation():
        actual = gradients()
    assert all(np.any(g) for g in expected)
    for a, e, variable in zip(actual, expected, variables):
        np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-5, err_msg=variable.name)


def test_a_new_context_sees_new_weights(recording):
    shared, actor, value = recording
    x = images(2)

    @tf.function
    def in_graph(x):
        with shared.shared_computation():
            return actor(x)[0].logits, value(x)[0]

    def eagerly():
        with shared.shared_computation():
            return actor(x)[0].logits, value(x)[0]

    for compute in (in_graph, eagerly):
        randomize(shared.variables, seed=1)
        old = compute(x) if compute is in_graph else compute()
        shared.encoder.calls = 0
        randomize(shared.variables, seed=2)
        new = compute(x) if compute is in_graph else compute()
        assert shared.encoder.calls == (0 if compute is in_graph else 1)  # A graph is made once.
        for a, b, e in zip(old, new, (actor(x)[0].logits, value(x)[0])):
            assert np.abs(a - b).max() > 1e-2
            np.testing.assert_allclose(b, e, rtol=1e-4, atol=1e-4)


def test_branches_of_a_graph_do_not_share(recording):
    shared, _, value = recording

    @tf.function
    def graph(x, yes):
        with shared.shared_computation():
            branch = tf.cond(yes, lambda: value(x)[0], lambda: tf.zeros(2))
            return branch + value(x)[0] + value(x)[0]

    x = images(2)
    expected = value(x)[0]
    shared.encoder.calls = 0
    np.testing.assert_allclose(graph(x, tf.constant(True)), 3 * expected, rtol=1e-5)
    np.testing.assert_allclose(graph(x, tf.constant(False)), 2 * expected, rtol=1e-5)
    assert shared.encoder.calls == 2


def test_the_context_leaves_variables_and_checkpoints_as_they_are(recording, tmp_path):
    shared, actor, _ = recording
    names = [v.name for v in actor.variables]
    with shared.shared_computation():
        actor(images(2))
        assert [v.name for v in actor.variables] == names
        inside = tf.train.Checkpoint(actor=actor).write(str(tmp_path / "inside"))
    after = tf.train.Checkpoint(actor=actor).write(str(tmp_path / "after"))
    assert tf.train.list_variables(inside) == tf.train.list_variables(after)


# --- in the agents of TF-Agents --------------------------------------------------------------


class Catch(py_environment.PyEnvironment):
    """A ball falls one row per step; a paddle in the last row moves left, stays or moves right.

    The games of a batch are in step: their episodes are equally long.
    """

    num_actions = 3

    def __init__(self, num_envs, seed=0):
        super().__init__()
        self._num_envs = num_envs
        self._rng = np.random.default_rng(seed)

    @property
    def batched(self):
        return True

    @property
    def batch_size(self):
        return self._num_envs

    def observation_spec(self):
        return array_spec.BoundedArraySpec((SIZE, SIZE, 1), np.uint8, 0, 255, name="image")

    def action_spec(self):
        return array_spec.BoundedArraySpec((), np.int32, 0, self.num_actions - 1, name="action")

    def _step(self, action):
        if self._current_time_step.is_last().all():
            return self.reset()
        return self._move(action)

    def _images(self):
        images = np.zeros((self._num_envs, SIZE, SIZE, 1), np.uint8)
        images[np.arange(self._num_envs), -1, self._paddle] = 127
        images[np.arange(self._num_envs), self._row, self._column] = 255
        return images

    def _reset(self):
        self._row, self._column = 0, self._rng.integers(SIZE, size=self._num_envs)
        self._paddle = np.full(self._num_envs, SIZE // 2)
        return ts.restart(self._images(), self._num_envs)

    def _move(self, action):
        self._row += 1
        self._paddle = np.clip(self._paddle + action - 1, 0, SIZE - 1)
        if self._row < SIZE - 1:
            return ts.transition(self._images(), np.zeros(self._num_envs, np.float32))
        return ts.termination(self._images(), np.float32(self._column == self._paddle))


GRID = 8
"""A spot of `Spot` is in one of GRID x GRID places."""
RIGHT_ACTIONS = np.random.default_rng(0).permutation(np.arange(GRID * GRID) % 2)
"""By place, without order, so that no few features of a network left untrained tell it."""


def spots(places):
    """uint8 [B, 2 GRID, 2 GRID, 1]: a square of 2 x 2 in each image."""
    squares = np.zeros((len(places), GRID, 1, GRID, 1, 1), np.uint8)
    squares[np.arange(len(places)), np.asarray(places) // GRID, 0, np.asarray(places) % GRID] = 255
    return squares.repeat(2, axis=2).repeat(2, axis=4).reshape(-1, 2 * GRID, 2 * GRID, 1)


class Spot(Catch):
    """One step: an action of two is right, which one depends on where a spot is."""

    num_actions = 2

    def observation_spec(self):
        shape = (2 * GRID, 2 * GRID, 1)
        return array_spec.BoundedArraySpec(shape, np.uint8, 0, 255, name="image")

    def _reset(self):
        self._places = self._rng.integers(GRID**2, size=self._num_envs)
        return ts.restart(spots(self._places), self._num_envs)

    def _move(self, action):
        reward = np.where(action == RIGHT_ACTIONS[self._places], 1, -1)
        return ts.termination(spots(self._places), np.float32(reward))


def make_env(kind, num_envs):
    return tf_py_environment.TFPyEnvironment(kind(num_envs))


def make_buffer(agent, env, max_length=64):
    return tf_uniform_replay_buffer.TFUniformReplayBuffer(
        agent.collect_data_spec, env.batch_size, max_length=max_length
    )


def make_agent(agent_class, env, optimizer=None, **options):
    agent = agent_class(
        env.time_step_spec(),
        env.action_spec(),
        optimizer=optimizer or tf.keras.optimizers.Adam(1e-2),
        **options,
    )
    agent.initialize()
    return agent


def make_actor(env, encoder):
    return ActorDistributionNetwork(env.observation_spec(), env.action_spec(), encoder)


def make_ppo(env, encoder, value_encoder, num_epochs=2, **options):
    return make_agent(
        ppo_clip_agent.PPOClipAgent,
        env,
        actor_net=make_actor(env, encoder),
        value_net=ValueNetwork(env.observation_spec(), value_encoder),
        importance_ratio_clipping=0.2,
        num_epochs=num_epochs,
        use_gae=True,
        normalize_observations=False,
        normalize_rewards=False,
        **options,
    )


def make_dqn(env, encoder, **options):
    q_network = QNetwork(env.observation_spec(), env.action_spec(), encoder)
    return make_agent(dqn_agent.DqnAgent, env, q_network=q_network, **options)


def make_reinforce(env, encoder, **options):
    actor = make_actor(env, encoder)
    return make_agent(reinforce_agent.ReinforceAgent, env, actor_network=actor, **options)


class RecordingAdam(tf.keras.optimizers.Adam):
    """Keeps the variables of each update."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.updated = []

    def apply_gradients(self, grads_and_vars, **kwargs):
        grads_and_vars = list(grads_and_vars)
        self.updated.append([variable.ref() for _, variable in grads_and_vars])
        return super().apply_gradients(grads_and_vars, **kwargs)


def collect(agent, env, driver_class=dynamic_step_driver.DynamicStepDriver, **how_much):
    """The replay buffer with what the agent's policy has met in a few steps or episodes."""
    buffer = make_buffer(agent, env)
    driver = driver_class(env, agent.collect_policy, observers=[buffer.add_batch], **how_much)
    common.function(driver.run)()
    return buffer


def positions(updated, variables):
    """Where in `variables` those of an update stand."""
    where = {variable.ref(): i for i, variable in enumerate(variables)}
    return [where[ref] for ref in updated]


def refs(variables):
    return {variable.ref() for variable in variables}


class PPO:
    """An agent that has been trained once on what it has collected on Catch."""

    def __init__(self, space, shared):
        tf.keras.utils.set_random_seed(1)
        self.space, self.shared = space, shared
        self.env = make_env(Catch, 4)
        self.optimizer = RecordingAdam(1e-2)
        self.agent, self.encoders = self.fresh_agent(self.optimizer)
        self.networks = (self.agent.actor_net, self.agent._value_net)
        self.variables = list(
            {v.ref(): v for network in self.networks for v in network.trainable_weights}.values()
        )
        self.before = values(self.variables)
        self.experience = collect(self.agent, self.env, num_steps=32).gather_all()
        self.loss = self.agent.train(self.experience).loss

    def fresh_agent(self, optimizer=None):
        actors = EncodingNetwork(self.env.observation_spec(), encoder=small_supernet(self.space))
        values_ = actors if self.shared else actors.copy()
        agent = make_ppo(self.env, actors, values_, optimizer=optimizer)
        return agent, [actors.encoder] if self.shared else [actors.encoder, values_.encoder]


@pytest.fixture(scope="module", params=["shared", "own"])
def ppo(request):
    shared = request.param == "shared"
    return PPO(CLASSIC if shared else MICRO, shared)


def test_ppo_trains_every_variable_and_alpha_exactly_once(ppo):
    assert np.isfinite(ppo.loss)
    assert unchanged(ppo.variables, ppo.before) == []
    assert len(ppo.encoders) == (1 if ppo.shared else 2)
    assert len(ppo.optimizer.updated) == 2  # Two epochs.
    for updated in ppo.optimizer.updated:
        assert len(updated) == len(set(updated))
        assert set(updated) == refs(ppo.variables)
        for encoder in ppo.encoders:
            assert refs(alphas(encoder)) <= set(updated)
    in_actor, in_value = ([v.ref() for v in net.trainable_weights] for net in ppo.networks)
    for variable in alphas(ppo.encoders[0]):
        assert in_actor.count(variable.ref()) == 1
        assert in_value.count(variable.ref()) == (1 if ppo.shared else 0)


def test_l2_regularization_of_ppo_takes_kernels_and_leaves_alpha():
    env = make_env(Catch, 4)
    encoder = EncodingNetwork(env.observation_spec(), encoder=small_supernet(MICRO))
    agent = make_ppo(
        env,
        encoder,
        encoder,
        policy_l2_reg=0.5,
        value_function_l2_reg=0.25,
        shared_vars_l2_reg=0.125,
    )
    randomize(alphas(encoder.encoder))
    with tf.GradientTape() as tape:
        loss = agent.l2_regularization_loss()
    weights = encoder.trainable_weights
    gradients = dict(zip((v.ref() for v in weights), tape.gradient(loss, weights)))
    assert [gradients.pop(v.ref()) for v in alphas(encoder.encoder)] == [None] * 4
    kernels = [ref for ref in gradients if ref.deref().shape.rank > 1]
    assert len(kernels) == len(gradients) / 2 > 5  # The others are their biases.
    for ref, gradient in gradients.items():
        if ref in kernels:
            np.testing.assert_allclose(gradient, 2 * 0.125 * ref.deref().numpy(), rtol=1e-5)
        else:
            assert gradient is None


def with_an_opinion(variables, outputs):
    """Random weights that make outputs [B, A] of a network depend on what it sees."""
    randomize(variables, scale=0.3)
    variables[-1].assign_sub(tf.reduce_mean(outputs(), axis=0))  # The bias of the last layer.


def test_policies_of_ppo_are_saved_and_loaded(tmp_path):
    env = make_env(Catch, 4)
    encoder = EncodingNetwork(env.observation_spec(), encoder=small_supernet(MICRO_2))
    agent = make_ppo(env, encoder, encoder)
    weights = agent.actor_net.trainable_weights
    observations = ts.restart(images(32), batch_size=32)
    with_an_opinion(weights, lambda: agent.actor_net(observations.observation)[0].logits)
    policies = {"greedy": agent.policy, "collect": agent.collect_policy}
    for name, policy in policies.items():
        policy_saver.PolicySaver(policy).save(str(tmp_path / name))
    expected = agent.policy.action(observations).action.numpy()
    logits = agent.collect_policy.action(observations).info["dist_params"]["logits"].numpy()
    randomize(weights, seed=1)  # A saved policy keeps its own weights.
    loaded = {name: tf.saved_model.load(str(tmp_path / name)) for name in policies}
    actions = loaded["greedy"].action(observations).action.numpy()
    assert len(set(actions)) > 1
    np.testing.assert_array_equal(actions, expected)
    info = loaded["collect"].action(observations).info
    np.testing.assert_allclose(info["dist_params"]["logits"], logits, rtol=1e-4, atol=1e-4)


def test_a_checkpoint_restores_an_agent_of_ppo(ppo, tmp_path):
    step = tf.Variable(7, dtype=tf.int64)
    common.Checkpointer(str(tmp_path), agent=ppo.agent, step=step).save(step)
    saved = values(ppo.variables)
    optimizer = RecordingAdam(1e-2)
    agent, encoders = ppo.fresh_agent(optimizer)
    restored_step = tf.Variable(0, dtype=tf.int64)
    checkpointer = common.Checkpointer(str(tmp_path), agent=agent, step=restored_step)
    assert checkpointer.checkpoint_exists
    checkpointer.initialize_or_restore().assert_existing_objects_matched()
    assert restored_step.numpy() == 7
    for encoder, trained in zip(encoders, ppo.encoders):
        for actual, expected in zip(alphas(encoder), alphas(trained)):
            assert actual is not expected
            assert expected.numpy().any()
            np.testing.assert_array_equal(actual, expected)
    networks = (agent.actor_net, agent._value_net)
    restored = list({v.ref(): v for net in networks for v in net.trainable_weights}.values())
    for actual, expected, variable in zip(values(restored), saved, ppo.variables):
        np.testing.assert_array_equal(actual, expected, err_msg=variable.name)
    if ppo.shared:
        # The optimizer's moments go by the order of its variables, which must be the same.
        agent.train(ppo.experience)
        for updated, updated_before in zip(optimizer.updated, ppo.optimizer.updated):
            assert positions(updated, restored) == positions(updated_before, ppo.variables)


def test_alphas_of_two_encoders_can_be_told_apart_by_their_names():
    # PPOAgent sorts what it trains by name; the order among equal names would differ from process
    # to process, and the optimizer's moments be restored to each other's variables.
    names = [v.name for encoder in (small_supernet(), small_supernet()) for v in alphas(encoder)]
    assert len(set(names)) == len(names)


def test_a_checkpoint_restores_the_optimizer(ppo, tmp_path):
    common.Checkpointer(str(tmp_path), agent=ppo.agent).save(0)
    moments = values(ppo.optimizer.variables)
    assert len(moments) > 2 * len(ppo.variables)
    optimizer = RecordingAdam(1e-2)
    agent, _ = ppo.fresh_agent(optimizer)
    common.Checkpointer(str(tmp_path), agent=agent).initialize_or_restore()
    optimizer.build([ref.deref() for ref in ppo.optimizer.updated[0]])
    for actual, expected in zip(values(optimizer.variables), moments):
        np.testing.assert_array_equal(actual, expected)


def test_dqn_trains_alpha_and_updates_that_of_its_target():
    env = make_env(Catch, 4)
    encoder = small_supernet(CLASSIC)
    agent = make_dqn(env, encoder, epsilon_greedy=0.5, target_update_period=2)
    buffer = collect(agent, env, num_steps=32)
    batches = iter(buffer.as_dataset(sample_batch_size=16, num_steps=2))
    q, target = agent._q_network, agent._target_q_network
    (target_encoder,) = [m for m in target.submodules if isinstance(m, Supernet)]
    assert not refs(q.variables) & refs(target.variables)
    before, target_before = values(q.trainable_weights), values(target.trainable_weights)
    assert np.isfinite(agent.train(next(batches)[0]).loss)
    assert unchanged(q.trainable_weights, before) == []
    assert len(unchanged(target.trainable_weights, target_before)) == len(target_before)
    assert not any(v.numpy().any() for v in alphas(target_encoder))
    agent.train(next(batches)[0])
    for actual, expected in zip(alphas(target_encoder), alphas(encoder)):
        assert expected.numpy().any()
        np.testing.assert_array_equal(actual, expected)
    for actual, expected in zip(target.variables, q.variables):
        np.testing.assert_array_equal(actual, expected)


def test_a_policy_of_dqn_is_saved_and_loaded(tmp_path):
    agent = make_dqn(make_env(Catch, 4), small_supernet(MICRO_2))
    weights = agent._q_network.trainable_weights
    observations = ts.restart(images(32), batch_size=32)
    with_an_opinion(weights, lambda: agent._q_network(observations.observation)[0])
    policy_saver.PolicySaver(agent.policy).save(str(tmp_path))
    expected = agent.policy.action(observations).action.numpy()
    randomize(weights, seed=1)
    loaded = tf.saved_model.load(str(tmp_path))
    actions = loaded.action(observations).action.numpy()
    assert len(set(actions)) > 1
    np.testing.assert_array_equal(actions, expected)


def test_a_frozen_encoder_has_a_frozen_copy():
    encoder = small_supernet()
    encoder.trainable = False
    network = QNetwork(IMAGE, THREE_ACTIONS, encoder)
    twin = network.copy()
    for each in (network, twin):
        each.create_variables()
    # Targets are updated by pairs of `variables`, whose order this decides.
    assert [v.shape for v in twin.variables] == [v.shape for v in network.variables]
    assert len(twin.trainable_weights) == len(network.trainable_weights) == 2


class Torque(py_environment.PyEnvironment):
    """Pays -a² for an action a in [-1, 1]^2, whatever the picture."""

    def observation_spec(self):
        return array_spec.BoundedArraySpec((SIZE, SIZE, 1), np.uint8, 0, 255, name="image")

    def action_spec(self):
        return array_spec.BoundedArraySpec((2,), np.float32, -1.0, 1.0, name="torque")

    def _reset(self):
        self._steps = 0
        return ts.restart(images(seed=0).numpy())

    def _step(self, action):
        self._steps += 1
        if self._current_time_step.is_last():
            return self.reset()
        image, reward = images(seed=self._steps).numpy(), -np.sum(action**2, dtype=np.float32)
        if self._steps == 8:
            return ts.termination(image, reward)
        return ts.transition(image, reward)


def make_sac(env, encoder):
    """SacAgent with one encoder, which the critics alone train."""
    shared = EncodingNetwork(env.observation_spec(), encoder=encoder)
    specs_ = (env.observation_spec(), env.action_spec())
    # Targets share an encoder too: TF-Agents pairs their variables with those of the critics.
    encoders = [shared] * 2 + [shared.copy()] * 2
    critics = [CriticNetwork(specs_, each, fc_layer_params=(8,)) for each in encoders]
    actor = ActorDistributionNetwork(
        env.observation_spec(),
        env.action_spec(),
        shared,
        continuous_projection=tanh_normal_projection_network.TanhNormalProjectionNetwork,
        train_encoder=False,
    )
    agent = sac_agent.SacAgent(
        env.time_step_spec(),
        env.action_spec(),
        critic_network=critics[0],
        critic_network_2=critics[1],
        target_critic_network=critics[2],
        target_critic_network_2=critics[3],
        actor_network=actor,
        actor_optimizer=tf.keras.optimizers.Adam(1e-3),
        critic_optimizer=tf.keras.optimizers.Adam(1e-3),
        alpha_optimizer=tf.keras.optimizers.Adam(1e-3),
        target_update_tau=0.5,
    )
    agent.initialize()
    return agent


def test_sac_trains_the_encoder_by_its_critics_alone():
    env = tf_py_environment.TFPyEnvironment(Torque())
    encoder = small_supernet(features=6, head="layer_norm")
    agent = make_sac(env, encoder)
    actor, critics = agent._actor_network, (agent._critic_network_1, agent._critic_network_2)
    of_encoder = refs(encoder.trainable_weights)
    assert refs(alphas(encoder)) <= of_encoder
    assert not of_encoder & refs(actor.trainable_weights)
    for critic in critics:
        assert of_encoder < refs(critic.trainable_weights)
    targets = (agent._target_critic_network_1, agent._target_critic_network_2)
    for target in targets:
        assert not refs(target.variables) & refs(critics[0].variables)
    trained = [*critics[0].trainable_weights, *actor.trainable_weights]
    before = values(trained)
    batches = iter(collect(agent, env, num_steps=64).as_dataset(sample_batch_size=32, num_steps=2))
    updated, apply = [], agent._critic_optimizer.apply_gradients

    def recorded(pairs, **kwargs):
        updated.append([variable.ref() for _, variable in pairs])
        return apply(pairs, **kwargs)

    agent._critic_optimizer.apply_gradients = recorded
    for _ in range(3):
        assert np.isfinite(agent.train(next(batches)[0]).loss)
    assert unchanged(trained, before) == []
    assert len(updated) == 3
    for variables in updated:
        assert len(variables) == len(set(variables))
        assert of_encoder <= set(variables)
    (target_encoder,) = [m for m in targets[0].submodules if isinstance(m, Supernet)]
    assert all(v.numpy().any() for v in alphas(target_encoder))


def test_features_are_constants_for_an_actor_that_does_not_train_its_encoder():
    encoder = small_supernet()
    for train_encoder in (True, False):
        actor = ActorDistributionNetwork(IMAGE, TWO_TORQUES, encoder, train_encoder=train_encoder)
        actor.create_variables()
        with tf.GradientTape() as tape:
            mean = tf.reduce_sum(actor(images(2))[0].mean())
        gradients = tape.gradient(mean, encoder.trainable_weights)
        assert all((gradient is not None) == train_encoder for gradient in gradients)


def test_critic_networks_want_one_continuous_action():
    for action in (THREE_ACTIONS, [TWO_TORQUES, TWO_TORQUES]):
        with pytest.raises(ConfigError, match="continuous"):
            CriticNetwork((IMAGE, action), small_supernet())


def test_reinforce_trains_the_encoders_of_actor_and_value_network():
    env = make_env(Catch, 4)
    encoders = small_supernet(), small_supernet()
    value_network = ValueNetwork(env.observation_spec(), encoders[1])
    optimizer = RecordingAdam(1e-2)
    agent = make_reinforce(env, encoders[0], optimizer=optimizer, value_network=value_network)
    networks = agent._actor_network, value_network
    variables = [v for network in networks for v in network.trainable_weights]
    before = values(variables)
    episodes = collect(agent, env, dynamic_episode_driver.DynamicEpisodeDriver, num_episodes=4)
    assert np.isfinite(agent.train(episodes.gather_all()).loss)
    assert unchanged(variables, before) == []
    (updated,) = optimizer.updated
    assert len(updated) == len(set(updated))
    for encoder in encoders:
        assert refs(alphas(encoder)) <= set(updated)


def share_of_right_actions(agent):
    observations = tf.constant(spots(range(GRID**2)))
    step = agent.policy.action(ts.restart(observations, batch_size=GRID**2))
    return np.mean(step.action.numpy() == RIGHT_ACTIONS)


def learn(agent, batches, passes, until):
    """Trains on each of the batches until the policy is good enough; returns how good it is."""
    train = common.function(agent.train)
    for iteration, batch in enumerate(batches):
        for _ in range(passes):
            assert np.isfinite(train(batch).loss)
        if iteration % 5 == 4 and share_of_right_actions(agent) >= until:
            break
    return share_of_right_actions(agent)


def on_policy(agent, env, iterations):
    """Batches of 4 episodes of each environment, collected as they are asked for."""
    buffer = make_buffer(agent, env)
    driver = dynamic_step_driver.DynamicStepDriver(
        env, agent.collect_policy, observers=[buffer.add_batch], num_steps=4 * env.batch_size
    )
    run = common.function(driver.run)
    run()  # The first run has a frame less than the others: one graph less to make.
    for _ in range(iterations):
        buffer.clear()
        run()
        yield buffer.gather_all()


# 32 of the 64 answers of `Spot` are right by chance. An encoder without a gradient does not come
# further than about 48: the last test holds it fast and trains the layer after it alone.


def test_ppo_learns_from_pixels():
    env = make_env(Spot, 64)
    encoder = EncodingNetwork(env.observation_spec(), **SPOT_ENCODER)
    agent = make_ppo(env, encoder, encoder, num_epochs=1, entropy_regularization=0.02)
    assert learn(agent, on_policy(agent, env, 40), passes=3, until=0.9) >= 0.9


def test_reinforce_learns_from_pixels():
    env = make_env(Spot, 64)
    encoder = Supernet(**SPOT_ENCODER)
    agent = make_reinforce(env, encoder, entropy_regularization=0.1)
    assert learn(agent, on_policy(agent, env, 80), passes=1, until=0.85) >= 0.85


@pytest.mark.parametrize("frozen", [False, True], ids=["trained", "frozen"])
def test_dqn_learns_from_pixels_unless_its_encoder_is_frozen(frozen):
    env = make_env(Spot, 64)
    encoder = Supernet(**SPOT_ENCODER)
    encoder.trainable = not frozen
    agent = make_dqn(env, encoder, epsilon_greedy=1.0)
    buffer = collect(agent, env, num_steps=16 * env.batch_size)
    dataset = buffer.as_dataset(sample_batch_size=64, num_steps=2)
    batches = (experience for experience, _ in dataset.take(150))
    share = learn(agent, batches, passes=1, until=0.95)
    assert share <= 0.8 if frozen else share >= 0.95
