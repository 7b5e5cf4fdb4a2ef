"""The architecture variables: their softmax, entropy, names and training."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rldarts_tf.alpha import Alpha
from rldarts_tf.search_space import CLASSIC, MICRO, edge_row


def numpy_softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(np.asarray(logits, np.float64))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def randomized(space, beta=5.0, scale=1.0, seed=0) -> Alpha:
    alpha = Alpha(space, inverse_temperature=beta)
    rng = np.random.default_rng(seed)
    for nodes in alpha.logits.values():
        for node in nodes:
            node.assign(scale * rng.normal(size=node.shape))
    return alpha


def test_alpha_is_a_matrix_per_node_and_cell_type_that_starts_uniform():
    alpha = Alpha(CLASSIC)
    assert list(alpha.logits) == ["reduction", "normal"]
    for cell_type, nodes in alpha.logits.items():
        count = len(CLASSIC.ops(cell_type))
        assert [tuple(node.shape) for node in nodes] == [(j, count) for j in (1, 2, 3, 4)]
        for node in nodes:
            np.testing.assert_array_equal(node, np.zeros(node.shape))
        p = alpha.op_weights()[cell_type]
        np.testing.assert_allclose(p, np.full((10, count), 1 / count), rtol=1e-6)
    assert float(alpha.inverse_temperature) == 5.0


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    beta=st.sampled_from([0.1, 1.0, 5.0, 10.0]),
    scale=st.sampled_from([0.01, 1.0, 3.0]),
)
def test_op_weights_are_the_softmax_of_beta_times_alpha(seed, beta, scale):
    alpha = randomized(CLASSIC, beta, scale, seed)
    for cell_type, p in alpha.op_weights().items():
        assert p.dtype == tf.float32 and p.shape == (10, len(CLASSIC.ops(cell_type)))
        np.testing.assert_array_equal(alpha.numpy_op_weights()[cell_type], p)
        exact = alpha.numpy_logits()[cell_type]
        for j, node in enumerate(alpha.logits[cell_type], start=1):
            for i, row in enumerate(node.numpy().astype(np.float64)):
                edge = edge_row(i, j)
                expected = numpy_softmax(np.float64(beta) * row)
                np.testing.assert_allclose(p[edge], expected, rtol=1e-4, atol=1e-7)
                np.testing.assert_array_equal(exact[edge], np.float64(np.float32(beta)) * row)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    beta=st.sampled_from([1.0, 5.0]),
    scale=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_entropy_is_the_mean_over_edges_in_nats(seed, beta, scale):
    alpha = randomized(CLASSIC, beta, scale, seed)
    for cell_type, entropy in alpha.entropy().items():
        rows = np.concatenate([node.numpy() for node in alpha.logits[cell_type]])
        p = numpy_softmax(beta * rows)
        expected = np.mean(-(p * np.log(p)).sum(axis=1))
        np.testing.assert_allclose(entropy, expected, rtol=1e-4, atol=1e-6)


def test_entropy_of_a_uniform_mixture_is_the_logarithm_of_the_number_of_ops():
    for cell_type, entropy in Alpha(CLASSIC).entropy().items():
        np.testing.assert_allclose(entropy, np.log(len(CLASSIC.ops(cell_type))), rtol=1e-6)


@pytest.mark.parametrize("scale", [1e2, 1e6, 1e30])
def test_entropy_and_its_gradient_are_finite_for_large_logits(scale):
    alpha = randomized(MICRO, beta=1.0, scale=scale)
    with tf.GradientTape() as tape:
        entropy = alpha.entropy()["normal"]
    gradients = tape.gradient(entropy, alpha.logits["normal"])
    assert 0 <= float(entropy) < np.log(5)
    for gradient in gradients:
        assert np.all(np.isfinite(gradient))
    if scale >= 1e6:
        # One-hot rows: no entropy at all.
        assert float(entropy) == 0


def test_inverse_temperature_can_be_scheduled_inside_a_graph():
    alpha = randomized(MICRO, beta=5.0)
    traced = tf.function(alpha.op_weights)
    before = traced()["normal"][6:].numpy()
    alpha.inverse_temperature.assign(10.0)
    after = traced()["normal"][6:].numpy()
    logits = alpha.logits["normal"][3].numpy()
    np.testing.assert_allclose(before, numpy_softmax(5.0 * logits), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(after, numpy_softmax(10.0 * logits), rtol=1e-4, atol=1e-7)


def test_names_are_distinct_and_say_nothing_of_kernels():
    names = [weight.name for weight in Alpha(CLASSIC).weights]
    assert len(names) == len(set(names)) == 9
    assert not any("kernel" in name for name in names)


def test_alpha_is_trained_and_the_inverse_temperature_is_not():
    alpha = Alpha(CLASSIC)
    assert len(alpha.trainable_weights) == 8
    assert [w.name for w in alpha.non_trainable_weights] == [alpha.inverse_temperature.name]


def test_frozen_alpha_has_no_trainable_weights():
    alpha = Alpha(CLASSIC, trainable=False)
    assert alpha.trainable_weights == []
    assert len(alpha.weights) == 9


def test_config_of_alpha_makes_an_equal_layer():
    alpha = Alpha(CLASSIC, inverse_temperature=7.0, trainable=False)
    again = Alpha.from_config(alpha.get_config())
    assert again.space == CLASSIC
    assert float(again.inverse_temperature) == 7.0
    assert not again.trainable
    assert [w.name for w in again.weights] == [w.name for w in alpha.weights]


def test_alpha_is_float32_whatever_surrounds_it(float64):
    alpha = Alpha(MICRO)
    assert {weight.dtype for weight in alpha.weights} == {tf.float32}
