"""Encoders survive config, saving and copying, α and β included."""

from __future__ import annotations

import copy
import json
import random
import re
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from reference import randomize

import rldarts_tf
from rldarts_tf import LayerSpace
from rldarts_tf.genotype import random_genotype
from rldarts_tf.ops import register_op
from rldarts_tf.search import CostSettings, SearchSettings
from rldarts_tf.search_space import SearchSpace, register_search_space


@tf.keras.utils.register_keras_serializable(package="tests")
class Gate(tf.keras.layers.Layer):
    """A user's op with weights."""

    def __init__(self, stride: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stride = stride

    def build(self, input_shape: Any) -> None:
        self.gate = self.add_weight(name="gate", shape=(input_shape[-1],), initializer="ones")
        super().build(input_shape)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return x[:, :: self.stride, :: self.stride] * self.gate

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "stride": self.stride}


register_op("test_gate", lambda filters, stride: Gate(stride))
USER = register_search_space(SearchSpace("test_user", ["test_gate", "sep_conv_3x3"], num_nodes=2))
# R = 1, every kind of op layer, two cell types; small, because SavedModels trace every layer.
BOTH = register_search_space(
    SearchSpace(
        "test_both",
        ["conv_3x3_relu", "tanh"],
        ["dil_conv_3x3", "max_pool_3x3"],
        num_reduction=1,
        num_nodes=2,
    )
)
ONE_NODE = register_search_space(
    SearchSpace("test_one_node", ["conv_3x3_relu", "tanh"], num_nodes=1)
)
ONE_LAYER = register_search_space(
    LayerSpace("test_one_layer", ["inv_res_3x3_e3", "skip_connect"], num_layers=1)
)
TARGET = SearchSettings(cost=CostSettings(target_multiply_adds=1e6))
SHAPE = (2, 9, 8, 3)
PIXELS = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
LARGER = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), np.uint8)

ENCODERS = {
    "supernet": lambda: rldarts_tf.Supernet(
        BOTH, [3], output_mode="weighted_sum", inverse_temperature=7.0, features=6
    ),
    "supernet_batch": lambda: rldarts_tf.Supernet(ONE_NODE, [3], normalization="batch", features=6),
    "supernet_frozen_alpha": lambda: rldarts_tf.Supernet(
        ONE_NODE, [3, 4], train_alpha=False, features=6
    ),
    "supernet_user_op": lambda: rldarts_tf.Supernet(USER, [3], features=6),
    "discrete": lambda: rldarts_tf.DiscreteNetwork(
        random_genotype(BOTH, random.Random(1), "average"), [3], "layer", features=6
    ),
    "impala_cnn": lambda: rldarts_tf.ImpalaCNN([3, 4], features=6, kernel_size=5),
    "nature_cnn": lambda: rldarts_tf.NatureCNN(features=6),
    "minatar_cnn": lambda: rldarts_tf.MinAtarCNN(features=6),
    "resnet": lambda: rldarts_tf.ResNet([3], num_layers=4, features=6),
    "supernet_layers": lambda: rldarts_tf.Supernet(ONE_LAYER, [3], features=6, search=TARGET),
    "pisac_cnn": lambda: rldarts_tf.PiSacCNN([3, 4], features=6, head="layer_norm"),
}


def pixels_for(name: str) -> np.ndarray:
    return LARGER if name == "nature_cnn" else PIXELS


def trained(name: str) -> rldarts_tf.Encoder:
    """An encoder whose every weight is random, as after training."""
    encoder = ENCODERS[name]()
    encoder(pixels_for(name))
    randomize(encoder.weights, 1)
    if isinstance(encoder, rldarts_tf.Supernet):
        encoder.alpha.inverse_temperature.assign(4.5)
    return encoder


def plain_name(weight: tf.Variable) -> str:
    """Without the model's name, which some loaders drop, and Keras' counters of nameless layers."""
    models = "supernet|discrete_network|impala_cnn|nature_cnn|pi_sac_cnn|min_atar_cnn|res_net"
    name = re.sub(rf"^({models})[^/]*/", "", weight.name)
    return re.sub(r"/(gate|separable_convolution|inverted_residual)(_\d+)?/", r"/\1/", name)


