"""Costs against TensorFlow's own numbers and against formulas by hand."""

from __future__ import annotations

import dataclasses
import functools
import math
import random

import numpy as np
import pytest
import tensorflow as tf
from spaces import MICRO_2

import rldarts_tf
from rldarts_tf.cost import count_cost
from rldarts_tf.errors import ConfigError
from rldarts_tf.genotype import Genotype, random_genotype
from rldarts_tf.search_space import SearchSpace, register_search_space

SEPARABLE = register_search_space(
    SearchSpace("test_separable", ["sep_conv_3x3_relu", "dil_conv_3x3_relu", "elu"], num_nodes=2)
)
TWO_NODES = register_search_space(
    SearchSpace(
        "test_two_nodes",
        ["conv_3x3_relu", "dil_conv_3x3_relu", "tanh"],
        ["conv_3x3", "max_pool_3x3", "avg_pool_3x3"],
        num_reduction=1,
        num_nodes=2,
    )
)
ENCODERS = {
    "classic": lambda: rldarts_tf.Supernet(rldarts_tf.CLASSIC, [4], features=16),
    "supernet": lambda: rldarts_tf.Supernet(TWO_NODES, [3, 4], features=16),
    "micro": lambda: rldarts_tf.Supernet(MICRO_2, [4], output_mode="sum", features=16),
    "separable": lambda: rldarts_tf.Supernet(SEPARABLE, [4], features=16),
    "layer": lambda: rldarts_tf.Supernet(SEPARABLE, [4], normalization="layer", features=16),
    "frozen_alpha": lambda: rldarts_tf.Supernet(MICRO_2, [4], train_alpha=False, features=16),
    "discrete": lambda: rldarts_tf.DiscreteNetwork(
        random_genotype(rldarts_tf.CLASSIC, random.Random(2)), [3, 4], features=16
    ),
    "impala_cnn": lambda: rldarts_tf.ImpalaCNN([3, 4], features=16),
    "nature_cnn": lambda: rldarts_tf.NatureCNN(features=16),
}
SHAPE = (40, 37, 3)


@functools.cache
def counted(name: str) -> tuple[rldarts_tf.Encoder, rldarts_tf.Cost]:
    encoder = ENCODERS[name]()
    return encoder, count_cost(encoder, SHAPE)


@pytest.mark.parametrize("name", ENCODERS)
def test_parameters_are_those_that_keras_counts(name):
    encoder, cost = counted(name)
    frozen = sum(int(np.prod(w.shape)) for w in encoder.non_trainable_weights)
    assert cost.parameters == encoder.count_params() - frozen
    # By hand: what is not trained is β, and α where it is frozen.
    alpha = 5 * 1 + 5 * 2
    assert frozen == {"frozen_alpha": 1 + alpha}.get(name, isinstance(encoder, rldarts_tf.Supernet))


@pytest.mark.parametrize("name", ENCODERS)
def test_multiply_adds_are_half_the_operations_that_the_profiler_counts(name):
    encoder, cost = counted(name)
    # Of one more image: what is done to the kernels is the same for any number of them.
    one, two = (_profiled_operations(encoder, batch) for batch in (1, 2))
    assert two > one > 0
    assert cost.multiply_adds == (two - one) // 2


def _profiled_operations(encoder: tf.keras.Model, batch: int) -> int:
    function = tf.function(lambda pixels: encoder(pixels, training=True), autograph=False)
    graph = function.get_concrete_function(tf.TensorSpec((batch, *SHAPE), tf.uint8)).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder(
        tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    )
    profile = tf.compat.v1.profiler.profile(
        graph, cmd="op", options=options.with_empty_output().build()
    )
    operations = 0
    while profile.children:  # with "op" the view is a chain, one kind of op after the other
        assert len(profile.children) == 1
        profile = profile.children[0]
        if profile.name in ("Conv2D", "DepthwiseConv2dNative", "MatMul"):
            operations += profile.float_ops
    return operations


def _kept_for_gradients(encoder: tf.keras.Model, shape: tuple[int, ...], batch: int) -> int:
    """Bytes that a tf.function of the backward pass reads of what that of the forward pass made."""
    function = tf.function(lambda pixels: encoder(pixels, training=True), autograph=False)
    concrete = function.get_concrete_function(tf.TensorSpec((batch, *shape), tf.uint8))
    _, backward = concrete._delayed_rewrite_functions.forward_backward()
    # Backward as traced; TensorFlow prunes what no gradient follows from before it runs.
    needed: set[str] = set()
    waiting = [tensor.op for tensor in backward.graph.outputs]
    while waiting:
        op = waiting.pop()
        if op.name not in needed:
            needed.add(op.name)
            waiting += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
    kept = {}
    for made, read in backward.graph.captures:
        # Workspaces of cuDNN have no known rank.
        if read.op.name in needed and made.dtype != tf.resource and made.shape.rank is not None:
            # A custom gradient hands its tensors on, under new names.
            while made.op.type == "IdentityN":
                made = made.op.inputs[made.value_index]
            kept[made.name] = math.prod(made.shape) * made.dtype.size
    return sum(kept.values())


