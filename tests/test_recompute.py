"""Networks that recompute: the same function and gradients, and less that is kept."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import randomize
from spaces import CLASSIC_2, MICRO_2

import rldarts_tf
from rldarts_tf.cost import count_cost
from rldarts_tf.errors import ConfigError
from rldarts_tf.factory import make_encoder
from rldarts_tf.genotype import random_genotype
from rldarts_tf.search_space import SearchSpace, register_search_space

# Both kinds of cell, and in them ops that are and that are not linear.
BOTH = register_search_space(
    SearchSpace(
        "test_recompute",
        ["conv_3x3_relu", "dil_conv_3x3", "tanh"],
        ["conv_3x3", "max_pool_3x3", "relu"],
        num_reduction=1,
        num_nodes=2,
    )
)
IMAGES = np.random.default_rng(0).uniform(size=(2, 9, 8, 3))


def run(encoder: tf.keras.Model):
    """Features, and the gradients of all weights, of a traced function."""

    @tf.function(autograph=False)
    def value_and_gradients(images: tf.Tensor):
        with tf.GradientTape() as tape:
            features = encoder(images, training=True)
            loss = tf.reduce_sum(tf.sin(features))
        return features, tape.gradient(loss, encoder.trainable_weights)

    features, gradients = value_and_gradients(IMAGES)
    return features.numpy(), [gradient.numpy() for gradient in gradients]


def assert_same(holding: tf.keras.Model, recomputing: tf.keras.Model, seed: int) -> None:
    for encoder in (holding, recomputing):
        encoder.build((None, *IMAGES.shape[1:]))
    randomize(holding.trainable_weights, seed)
    recomputing.set_weights(holding.get_weights())
    (expected, expected_gradients), (features, gradients) = run(holding), run(recomputing)
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(features, expected, rtol=1e-9, atol=1e-9)
    assert len(gradients) == len(expected_gradients)
    for weight, a, b in zip(holding.trainable_weights, gradients, expected_gradients):
        np.testing.assert_allclose(
            a, b, rtol=1e-8, atol=1e-9 * (1 + np.abs(b).max()), err_msg=weight.name
        )


@pytest.mark.parametrize(
    ("space", "depths", "output_mode"),
    [(BOTH, [3], "concat"), (BOTH, [2], "weighted_sum"), (MICRO_2, [3, 2], "concat")],
)
def test_recomputing_supernet_has_the_same_features_and_gradients(
    float64, space, depths, output_mode
):
    pair = [
        rldarts_tf.Supernet(space, depths, output_mode, features=5, recompute=recompute)
        for recompute in (False, True)
    ]
    assert_same(*pair, seed=1)


@settings(max_examples=3)
@given(cell_seed=st.integers(0, 2**31), seed=st.integers(0, 2**31))
def test_recomputing_discrete_network_has_the_same_features_and_gradients(cell_seed, seed):
    tf.keras.backend.set_floatx("float64")
    try:
        genotype = random_genotype(BOTH, random.Random(cell_seed))
        pair = [
            rldarts_tf.DiscreteNetwork(genotype, [3], features=5, recompute=recompute)
            for recompute in (False, True)
        ]
        assert_same(*pair, seed=seed)
    finally:
        tf.keras.backend.set_floatx("float32")


def test_layer_normalization_can_be_recomputed(float64):
    genotype = random_genotype(BOTH, random.Random(4))
    pair = [
        rldarts_tf.DiscreteNetwork(genotype, [3], "layer", features=5, recompute=recompute)
        for recompute in (False, True)
    ]
    assert_same(*pair, seed=1)


def test_recomputing_classic_keeps_less():
    holding, recomputing = (
        count_cost(rldarts_tf.Supernet(CLASSIC_2, [4], recompute=recompute), (16, 16, 3))
        for recompute in (False, True)
    )
    assert recomputing.activation_bytes < 0.5 * holding.activation_bytes
    assert recomputing.parameters == holding.parameters
    assert recomputing.multiply_adds == holding.multiply_adds


def compiled_step(encoder: tf.keras.Model):
    """A gradient step for XLA; the images are float32."""

    def step(images: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.sin(encoder(images)))
        return tape.gradient(loss, encoder.trainable_weights)

    return tf.function(step, jit_compile=True, autograph=False)


def test_xla_computes_convolutions_again_only_where_asked_to():
    images = tf.constant(IMAGES, tf.float32)
    pair = [
        rldarts_tf.DiscreteNetwork(
            {
                "format_version": 1,
                "search_space": "test_recompute",
                "top_k": 1,
                "output_mode": "last",
                "num_normal": 1,
                "num_reduction": 1,
                "cells": {
                    "reduction": [[[0, "relu"]], [[1, "relu"]]],
                    "normal": [[[0, "conv_3x3_relu"]], [[1, "conv_3x3_relu"]]],
                },
            },
            [3],
            features=5,
            recompute=recompute,
        )
        for recompute in (False, True)
    ]
    counts, gradients = [], []
    for encoder in pair:
        encoder(images)
        encoder.set_weights(pair[0].get_weights())
        step = compiled_step(encoder)
        program = step.experimental_get_compiler_ir(images)(stage="optimized_hlo")
        # On some CPUs XLA hands convolutions to a library.
        counts.append(len(re.findall(r" convolution\(|__onednn\$conv", program)))
        gradients.append(step(images))
    # Each of the two, whose ReLU its gradient needs.
    assert counts[1] == counts[0] + 2 and counts[0] > 6
    for expected, actual in zip(*gradients):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("kind", ["supernet", "discrete"])
def test_recompute_survives_the_config_and_extraction(kind, recompute):
    genotype = random_genotype(BOTH, random.Random(1)) if kind == "discrete" else None
    encoder = make_encoder(
        kind, genotype, search_space=BOTH, depths=[3], features=4, recompute=recompute
    )
    copy = type(encoder).from_config(encoder.get_config())
    networks = [encoder, copy]
    if kind == "supernet":
        copy(IMAGES.astype(np.float32))
        networks.append(copy.extract())
    for network in networks:
        assert network.recompute is recompute
        assert network.get_config()["recompute"] is recompute
        for cell in network.cells:
            assert cell.recompute is recompute
            assert type(cell).from_config(cell.get_config()).recompute is recompute


@pytest.mark.parametrize("kind", ["supernet", "discrete"])
def test_networks_with_batch_normalization_do_not_recompute(kind):
    genotype = random_genotype(BOTH, random.Random(1)) if kind == "discrete" else None
    with pytest.raises(ConfigError, match=r"^recompute: not with batch normalization") as raised:
        make_encoder(
            kind, genotype, search_space=BOTH, depths=[3], normalization="batch", recompute=True
        )
    assert "\n" not in str(raised.value)