def check_equal(copied: rldarts_tf.Encoder, encoder: rldarts_tf.Encoder, name: str) -> None:
    pixels = pixels_for(name)
    assert type(copied) is type(encoder)
    assert copied is not encoder
    expected = encoder(pixels).numpy()
    assert np.count_nonzero(expected) > 0
    np.testing.assert_array_equal(copied(pixels), expected)
    np.testing.assert_allclose(copied(pixels / np.float32(255)), expected, rtol=1e-4, atol=1e-5)
    assert list(map(plain_name, copied.weights)) == list(map(plain_name, encoder.weights))
    assert [w.shape for w in copied.weights] == [w.shape for w in encoder.weights]
    assert {plain_name(w) for w in copied.trainable_weights} == {
        plain_name(w) for w in encoder.trainable_weights
    }
    assert copied.get_config() == encoder.get_config()
    if isinstance(encoder, rldarts_tf.Supernet):
        for a, b in zip(copied.alpha.weights, encoder.alpha.weights):
            assert a is not b
            np.testing.assert_array_equal(a, b)
        assert float(copied.alpha.inverse_temperature) == 4.5
        genotype = encoder.discretize()
        assert copied.discretize() == genotype
        np.testing.assert_array_equal(
            copied.extract(genotype)(pixels), encoder.extract(genotype)(pixels)
        )
    check_training_continues(copied, encoder, pixels)


def check_training_continues(copied: Any, encoder: Any, pixels: np.ndarray) -> None:
    """A step changes every weight of the copy, and none of the original's."""
    original = [w.numpy() for w in encoder.weights]
    before = [w.numpy() for w in copied.trainable_weights]
    optimizer = tf.keras.optimizers.SGD(1e-2)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(copied(pixels, training=True) - 1.0))
    gradients = tape.gradient(loss, copied.trainable_weights)
    optimizer.apply_gradients(zip(gradients, copied.trainable_weights))
    for weight, old in zip(copied.trainable_weights, before):
        assert np.any(weight.numpy() != old), weight.name
    for weight, old in zip(encoder.weights, original):
        np.testing.assert_array_equal(weight, old)


@pytest.mark.parametrize("name", ENCODERS)
def test_config_makes_the_same_architecture(name):
    encoder = trained(name)
    config = json.loads(json.dumps(encoder.get_config()))  # plain data
    again = type(encoder).from_config(config)
    assert again.get_config() == encoder.get_config()
    again(pixels_for(name))
    again.set_weights(encoder.get_weights())
    check_equal(again, encoder, name)


@pytest.mark.parametrize("suffix", ["", ".h5"])
@pytest.mark.parametrize("name", ENCODERS)
def test_saved_weights_are_loaded(tmp_path, name, suffix):
    encoder = trained(name)
    path = str(tmp_path / f"weights{suffix}")
    encoder.save_weights(path)
    again = type(encoder).from_config(encoder.get_config())
    again(pixels_for(name))
    again.load_weights(path)
    check_equal(again, encoder, name)


@pytest.mark.parametrize("name", ENCODERS)
def test_whole_model_is_loaded(tmp_path, name):
    encoder = trained(name)
    path = str(tmp_path / "model.keras")
    encoder.save(path)
    check_equal(tf.keras.models.load_model(path), encoder, name)