def _kept_per_image(encoder: tf.keras.Model, shape: tuple[int, ...]) -> int:
    """What a second image adds: weights and sums over the batch do not grow with it."""
    encoder(tf.zeros((1, *shape), tf.uint8))
    one, two = (_kept_for_gradients(encoder, shape, batch) for batch in (1, 2))
    return two - one


@pytest.mark.parametrize("name", ENCODERS)
def test_activation_bytes_are_what_tensorflow_keeps_for_the_gradients(name):
    encoder, cost = counted(name)
    assert cost.activation_bytes == _kept_per_image(encoder, SHAPE) > 0


def test_activation_bytes_with_batch_normalization_add_the_statistics():
    encoder = rldarts_tf.Supernet(MICRO_2, [4], normalization="batch")
    kept = _kept_per_image(encoder, SHAPE)
    beta = 1
    statistics = sum(math.prod(w.shape) for w in encoder.non_trainable_weights) - beta
    assert count_cost(encoder, SHAPE).activation_bytes == kept + 4 * statistics


def test_cost_of_impala_cnn_by_hand():
    cost = count_cost(rldarts_tf.ImpalaCNN([4, 6], features=10), (8, 12, 3))
    pixels = [8 * 12, 4 * 6, 2 * 3]  # of the image, after block 0, after block 1
    channels = [3, 4, 6]
    parameters = multiply_adds = 0
    activations = pixels[0] * 3  # the image as float, read by the first kernel's gradient
    for block in range(2):
        inner, outer = channels[block + 1], channels[block]
        parameters += 9 * outer * inner + inner + 4 * (9 * inner * inner + inner)
        multiply_adds += 9 * outer * inner * pixels[block]
        multiply_adds += 4 * 9 * inner * inner * pixels[block + 1]
        # The pool keeps its input and its output, each of four convolutions its (ReLU's) input.
        activations += inner * pixels[block] + (1 + 4) * inner * pixels[block + 1]
    # The first convolution of block 1 reads the sum that block 0 ends with.
    activations += 4 * pixels[1]
    flat = 6 * pixels[2]
    parameters += flat * 10 + 10
    multiply_adds += flat * 10
    activations += flat + 10  # ReLU before the dense layer, ReLU after it
    assert cost == rldarts_tf.Cost(parameters, multiply_adds, 4 * activations)


