"""Half precision: what runs in it, what does not, and how far its gradients are from float32."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import random
import threading

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from spaces import CLASSIC_2, MICRO_2

import rldarts_tf
from rldarts_tf.factory import make_encoder
from rldarts_tf.genotype import random_genotype
from rldarts_tf.kernels.precision import Conv2D, bias_add
from rldarts_tf.ops import make_op, register_op
from rldarts_tf.options import PRECISIONS
from rldarts_tf.search_space import register_search_space

HALF = {"mixed_bfloat16": tf.bfloat16, "mixed_float16": tf.float16}
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
CELL = random_genotype(CLASSIC_2, random.Random(0))
ENCODERS = {
    "classic": {"search_space": CLASSIC_2, "depths": [4]},
    "micro": {"search_space": MICRO_2, "depths": [4, 4]},
    "recomputing": {"search_space": CLASSIC_2, "depths": [4], "recompute": True},
    "discrete": {"encoder": "discrete", "genotype": CELL, "depths": [4]},
    "impala_cnn": {"encoder": "impala_cnn", "depths": [4]},
    "pisac_cnn": {"encoder": "pisac_cnn", "depths": [4, 4], "head": "layer_norm"},
}


@pytest.fixture(autouse=True)
def _no_global_policy():
    yield
    tf.keras.mixed_precision.set_global_policy(None)


def make(name: str, precision: str | None) -> rldarts_tf.Encoder:
    return make_encoder(**ENCODERS[name], features=16, precision=precision)


@dataclasses.dataclass(frozen=True)
class Measured:
    """One traced step: the encoder, its graph, features, and the gradients of what is trained."""

    encoder: rldarts_tf.Encoder
    graph: tf.Graph
    features: tf.Tensor
    gradients: list[tf.Tensor]

    def flat_gradient(self, of_alpha: bool) -> np.ndarray:
        pairs = zip(self.encoder.trainable_weights, self.gradients)
        return np.concatenate([np.ravel(g) for w, g in pairs if ("alpha" in w.name) == of_alpha])


@functools.cache
def measure(name: str, precision: str) -> Measured:
    # Of weights with which not all features are zero.
    tf.keras.utils.set_random_seed(0)
    encoder = make(name, precision)
    encoder.build((None, *IMAGES.shape[1:]))
    if precision != "float32":
        encoder.set_weights(measure(name, "float32").encoder.get_weights())

    @tf.function(autograph=False)
    def value_and_gradients(images: tf.Tensor):
        with tf.GradientTape() as tape:
            features = encoder(images, training=True)
            # As in PPO, the loss is a mean.
            loss = tf.reduce_mean(tf.square(features - 0.3))
        return features, tape.gradient(loss, encoder.trainable_weights)

    images = tf.constant(IMAGES)
    graph = value_and_gradients.get_concrete_function(images).graph
    return Measured(encoder, graph, *value_and_gradients(images))


@pytest.mark.parametrize("precision", HALF)
@pytest.mark.parametrize("name", ENCODERS)
def test_convolutions_are_in_half_precision_and_what_is_trained_in_float32(name, precision):
    measured = measure(name, precision)
    encoder, gradients = measured.encoder, measured.gradients
    assert len(gradients) == len(encoder.trainable_weights) > 0
    if isinstance(encoder, rldarts_tf.Supernet):
        # A matrix per node of each kind of cell.
        alpha = [w for w in encoder.trainable_weights if "alpha" in w.name]
        assert len(alpha) == encoder.space.num_nodes * len(encoder.space.cell_types)
    assert np.any(measured.features)
    for tensor in [measured.features, *encoder.weights, *gradients]:
        assert tensor.dtype == tf.float32
        assert np.all(np.isfinite(tensor))
    for kind in ("Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter"):
        found = [op for op in measured.graph.get_operations() if op.type == kind]
        assert found and {op.get_attr("T") for op in found} == {HALF[precision]}


@pytest.mark.parametrize("precision", HALF)
@pytest.mark.parametrize("name", ["classic", "micro"])
def test_gradients_are_those_of_float32_but_for_a_few_percent(name, precision):
    for of_alpha in (False, True):
        expected = measure(name, "float32").flat_gradient(of_alpha)
        error = np.linalg.norm(measure(name, precision).flat_gradient(of_alpha) - expected)
        assert 0 < error < 0.05 * np.linalg.norm(expected)


@settings(max_examples=20)
@given(
    shape=st.tuples(st.integers(1, 8), st.integers(1, 32), st.integers(1, 32), st.integers(1, 4)),
    dtype=st.sampled_from([tf.bfloat16, tf.float16]),
    graph=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_gradient_of_a_bias_is_summed_without_losing_most_of_it(shape, dtype, graph, seed):
    # TensorFlow's own kernel sums bfloat16 in bfloat16, on CPUs: terms below the last place of what
    # has been summed so far are lost.
    rng = np.random.default_rng(seed)
    y = tf.cast(rng.normal(size=shape), dtype)
    bias = tf.cast(rng.normal(size=shape[-1:]), dtype)
    dy = tf.cast(rng.uniform(0.5, 1.5, size=shape), dtype)

    def run(y: tf.Tensor, bias: tf.Tensor, dy: tf.Tensor):
        with tf.GradientTape() as tape:
            tape.watch([y, bias])
            result = bias_add(y, bias)
        return result, tape.gradient(result, [y, bias], output_gradients=dy)

    result, (of_y, of_bias) = (tf.function(run, autograph=False) if graph else run)(y, bias, dy)
    expected = tf.reduce_sum(tf.cast(dy, tf.float64), axis=[0, 1, 2])
    assert result.dtype == of_y.dtype == of_bias.dtype == dtype
    np.testing.assert_allclose(tf.cast(of_bias, tf.float64), expected, rtol=0.01)
    np.testing.assert_array_equal(tf.cast(of_y, tf.float64), tf.cast(dy, tf.float64))
    np.testing.assert_array_equal(
        tf.cast(result, tf.float64), tf.cast(tf.nn.bias_add(y, bias), tf.float64)
    )


@pytest.mark.parametrize("arguments", [{}, {"activation": "relu", "padding": "same"}])
def test_convolution_layer_equals_that_of_keras(float64, arguments):
    x = tf.random.stateless_normal([2, 6, 5, 3], seed=[0, 1], dtype=tf.float64)
    layers = [kind(4, 3, 2, **arguments) for kind in (tf.keras.layers.Conv2D, Conv2D)]
    results = []
    for layer in layers:
        layer.build(x.shape)
        layer.set_weights(layers[0].get_weights())
        with tf.GradientTape() as tape:
            y = layer(x)
            loss = tf.reduce_sum(tf.sin(y))
        results.append([y, *tape.gradient(loss, layer.trainable_weights)])
    for expected, actual in zip(*results):
        np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ENCODERS)
def test_making_an_encoder_sets_no_policy_for_the_whole_process(name, monkeypatch):
    def refuse(policy):
        raise AssertionError(f"global policy set to {policy}")

    monkeypatch.setattr(tf.keras.mixed_precision, "set_global_policy", refuse)
    # Building and calling too.
    assert make(name, "mixed_bfloat16")(IMAGES).dtype == tf.float32
    monkeypatch.undo()


def test_encoders_made_in_threads_leave_other_threads_and_each_other_alone():
    stop, meanwhile = threading.Event(), set()

    def user():
        while not stop.is_set():
            meanwhile.add(tf.keras.layers.Dense(1).dtype_policy.name)

    precisions = [PRECISIONS[i % len(PRECISIONS)] for i in range(12)]
    thread = threading.Thread(target=user)
    thread.start()
    try:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            encoders = list(pool.map(make, ["classic"] * len(precisions), precisions))
    finally:
        stop.set()
        thread.join()
    for encoder, precision in zip(encoders, precisions):
        assert {bank.dtype_policy.name for c in encoder.cells for bank in c.banks} == {precision}
    assert meanwhile == {"float32"}
    assert tf.keras.layers.Dense(1).dtype_policy.name == "float32"


@tf.keras.utils.register_keras_serializable(package="test_precision")
class _Composite(tf.keras.layers.Layer):
    """A layer of a user's, which knows nothing of precision."""

    def __init__(self, filters: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.inner = tf.keras.Sequential(
            [
                tf.keras.layers.Conv2D(filters, 3, padding="same"),
                tf.keras.layers.LayerNormalization(),
            ]
        )

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu(self.inner(x))


def _without_dtype(filters, stride):
    return _Composite(filters)


def _float32_on_purpose(filters, stride, dtype):
    return tf.keras.layers.Conv2D(filters, 3, padding="same", dtype="float32")


register_op("test_precision_composite", _without_dtype)
register_op("test_precision_float32", _float32_on_purpose)
USERS = register_search_space(
    rldarts_tf.SearchSpace(
        "test_precision_users",
        ("test_precision_composite", "test_precision_float32", "sep_conv_3x3_relu"),
        num_nodes=2,
    )
)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_ops_of_the_users_get_the_policy_of_the_network(precision):
    layer = make_op("test_precision_composite", 4, dtype=precision)
    parts = [layer, *(part for part in layer.submodules if isinstance(part, tf.keras.layers.Layer))]
    assert {part.dtype_policy.name for part in parts} == {precision} and len(parts) > 3
    network = rldarts_tf.Supernet(USERS, [4], features=8, dtype=precision)
    assert network(IMAGES).dtype == tf.float32
    separable = make_op("sep_conv_3x3_relu", 4, dtype=precision)
    assert {part.dtype_policy.name for part in separable._flatten_layers()} == {precision}


def test_an_op_that_takes_dtype_chooses_its_own_precision():
    layer = make_op("test_precision_float32", 4, dtype="mixed_bfloat16")
    assert layer.dtype_policy.name == "float32"


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ENCODERS)
def test_making_an_encoder_leaves_the_global_policy_alone(name, precision):
    make(name, precision)
    assert tf.keras.mixed_precision.global_policy().name == "float32"
    assert tf.keras.layers.Dense(1).dtype_policy.name == "float32"


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ENCODERS)
def test_precision_survives_the_config(name, precision):
    encoder = make(name, precision)
    copy = type(encoder).from_config(encoder.get_config())
    assert copy.dtype_policy.name == encoder.dtype_policy.name == precision
    assert copy.get_config() == encoder.get_config()
    policies, copied = (
        [layer.dtype_policy.name for layer in network._flatten_layers()]
        for network in (encoder, copy)
    )
    # The dense layer is in float32.
    assert copied == policies and set(policies) == {precision, "float32"}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_extracted_network_has_the_precision_of_the_supernet(precision):
    network = measure("micro", precision).encoder.extract()
    assert network.dtype_policy.name == precision
    assert {cell.dtype_policy.name for cell in network.cells} == {precision}
    assert all(weight.dtype == tf.float32 for weight in network.weights)
    assert network(IMAGES).dtype == tf.float32


@pytest.mark.parametrize("name", ENCODERS)
def test_global_policy_holds_where_no_precision_is_given(name):
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    encoder, own = make(name, None), make(name, "mixed_bfloat16")
    for a, b in zip(encoder._flatten_layers(), own._flatten_layers()):
        assert a.dtype_policy.name == b.dtype_policy.name