@pytest.mark.parametrize("name", ENCODERS)
def test_saved_model_is_loaded(tmp_path, name):
    encoder = trained(name)
    path = str(tmp_path / "model")
    encoder.save(path, save_format="tf")
    check_equal(tf.keras.models.load_model(path), encoder, name)
    # Without the classes it serves what was saved.
    served = tf.saved_model.load(path).signatures["serving_default"]
    (output,) = served(tf.constant(pixels_for(name))).values()
    np.testing.assert_allclose(output, encoder(pixels_for(name)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ENCODERS)
def test_deep_copy_is_equal_and_independent(name):
    encoder = trained(name)
    check_equal(copy.deepcopy(encoder), encoder, name)


@pytest.mark.parametrize("name", ENCODERS)
def test_deep_copy_before_the_first_call_keeps_alpha(name):
    encoder = ENCODERS[name]()
    randomize(encoder.weights, 1)
    copied = copy.deepcopy(encoder)
    assert copied.get_config() == encoder.get_config()
    assert len(copied.weights) == len(encoder.weights)
    for a, b in zip(copied.weights, encoder.weights):
        assert a is not b
        np.testing.assert_array_equal(a, b)
    if isinstance(encoder, rldarts_tf.Supernet):
        assert copied.discretize() == encoder.discretize()
        copied.alpha.inverse_temperature.assign(99.0)
        assert float(encoder.alpha.inverse_temperature) != 99.0
    features = copied(pixels_for(name))
    assert features.shape == (2, 6)
    assert encoder(pixels_for(name)).shape == (2, 6)
    assert not {id(w) for w in copied.weights} & {id(w) for w in encoder.weights}


@pytest.mark.parametrize("name", ENCODERS)
def test_checkpoint_is_restored_whether_built_or_not(tmp_path, name):
    encoder = trained(name)
    path = tf.train.Checkpoint(encoder=encoder).save(str(tmp_path / "checkpoint"))
    for build_first in (True, False):
        again = type(encoder).from_config(encoder.get_config())
        if build_first:
            again(pixels_for(name))
        status = tf.train.Checkpoint(encoder=again).restore(path)
        again(pixels_for(name))
        status.assert_existing_objects_matched()
        check_equal(again, encoder, name)


def test_checkpoint_restores_the_optimizer_so_that_training_repeats(tmp_path):
    def step(encoder, optimizer):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(encoder(PIXELS) ** 2)
        gradients = tape.gradient(loss, encoder.trainable_weights)
        optimizer.apply_gradients(zip(gradients, encoder.trainable_weights))

    encoder, optimizer = trained("supernet"), tf.keras.optimizers.Adam(1e-3)
    step(encoder, optimizer)
    path = tf.train.Checkpoint(encoder=encoder, optimizer=optimizer).save(str(tmp_path / "c"))
    again = type(encoder).from_config(encoder.get_config())
    again(PIXELS)
    restored = tf.keras.optimizers.Adam(1e-3)
    restored.build(again.trainable_weights)
    tf.train.Checkpoint(encoder=again, optimizer=restored).restore(path).assert_consumed()
    for _ in range(2):
        step(encoder, optimizer)
        step(again, restored)
    for a, b in zip(again.weights, encoder.weights):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_saved_genotype_of_a_network_is_its_own(tmp_path):
    network = ENCODERS["discrete"]()
    network.genotype.save(tmp_path / "genotype.json")
    again = rldarts_tf.DiscreteNetwork(tmp_path / "genotype.json", [3], "layer", features=6)
    assert {**again.get_config(), "name": ""} == {**network.get_config(), "name": ""}


# --- in another process -------------------------------------------------------------------------

NOBODYS = SearchSpace("test_nobodys", ("conv_3x3_relu", "tanh"), num_nodes=2)
"""A space that is registered nowhere, of ops that are built in."""

LOAD = """
import json, sys
import numpy as np, tensorflow as tf, rldarts_tf.encoders
from rldarts_tf.errors import RLDartsError
folder, told = sys.argv[1], {}
images = np.load(f"{folder}/images.npy")
def outputs(model):
    return [type(model).__name__, model(images).numpy().tolist()]
for name in ("supernet.keras", "discrete.keras", "discrete_sm"):
    told[name] = outputs(tf.keras.models.load_model(f"{folder}/{name}"))
config = json.load(open(f"{folder}/config.json"))
told["config"] = rldarts_tf.DiscreteNetwork.from_config(config).genotype.to_dict()
told["file"] = rldarts_tf.Genotype.load(f"{folder}/genotype.json").to_dict()
try:
    rldarts_tf.DiscreteNetwork(f"{folder}/user.json", [3])
except RLDartsError as error:
    told["user"] = str(error)
print(json.dumps(told))
"""


def test_a_network_of_a_space_of_ones_own_is_loaded_where_nobody_registered_it(tmp_path, server):
    supernet = rldarts_tf.Supernet(NOBODYS, [3], features=6)
    supernet(PIXELS)
    randomize(supernet.weights, 1)
    discrete = supernet.extract()
    discrete(PIXELS)
    saved = {"supernet.keras": supernet, "discrete.keras": discrete, "discrete_sm": discrete}
    for name, encoder in saved.items():
        encoder.save(tmp_path / name, save_format="keras" if name.endswith(".keras") else "tf")
    discrete.genotype.save(tmp_path / "genotype.json")
    # Every op of this one is the user's.
    gates = SearchSpace("test_user", ("test_gate", "sep_conv_3x3"), num_nodes=2)
    for seed in range(20):
        user = random_genotype(gates, random.Random(seed))
        if "test_gate" in user.to_json().partition('"cells"')[2]:
            break
    user.save(tmp_path / "user.json")
    np.save(tmp_path / "images.npy", PIXELS)
    (tmp_path / "config.json").write_text(json.dumps(discrete.get_config()))
    ended = server.run(["-c", LOAD, str(tmp_path)])
    assert ended.code == 0, ended.err
    told = json.loads(ended.out.splitlines()[-1])
    for name, encoder in saved.items():
        kind, features = told[name]
        assert kind == type(encoder).__name__
        np.testing.assert_allclose(features, encoder(PIXELS), rtol=1e-5, atol=1e-6)
    assert told["config"] == told["file"] == discrete.genotype.to_dict()
    assert "'test_gate'" in told["user"] and "import" in told["user"]
    assert "sep_conv_3x3" not in told["user"].partition("known:")[0]