def test_cost_of_resnet_by_hand():
    cost = count_cost(rldarts_tf.ResNet(num_layers=20, features=7), (12, 8, 3))
    pixels = [12 * 8, 6 * 4, 3 * 2]
    convolutions, norms = 9 * 3 * 16, 16
    multiply_adds = 9 * 3 * 16 * pixels[0]
    for stage, width in enumerate((16, 32, 64)):
        # Three blocks of two; the first convolution of a later stage reads half of the channels.
        inputs = [width if stage == 0 else width // 2, *[width] * 5]
        convolutions += sum(9 * channels * width for channels in inputs)
        multiply_adds += sum(9 * channels * width * pixels[stage] for channels in inputs)
        norms += 6 * width
    dense = pixels[2] * 64 * 7
    assert cost.parameters == convolutions + 2 * norms + dense + 7
    assert cost.multiply_adds == multiply_adds + dense


def test_cost_of_a_small_discrete_cell_by_hand():
    genotype = Genotype.from_dict(
        {
            "format_version": 1,
            "search_space": "micro",
            "top_k": 2,
            "output_mode": "concat",
            "num_normal": 1,
            "num_reduction": 0,
            "cells": {"normal": [[[0, "conv_3x3"]], [[0, "conv_3x3"], [1, "relu"]]]},
        }
    )
    cost = count_cost(rldarts_tf.DiscreteNetwork(genotype, [5], features=7), (8, 6, 3))
    pixels, maps = 8 * 6, 4 * 3
    kernel = 9 * 5 * 5
    # Conv3x3 and pool of the block; two Conv3x3; Conv1x1 over two nodes; dense.
    parameters = (9 * 3 * 5 + 5) + 2 * (kernel + 5) + (10 * 5 + 5) + (5 * maps * 7 + 7)
    multiply_adds = 9 * 3 * 5 * pixels + 2 * kernel * maps + 10 * 5 * maps + 5 * maps * 7
    # Image; input and output of the pool; ReLU of node 1; both nodes concatenated; ReLU, dense.
    activations = 3 * pixels + 5 * pixels + 5 * maps + 5 * maps + 10 * maps + 5 * maps + 7
    assert cost == rldarts_tf.Cost(parameters, multiply_adds, 4 * activations)


def test_a_node_that_the_output_has_not_is_not_counted():
    def multiply_adds_of(last_node):
        genotype = Genotype.from_dict(
            {
                "format_version": 1,
                "search_space": "micro",
                "top_k": 1,
                "output_mode": "last",
                "num_normal": 1,
                "num_reduction": 0,
                "cells": {"normal": [[[0, "conv_3x3"]], last_node]},
            }
        )
        network = rldarts_tf.DiscreteNetwork(genotype, [5], features=7)
        return count_cost(network, (8, 6, 3)).multiply_adds

    around = 9 * 3 * 5 * (8 * 6) + 5 * (4 * 3) * 7
    assert multiply_adds_of([[1, "relu"]]) == around + 9 * 5 * 5 * (4 * 3)
    assert multiply_adds_of([[0, "relu"]]) == around


@pytest.mark.parametrize("output_mode", ["concat", "sum"])
def test_linear_supernet_cells_keep_their_nodes_and_nothing_else(output_mode):
    num_cells, num_nodes = 2, 3
    space = dataclasses.replace(
        rldarts_tf.MICRO, name="test_three_nodes", num_normal=num_cells, num_nodes=num_nodes
    )
    encoder = rldarts_tf.Supernet(space, [5], output_mode, features=7)
    pixels, maps = 8 * 6, 4 * 3
    # x_0, ..., x_I, which the Conv1x1 over the nodes reads; a sum reads no x_I, nor does an op.
    read = 1 + num_nodes if output_mode == "concat" else num_nodes
    nodes = num_cells * read * 5 * maps
    # Image; input of the pool, whose output is the first x_0; ReLU, dense.
    around = 3 * pixels + 5 * pixels + 5 * maps + 7
    assert count_cost(encoder, (8, 6, 3)).activation_bytes == 4 * (nodes + around)


def test_half_precision_halves_what_the_cells_keep():
    full, half = (
        count_cost(rldarts_tf.Supernet(MICRO_2, [4], features=16, dtype=dtype), (8, 6, 3))
        for dtype in ("float32", "mixed_bfloat16")
    )
    pixels, maps = 8 * 6, 4 * 3
    head = 4 * (4 * maps + 16)  # ReLU and dense layer, in float32
    assert full.activation_bytes == head + 4 * (3 * pixels + 4 * pixels + 3 * 4 * maps)
    assert half.activation_bytes == head + (full.activation_bytes - head) // 2
    assert half.parameters == full.parameters and half.multiply_adds == full.multiply_adds


def test_one_buffer_under_two_shapes_is_counted_once():
    class Reshaping(tf.keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.conv = tf.keras.layers.Conv2D(2, 1)

        def call(self, x, training=None):
            y = self.conv(x)
            # The gradient reads the maps both as they are and in another shape.
            flat = tf.square(tf.reshape(y, [-1, 4 * 5 * 2]))
            return flat + tf.reshape(tf.square(y), [-1, 4 * 5 * 2])

    cost = count_cost(Reshaping(), (4, 5, 3), tf.float32)
    assert cost == rldarts_tf.Cost(3 * 2 + 2, 4 * 5 * 3 * 2, 4 * (4 * 5 * 2))


def test_cost_does_not_depend_on_the_dtype_of_the_images_or_on_earlier_calls():
    encoder = rldarts_tf.Supernet(MICRO_2, [4])
    before = count_cost(encoder, (9, 8, 3))
    encoder(np.zeros((5, 9, 8, 3), np.uint8))
    assert count_cost(encoder, (9, 8, 3)) == before
    as_float = count_cost(encoder, (9, 8, 3), tf.float32)
    assert (as_float.parameters, as_float.multiply_adds) == (
        before.parameters,
        before.multiply_adds,
    )
    # A float image is the caller's own memory, not a copy that the network keeps.
    assert as_float.activation_bytes == before.activation_bytes - 4 * 9 * 8 * 3


def test_counting_changes_no_weights():
    encoder = rldarts_tf.Supernet(MICRO_2, [4], normalization="batch")
    encoder(np.ones((2, 9, 8, 3), np.uint8))
    before = [w.numpy() for w in encoder.weights]
    count_cost(encoder, (9, 8, 3))
    for weight, old in zip(encoder.weights, before):
        np.testing.assert_array_equal(weight, old)


@pytest.mark.parametrize("shape", [(), (8, 8), (8, 8, 0), (1, 8, 8, 3), (-1, 8, 3)])
def test_bad_image_shape_is_named(shape):
    with pytest.raises(ConfigError, match="image_shape") as raised:
        count_cost(rldarts_tf.ImpalaCNN([4]), shape)
    assert "\n" not in str(raised.value)
