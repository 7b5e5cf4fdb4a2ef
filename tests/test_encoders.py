"""Supernets, discrete networks and baselines behind their one contract."""

from __future__ import annotations

import dataclasses
import random
import re

import numpy as np
import pytest
import tensorflow as tf
from reference import randomize, reference_cell, softmax
from spaces import CLASSIC_2, MICRO_2

import rldarts_tf
from rldarts_tf.errors import ConfigError, GenotypeError
from rldarts_tf.factory import ENCODERS, make_encoder
from rldarts_tf.genotype import random_genotype
from rldarts_tf.search_space import SearchSpace, register_search_space

MIXED = register_search_space(
    SearchSpace(
        "test_mixed",
        ["sep_conv_3x3_relu", "dil_conv_5x5_relu", "max_pool_3x3", "elu"],
        ["sep_conv_5x5", "avg_pool_3x3", "conv_1x1", "gelu"],
        num_reduction=1,
        num_nodes=3,
    )
)
SPACES = [
    rldarts_tf.CLASSIC,
    rldarts_tf.MICRO,
    rldarts_tf.MICRO_SAC,
    rldarts_tf.MICRO_PISAC,
    rldarts_tf.CLASSIC_NO_RELU,
    MIXED,
]


def images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def set_alpha(supernet, genotype, strength: float) -> None:
    """α that prefers the genotype: its op on an edge that it keeps, `none` on one it drops."""
    for cell_type, cell in genotype.cells.items():
        columns = supernet.space.ops(cell_type)
        for j, node in enumerate(cell, start=1):
            logits = np.zeros((j, len(columns)), np.float32)
            logits[:, columns.index("none")] = strength
            for i, op in node:
                logits[i] = 0
                logits[i, columns.index(op)] = strength
            supernet.alpha.logits[cell_type][j - 1].assign(logits)


# Micro's two cells in a block, of fewer nodes.
TWO_CELLS = dataclasses.replace(MICRO_2, num_normal=2)
EXAMPLES = {
    "classic": lambda **kwargs: rldarts_tf.Supernet(CLASSIC_2, [4], **kwargs),
    "micro": lambda **kwargs: rldarts_tf.Supernet(TWO_CELLS, [4, 6], **kwargs),
    "discrete": lambda **kwargs: rldarts_tf.DiscreteNetwork(
        random_genotype(rldarts_tf.CLASSIC, random.Random(0)), [4, 6], **kwargs
    ),
    "impala_cnn": lambda **kwargs: rldarts_tf.ImpalaCNN([4, 6], **kwargs),
    "nature_cnn": lambda **kwargs: rldarts_tf.NatureCNN(**kwargs),
    "pisac_cnn": lambda **kwargs: rldarts_tf.PiSacCNN([4, 6], **kwargs),
    "minatar_cnn": lambda **kwargs: rldarts_tf.MinAtarCNN(**kwargs),
    "resnet": lambda **kwargs: rldarts_tf.ResNet([4, 6], num_layers=6, **kwargs),
    "layer_norm": lambda **kwargs: rldarts_tf.Supernet(MICRO_2, [4], head="layer_norm", **kwargs),
}


def test_pisac_stem_stands_around_the_cells_alone():
    genotype = random_genotype(rldarts_tf.MICRO_PISAC, random.Random(0))
    network = rldarts_tf.DiscreteNetwork(genotype, [4], features=5, head="layer_norm")
    x = images(2, 16, 16, 9)
    y = network(x)
    layers = {layer.name: layer for layer in network._flatten_layers(recursive=False)}
    assert len(network.cells) == 3
    # By hand: Conv3x3 of stride 2 without padding, three cells in a row, filter response
    # normalization (Singh & Krishnan 2020, with its thresholded unit), Dense, LayerNormalization.
    kernel, bias = layers["stem"].get_weights()
    maps = tf.nn.conv2d(x.astype(np.float32) / 255, kernel, 2, "VALID") + bias
    assert maps.shape == (2, 7, 7, 4)
    for cell in network.cells:
        maps = cell(maps)
    maps /= np.sqrt(np.mean(np.square(maps), axis=(1, 2), keepdims=True) + 1e-6)
    features = np.maximum(maps, 0).reshape(2, -1) @ layers["dense"].get_weights()[0]
    features -= features.mean(-1, keepdims=True)
    features /= np.sqrt(np.square(features).mean(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(y, features, rtol=1e-4, atol=1e-4)


def test_pisac_stem_has_31_by_31_maps_for_frames_of_64():
    supernet = rldarts_tf.Supernet("micro_pisac", [2])
    maps = supernet.feature_maps(tf.zeros([1, 64, 64, 9]), False)
    assert maps.shape == (1, 31, 31, 2)


# --- The supernet against its definition ------------------------------------------------------


@pytest.mark.parametrize("output_mode", ["concat", "weighted_sum"])
@pytest.mark.parametrize("name", ["classic", "micro"])
def test_supernet_and_gradient_of_its_alpha_equal_the_formulas(float64, name, output_mode):
    space = dataclasses.replace(rldarts_tf.get_search_space(name), num_nodes=3)
    supernet = rldarts_tf.Supernet(space, [3, 4], output_mode=output_mode, features=5)
    pixels = images(2, 9, 8, 3)
    supernet(pixels)
    randomize(supernet.weights, 0)
    supernet.alpha.inverse_temperature.assign(3.0)

    with tf.GradientTape() as tape:
        actual = supernet(pixels)
        loss = tf.reduce_sum(tf.sin(actual))
    logits = [node for nodes in supernet.alpha.logits.values() for node in nodes]
    actual_gradients = tape.gradient(loss, logits)

    alpha = {
        cell_type: [tf.constant(node.numpy(), tf.float64) for node in nodes]
        for cell_type, nodes in supernet.alpha.logits.items()
    }
    weights = {w.name.split("/", 1)[-1]: w.numpy() for w in supernet.weights}

    def conv3x3(x, layer):
        kernel, bias = weights[f"{layer}/kernel:0"], weights[f"{layer}/bias:0"]
        return tf.nn.convolution(x, kernel, padding="SAME") + bias

    cells = iter(supernet.cells)

    def cell(x, cell_type):
        layer = next(cells)
        columns = space.ops(cell_type)
        edges = {
            (i, j, op): layer.edge_variables(i, j, op)
            for j in range(1, 4)
            for i in range(j)
            for op in columns[:-1]
        }
        return reference_cell(
            x,
            edges,
            softmax(3.0 * tf.concat(alpha[cell_type], axis=0)),
            columns,
            3,
            stride=2 if cell_type == "reduction" else 1,
            output_mode=output_mode,
            adapter=layer._adapter.get_weights() if layer._adapter else None,
            output_variables=(
                layer._output_conv.get_weights()
                if output_mode == "concat"
                else [layer.output_weights.numpy()]
            ),
        )

    with tf.GradientTape() as tape:
        tape.watch(alpha)
        x = tf.constant(pixels / 255.0)
        if name == "classic":  # R = 1
            x = conv3x3(x, "stem")
            for _ in range(2):
                x = cell(cell(x, "reduction"), "normal")
        else:  # R = 0, N = 2
            for block in range(2):
                x = conv3x3(x, f"block_{block}_conv")
                x = tf.nn.pool(x, [3, 3], "MAX", strides=[2, 2], padding="SAME")
                x = cell(cell(x, "normal"), "normal")
        x = tf.reshape(tf.maximum(x, 0), [2, -1])
        expected = tf.maximum(x @ weights["dense/kernel:0"] + weights["dense/bias:0"], 0)
        loss = tf.reduce_sum(tf.sin(expected))
    expected_gradients = tape.gradient(loss, [node for nodes in alpha.values() for node in nodes])

    assert next(cells, None) is None
    assert np.count_nonzero(expected) > 0
    # α and its softmax are float32 in any network.
    np.testing.assert_allclose(actual, expected, atol=1e-5 * np.abs(expected).max())
    scale = max(np.abs(gradient).max() for gradient in expected_gradients)
    assert scale > 0
    for a, b in zip(actual_gradients, expected_gradients):
        np.testing.assert_allclose(a, b, atol=1e-5 * scale)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_one_hot_supernet_equals_the_network_extracted_from_it(space):
    modes = ("concat", "last", "sum", "average", "weighted_sum")
    for seed in range(2):
        mode = modes[(seed + SPACES.index(space)) % len(modes)]
        genotype = random_genotype(space, random.Random(seed), mode)
        supernet = rldarts_tf.Supernet(space, [4, 6], output_mode=mode, features=8)
        pixels = images(2, 10, 9, 3, seed=seed)
        supernet(pixels)
        randomize(supernet.weights, seed)
        supernet.alpha.inverse_temperature.assign(5.0)
        set_alpha(supernet, genotype, strength=100.0)
        discrete = supernet.extract(genotype)
        assert discrete.genotype == genotype
        expected = supernet(pixels).numpy()
        assert np.count_nonzero(expected) > 0
        np.testing.assert_allclose(discrete(pixels), expected, atol=1e-5 * expected.max())
        assert supernet.discretize() == genotype
        # Far from one-hot the genotype is still the one that α prefers.
        set_alpha(supernet, genotype, strength=0.5)
        assert supernet.discretize() == genotype
        np.testing.assert_array_equal(supernet.extract()(pixels), discrete(pixels))
        assert not np.allclose(supernet(pixels), expected, atol=1e-3 * expected.max())


@pytest.mark.parametrize("normalization", ["layer", "batch"])
def test_one_hot_supernet_with_normalization_equals_the_extracted_network(normalization):
    supernet = rldarts_tf.Supernet(MIXED, [4], normalization=normalization, features=8)
    pixels = images(3, 9, 9, 3)
    supernet(pixels)
    randomize(supernet.weights, 1)
    supernet.alpha.inverse_temperature.assign(5.0)
    genotype = random_genotype(MIXED, random.Random(1))
    set_alpha(supernet, genotype, strength=100.0)
    discrete = supernet.extract(genotype)
    for training in (False, True):
        expected = supernet(pixels, training=training).numpy()
        actual = discrete(pixels, training=training).numpy()
        np.testing.assert_allclose(actual, expected, atol=2e-5 * np.abs(expected).max())


def test_extracted_network_has_weights_of_its_own():
    supernet = rldarts_tf.Supernet(rldarts_tf.MICRO, [4])
    pixels = images(1, 8, 8, 3)
    supernet(pixels)
    discrete = supernet.extract()
    before = supernet(pixels).numpy()
    randomize(discrete.weights, 0)
    np.testing.assert_array_equal(supernet(pixels), before)


def test_extract_refuses_what_it_cannot_give():
    supernet = rldarts_tf.Supernet(rldarts_tf.MICRO, [4])
    with pytest.raises(ConfigError, match="no weights yet"):
        supernet.extract()
    supernet(images(1, 8, 8, 3))
    for genotype, name in (
        (random_genotype(rldarts_tf.CLASSIC), "search space 'micro'"),
        (dataclasses.replace(random_genotype(rldarts_tf.MICRO), num_normal=1), "search space"),
        (random_genotype(rldarts_tf.MICRO, output_mode="sum"), "output_mode"),
    ):
        with pytest.raises(ConfigError, match=name):
            supernet.extract(genotype)


# --- The contract -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXAMPLES)
def test_uint8_and_float_images_give_the_same_features(name):
    encoder = EXAMPLES[name](features=16)
    pixels = images(3, 40, 40, 3)
    features = encoder(pixels)
    assert features.shape == (3, 16)
    assert features.dtype == tf.float32
    assert np.all(features.numpy() >= 0) == (encoder.head == "relu")
    assert np.count_nonzero(features) > 0
    for scaled in ((pixels / 255).astype(np.float32), pixels / np.float64(255)):
        np.testing.assert_allclose(encoder(scaled), features, rtol=1e-4, atol=1e-6)
    # Rows do not depend on each other, and tf.function computes the same.
    np.testing.assert_allclose(encoder(pixels[1:2])[0], features[1], rtol=1e-4, atol=1e-6)
    traced = tf.function(encoder)
    np.testing.assert_allclose(traced(tf.constant(pixels)), features, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", EXAMPLES)
def test_images_of_another_rank_end_in_one_line(name):
    encoder = EXAMPLES[name]()
    for wrong in (images(40, 40, 3), images(1, 2, 40, 40, 3), images(40, 3)):
        for value in (wrong, tf.constant(wrong)):
            with pytest.raises(ConfigError, match="rank 4") as raised:
                encoder(value)
            assert "\n" not in str(raised.value)
            assert str(wrong.shape) in str(raised.value)
            # AutoGraph wraps errors in its own kind, with the text in it.
            with pytest.raises(Exception, match="rank 4"):
                tf.function(encoder)(value)
    # The encoder is not spoilt by that.
    assert encoder(images(1, 40, 40, 3)).shape[0] == 1


PISAC_SPACE = SearchSpace("pisac_sizes", ("conv_3x3",), num_nodes=2, stem="pisac")


@pytest.mark.parametrize(
    ("make", "least"),
    [
        # Mnih et al.: 36 -> 8 (8x8/4) -> 3 (4x4/2) -> 1 (3x3).
        (lambda: make_encoder("nature_cnn"), 36),
        # PI-SAC: 15 -> 7 (3x3/2) -> 5 -> 3 -> 1.
        (lambda: make_encoder("pisac_cnn", depths=[4] * 4), 15),
        (lambda: make_encoder("pisac_cnn", depths=[4]), 3),
        (lambda: make_encoder("minatar_cnn"), 3),
        (lambda: rldarts_tf.Supernet(PISAC_SPACE, depths=[4]), 3),
        (lambda: make_encoder("impala_cnn"), 1),
        (lambda: make_encoder("resnet_14"), 1),
    ],
)
def test_an_image_that_is_too_small_is_one_line_with_the_least_size(make, least):
    assert make()(images(1, least, least, 3)).shape[0] == 1
    for height, width in ((least - 1, 40), (40, least - 1)):
        if least == 1:
            continue
        encoder = make()
        line = (
            f"{type(encoder).__name__} is for images of at least {least} x {least} pixels, "
            f"got {height} x {width}"
        )
        with pytest.raises(ConfigError) as raised:
            encoder(images(1, height, width, 3))
        assert str(raised.value) == line and not encoder.built
        encoder.check_size((None, None, 3))


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_weight_is_listed_once_and_gets_a_gradient(name):
    encoder = EXAMPLES[name]()
    pixels = images(2, 40, 40, 3)
    encoder(pixels)
    randomize([w for w in encoder.weights if "temperature" not in w.name], 2)
    identities = [id(weight) for weight in encoder.weights]
    assert len(set(identities)) == len(identities)
    names = [weight.name for weight in encoder.weights]
    assert len(set(names)) == len(names)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(encoder(pixels) ** 2)
    for weight, gradient in zip(
        encoder.trainable_weights, tape.gradient(loss, encoder.trainable_weights)
    ):
        assert gradient is not None, weight.name
        assert np.any(gradient != 0), weight.name


def test_alpha_is_in_the_trainable_weights_exactly_once():
    supernet = rldarts_tf.Supernet(rldarts_tf.CLASSIC, [4, 4, 4])
    assert [id(w) for w in supernet.trainable_weights] == [
        id(node) for nodes in supernet.alpha.logits.values() for node in nodes
    ]
    supernet(images(1, 12, 12, 3))
    listed = [id(weight) for weight in supernet.trainable_weights]
    for nodes in supernet.alpha.logits.values():
        for node in nodes:
            assert listed.count(id(node)) == 1
    assert id(supernet.alpha.inverse_temperature) not in listed


def test_frozen_alpha_is_not_trained():
    supernet = rldarts_tf.Supernet(rldarts_tf.MICRO, [4], train_alpha=False)
    supernet(images(1, 12, 12, 3))
    alpha = {id(weight) for weight in supernet.alpha.weights}
    assert not alpha & {id(weight) for weight in supernet.trainable_weights}
    assert alpha <= {id(weight) for weight in supernet.weights}


def test_pseudo_code_of_the_paper_runs():
    def train(encoder):
        optimizer = tf.keras.optimizers.Adam(1e-3)
        pixels = images(4, 12, 12, 3)
        losses = []
        for _ in range(4):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((encoder(pixels, training=True) - 1.0) ** 2)
            gradients = tape.gradient(loss, encoder.trainable_weights)
            optimizer.apply_gradients(zip(gradients, encoder.trainable_weights))
            losses.append(float(loss))
        assert losses[-1] < losses[0]

    supernet = rldarts_tf.Supernet(rldarts_tf.CLASSIC, depths=[4, 4])
    uniform = supernet.discretize()
    train(supernet)
    for node in supernet.alpha.logits["normal"]:
        assert np.any(node.numpy() != 0)
    genotype = supernet.discretize()
    assert genotype != uniform
    train(rldarts_tf.DiscreteNetwork(genotype, depths=[6, 6]))


def test_discretize_takes_another_k():
    supernet = rldarts_tf.Supernet(rldarts_tf.MICRO, [4])
    assert supernet.discretize().top_k == 2
    assert [len(node) for node in supernet.discretize(top_k=1).cells["normal"]] == [1] * 4
    assert [len(node) for node in supernet.discretize(top_k=3).cells["normal"]] == [1, 2, 3, 3]


def test_training_flag_reaches_the_cells():
    for normalization, expected in ((None, False), ("layer", False), ("batch", True)):
        encoder = rldarts_tf.Supernet(MIXED, [4], normalization=normalization, features=8)
        assert encoder.uses_training is expected
        pixels = images(3, 9, 9, 3)
        encoder(pixels)
        same = np.array_equal(encoder(pixels, training=True), encoder(pixels, training=False))
        assert same is not expected


# --- Stacks -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "num_normal,num_reduction,size,expected",
    [
        # Every block halves, rounding up, once for R = 0 or 1 and R times above.
        (1, 0, (13, 8), (4, 2)),
        (2, 0, (12, 12), (3, 3)),
        (1, 1, (13, 8), (4, 2)),
        (0, 1, (12, 9), (3, 3)),
        (0, 2, (17, 8), (2, 1)),
        (1, 2, (16, 16), (1, 1)),
    ],
)
def test_stack_halves_the_images_block_by_block(num_normal, num_reduction, size, expected):
    space = SearchSpace(
        f"test_stack_{num_normal}_{num_reduction}",
        ["conv_3x3"],
        ["max_pool_3x3"],
        num_normal,
        num_reduction,
        num_nodes=2,
        top_k=1,
    )
    register_search_space(space)
    for encoder in (
        rldarts_tf.Supernet(space, [3, 5]),
        rldarts_tf.DiscreteNetwork(random_genotype(space), [3, 5]),
    ):
        maps = encoder.feature_maps(tf.zeros([2, *size, 3]), training=False)
        assert maps.shape == (2, *expected, 5)
        assert len(encoder.cells) == 2 * (num_normal + num_reduction)
        assert [cell.filters for cell in encoder.cells] == sorted(
            cell.filters for cell in encoder.cells
        )


# --- Baselines --------------------------------------------------------------------------------


def test_impala_cnn_has_the_published_number_of_parameters():
    encoder = rldarts_tf.ImpalaCNN()
    encoder(images(1, 64, 64, 3))
    assert encoder.count_params() == 622_144
    # With the policy (15 actions) and value heads: the network of Cobbe et al. 2020.
    assert encoder.count_params() + (256 * 15 + 15) + (256 + 1) == 626_256


def test_nature_cnn_has_the_published_number_of_parameters():
    encoder = rldarts_tf.NatureCNN()
    encoder(images(1, 84, 84, 4))
    assert encoder.count_params() == 1_684_128


def _named_weights(encoder) -> dict:
    return {re.sub(r"^.*?/|:0$", "", w.name): w.numpy() for w in encoder.weights}


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_impala_cnn_equals_its_formulas(kernel_size):
    encoder = rldarts_tf.ImpalaCNN([4, 6], features=10, kernel_size=kernel_size)
    pixels = images(2, 13, 10, 3)
    encoder(pixels)
    randomize(encoder.weights, 0)
    weights = _named_weights(encoder)

    def conv(x, block, index):
        name = f"block_{block}_conv_{index}"
        y = tf.nn.convolution(x, weights[f"{name}/kernel"], padding="SAME")
        return y + weights[f"{name}/bias"]

    assert weights["block_0_conv_0/kernel"].shape == (kernel_size, kernel_size, 3, 4)
    x = tf.constant(pixels.astype(np.float32) / 255)
    for block in range(2):
        x = conv(x, block, 0)
        x = tf.nn.pool(x, [3, 3], "MAX", strides=[2, 2], padding="SAME")
        x = x + conv(tf.maximum(conv(tf.maximum(x, 0), block, 1), 0), block, 2)
        x = x + conv(tf.maximum(conv(tf.maximum(x, 0), block, 3), 0), block, 4)
    x = tf.reshape(tf.maximum(x, 0), [2, -1])
    expected = tf.maximum(x @ weights["dense/kernel"] + weights["dense/bias"], 0).numpy()
    assert np.count_nonzero(expected) > 0
    np.testing.assert_allclose(encoder(pixels), expected, atol=1e-5 * expected.max())


def test_nature_cnn_equals_its_formulas():
    encoder = rldarts_tf.NatureCNN(features=10)
    pixels = images(2, 44, 40, 4)
    encoder(pixels)
    randomize(encoder.weights, 0)
    weights = _named_weights(encoder)
    x = tf.constant(pixels.astype(np.float32) / 255)
    for index, stride in enumerate((4, 2, 1)):
        y = tf.nn.convolution(x, weights[f"conv_{index}/kernel"], stride, "VALID")
        x = tf.maximum(y + weights[f"conv_{index}/bias"], 0)
    x = tf.reshape(x, [2, -1])
    expected = tf.maximum(x @ weights["dense/kernel"] + weights["dense/bias"], 0).numpy()
    assert np.count_nonzero(expected) > 0
    np.testing.assert_allclose(encoder(pixels), expected, atol=1e-5 * expected.max())


def test_pisac_cnn_equals_its_formulas():
    encoder = rldarts_tf.PiSacCNN([4, 6, 5], features=10, head="layer_norm")
    pixels = images(2, 17, 14, 9)
    encoder(pixels)
    randomize(encoder.weights, 0)
    for weight in encoder.weights:  # So that the maps may be negative, and some are cut off.
        if "tau" in weight.name:
            weight.assign(tf.fill(weight.shape, -0.5))
    weights = _named_weights(encoder)
    x = tf.constant(pixels.astype(np.float32) / 255)
    for index, stride in enumerate((2, 1, 1)):
        y = tf.nn.convolution(x, weights[f"conv_{index}/kernel"], stride, "VALID")
        y = y + weights[f"conv_{index}/bias"]
        # Singh & Krishnan 2020, equations 1 to 3.
        nu2 = tf.reduce_mean(y**2, axis=(1, 2), keepdims=True)
        y = weights[f"norm_{index}/gamma"] * y / tf.sqrt(nu2 + 1e-6) + weights[f"norm_{index}/beta"]
        x = tf.maximum(y, weights[f"norm_{index}/tau"])
    assert x.shape == (2, 4, 2, 5)
    assert tf.reduce_min(x) == -0.5, "a ReLU before the head would not show"
    y = tf.reshape(x, [2, -1]) @ weights["dense/kernel"] + weights["dense/bias"]
    mean, variance = tf.nn.moments(y, [1], keepdims=True)
    y = (y - mean) / tf.sqrt(variance + 1e-5)
    expected = y * weights["layer_norm/gamma"] + weights["layer_norm/beta"]
    np.testing.assert_allclose(encoder(pixels), expected, atol=1e-4)


def test_pisac_cnn_has_the_parameters_of_its_description():
    # Lee et al. 2020: four convolutions 3x3 of 32 filters, three frames of 64 x 64, 50 features.
    encoder = rldarts_tf.PiSacCNN(head="layer_norm")
    encoder(images(1, 64, 64, 9))
    convolutions = (9 * 9 * 32 + 32) + 3 * (9 * 32 * 32 + 32)
    assert encoder.count_params() == convolutions + 4 * 3 * 32 + (25 * 25 * 32 * 50 + 50) + 2 * 50


def test_minatar_cnn_equals_its_formula():
    # Young and Tian 2019: 16 filters 3x3 of stride 1, then 128 units.
    encoder = rldarts_tf.MinAtarCNN()
    planes = np.random.default_rng(0).random((3, 10, 10, 4)) < 0.3
    features = encoder(planes)
    weights = _named_weights(encoder)
    kernel, dense = weights["conv/kernel"], weights["dense/kernel"]
    windows = np.lib.stride_tricks.sliding_window_view(planes, (3, 3), axis=(1, 2))
    maps = np.maximum(np.einsum("bhwcij,ijck->bhwk", windows, kernel) + weights["conv/bias"], 0)
    expected = np.maximum(maps.reshape(3, -1) @ dense + weights["dense/bias"], 0)
    assert (kernel.shape, dense.shape) == ((3, 3, 4, 16), (8 * 8 * 16, 128))
    np.testing.assert_allclose(features, expected, atol=1e-5)


def test_resnet_equals_its_formula():
    # He et al. 2015, section 4.2, with shortcuts of option A; one block in each of two stages.
    encoder = rldarts_tf.ResNet([2, 3], num_layers=6, features=4)
    pixels = images(2, 9, 8, 3).astype(np.float32) / 255
    encoder(pixels)
    randomize(encoder.weights, 0)
    weights = _named_weights(encoder)

    def convolved(x, name, stride=1):
        y = tf.nn.conv2d(x, weights[f"{name}/kernel"], stride, "SAME")
        mean, variance = tf.nn.moments(y, [-1], keepdims=True)
        y = (y - mean) / tf.sqrt(variance + 1e-3)
        return y * weights[f"{name}/norm/gamma"] + weights[f"{name}/norm/beta"]

    x = tf.nn.relu(convolved(pixels, "stem"))
    x = tf.nn.relu(x + convolved(tf.nn.relu(convolved(x, "stage_0_0_0")), "stage_0_0_1"))
    y = convolved(tf.nn.relu(convolved(x, "stage_1_0_0", 2)), "stage_1_0_1")
    padded = np.zeros((2, 5, 4, 3), np.float32)
    padded[..., :2] = x[:, ::2, ::2]
    x = tf.reshape(tf.nn.relu(padded + y), [2, -1])
    expected = tf.nn.relu(x @ weights["dense/kernel"] + weights["dense/bias"])
    np.testing.assert_allclose(encoder(pixels), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_layers", [14, 20, 38, 74])
def test_resnets_have_the_layers_of_their_name(num_layers):
    encoder = rldarts_tf.ResNet(num_layers=num_layers)
    convolutions = 1 + sum(map(len, encoder._blocks))
    assert convolutions + 1 == num_layers
    made = make_encoder(f"resnet_{num_layers}", depths=[2])
    assert made.num_layers == num_layers and len(made._blocks) == len(encoder._blocks)


@pytest.mark.parametrize(
    ("rows", "stem_stride", "size"), [(64, None, 16), (62, None, 31), (64, 1, 32)]
)
def test_a_resnet_halves_large_images_first(rows, stem_stride, size):
    encoder = rldarts_tf.ResNet([2, 3], num_layers=6, stem_stride=stem_stride)
    x = tf.zeros([1, rows, 8, 3])
    assert encoder.feature_maps(x, training=False).shape[1] == size


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_layers": 21}, "num_layers must be even"),
        ({"num_layers": 6}, "num_layers must be an integer of at least 8"),
        ({"stem_stride": 3}, "stem_stride must be an integer from 1 to 2"),
    ],
)
def test_a_resnet_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        rldarts_tf.ResNet(**arguments)


def test_the_head_of_layer_norm_normalizes_what_relu_and_dense_give():
    encoder = rldarts_tf.ImpalaCNN([4], features=7, head="layer_norm")
    pixels = images(3, 12, 12, 3)
    encoder(pixels)
    randomize(encoder.weights, 0)
    weights = _named_weights(encoder)
    maps = encoder.feature_maps(tf.constant(pixels.astype(np.float32) / 255), training=False)
    y = tf.reshape(tf.maximum(maps, 0), [3, -1]) @ weights["dense/kernel"] + weights["dense/bias"]
    mean, variance = tf.nn.moments(y, [1], keepdims=True)
    y = (y - mean) / tf.sqrt(variance + 1e-5)
    expected = y * weights["layer_norm/gamma"] + weights["layer_norm/beta"]
    assert (expected.numpy() < 0).any()
    np.testing.assert_allclose(encoder(pixels), expected, atol=1e-4)


def test_the_head_of_pool_sees_what_is_in_an_image_and_not_where():
    space = rldarts_tf.SearchSpace("pooled", ("conv_3x3",), num_nodes=1, stem="none")
    encoder = rldarts_tf.Supernet(space, [4], features=7, head="pool")
    pixels = np.zeros((2, 12, 12, 3), np.uint8)
    pixels[0, 3:6, 2:5] = pixels[1, 6:9, 7:10] = images(1, 3, 3, 3)[0]
    features = encoder(pixels)
    randomize(encoder.weights, 0)
    features = encoder(pixels)
    np.testing.assert_allclose(features[0], features[1], rtol=1e-4, atol=1e-6)
    weights = _named_weights(encoder)
    # By hand: the stem "none" leaves the cell alone on images of full size.
    [cell] = encoder.cells
    maps = cell(tf.constant(pixels.astype(np.float32) / 255), encoder.op_weights()["normal"])
    pooled = np.maximum(maps, 0).mean((1, 2))
    expected = np.maximum(pooled @ weights["dense/kernel"] + weights["dense/bias"], 0)
    assert (expected > 0).any() and maps.shape == (2, 12, 12, 4)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)


def test_extracted_network_has_the_head_of_its_supernet():
    supernet = rldarts_tf.Supernet("micro", [4], features=6, head="layer_norm")
    pixels = images(2, 8, 8, 3)
    supernet(pixels)
    randomize(supernet.weights, 0)
    network = supernet.extract()
    network(pixels)
    assert network.head == "layer_norm"
    heads = [[w for layer in e._head for w in layer.weights] for e in (network, supernet)]
    assert len(heads[0]) == 4
    for mine, theirs in zip(*heads):
        np.testing.assert_array_equal(mine, theirs)


# --- Bad arguments, and encoders by name ------------------------------------------------------

BAD_DEPTHS = [[], [0], [16, -1], [True], ["16"], [16.0], [None], "16", b"16", 16, None, {16}]


def _one_line(raised) -> None:
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("depths", BAD_DEPTHS, ids=repr)
def test_bad_depths_are_named(depths):
    for make in (
        rldarts_tf.ImpalaCNN,
        rldarts_tf.PiSacCNN,
        lambda d: rldarts_tf.Supernet(rldarts_tf.MICRO, d),
        lambda d: rldarts_tf.DiscreteNetwork(random_genotype(rldarts_tf.MICRO), d),
        lambda d: make_encoder("supernet", depths=d),
    ):
        with pytest.raises(ConfigError, match="depths") as raised:
            make(depths)
        _one_line(raised)


@pytest.mark.parametrize(
    "arguments,name",
    [
        ({"output_mode": "median"}, "output_mode"),
        ({"output_mode": ["concat"]}, "output_mode"),
        ({"normalization": "group"}, "normalization"),
        ({"normalization": True}, "normalization"),
        ({"features": 0}, "features"),
        ({"features": -1}, "features"),
        ({"features": True}, "features"),
        ({"features": "256"}, "features"),
        ({"features": 2.0}, "features"),
        ({"inverse_temperature": 0}, "inverse_temperature"),
        ({"inverse_temperature": -5.0}, "inverse_temperature"),
        ({"inverse_temperature": float("nan")}, "inverse_temperature"),
        ({"inverse_temperature": float("inf")}, "inverse_temperature"),
        ({"inverse_temperature": "5"}, "inverse_temperature"),
        ({"inverse_temperature": None}, "inverse_temperature"),
        ({"search_space": "macro"}, "search space 'macro'"),
        ({"search_space": 3}, "search space 3"),
        ({"search_space": SearchSpace("test_unknown_op", ["no_such_op"])}, "no_such_op"),
    ],
)
def test_bad_arguments_of_a_supernet_are_named(arguments, name):
    for make in (rldarts_tf.Supernet, make_encoder):
        with pytest.raises(ConfigError, match=name) as raised:
            make(**{"search_space": "micro", "depths": [4], **arguments})
        _one_line(raised)


def test_bad_arguments_of_the_others_are_named(tmp_path):
    genotype = random_genotype(rldarts_tf.MICRO)
    (tmp_path / "broken.json").write_text("{")
    for make, error, name in (
        (lambda: rldarts_tf.ImpalaCNN(features=0), ConfigError, "features"),
        (
            lambda: rldarts_tf.ImpalaCNN(head="tanh"),
            ConfigError,
            "head must be one of .*layer_norm",
        ),
        (lambda: rldarts_tf.PiSacCNN([]), ConfigError, "depths"),
        (lambda: rldarts_tf.NatureCNN(features=1.5), ConfigError, "features"),
        (
            lambda: rldarts_tf.DiscreteNetwork(genotype, [4], normalization="x"),
            ConfigError,
            "normalization",
        ),
        (lambda: rldarts_tf.DiscreteNetwork(3, [4]), GenotypeError, "genotype"),
        (lambda: rldarts_tf.DiscreteNetwork({}, [4]), GenotypeError, "format_version"),
        (
            lambda: rldarts_tf.DiscreteNetwork(tmp_path / "none.json", [4]),
            GenotypeError,
            "none.json: cannot be read",
        ),
        (
            lambda: make_encoder("discrete", genotype=str(tmp_path / "broken.json")),
            GenotypeError,
            "broken.json: genotype: not JSON",
        ),
        (lambda: make_encoder("impala_cnn", kernel_size=0), ConfigError, "kernel_size .*got 0"),
        (lambda: rldarts_tf.ImpalaCNN(kernel_size=5.0), ConfigError, "kernel_size .*got 5.0"),
        (lambda: make_encoder("resnet_15"), ConfigError, "encoder must be one of .*impala_cnn"),
        (lambda: make_encoder("discrete"), ConfigError, "genotype is required"),
        (lambda: make_encoder("impala_cnn", genotype=genotype), ConfigError, "genotype"),
    ):
        with pytest.raises(error, match=name) as raised:
            make()
        _one_line(raised)


def test_make_encoder_makes_what_it_is_asked_for(tmp_path):
    genotype = random_genotype(rldarts_tf.MICRO, random.Random(3))
    genotype.save(tmp_path / "genotype.json")
    kinds = {}
    for kind in ENCODERS:
        for source in [genotype, str(tmp_path / "genotype.json")] if kind == "discrete" else [None]:
            encoder = make_encoder(
                kind,
                search_space="micro",
                genotype=source,
                depths=[3, 5],
                inverse_temperature=10.0,
                features=7,
            )
            kinds[kind] = type(encoder).__name__
            assert encoder(images(1, 40, 40, 3)).shape == (1, 7)
            if kind not in ("nature_cnn", "minatar_cnn"):
                assert tuple(encoder.depths) == (3, 5)
            if kind == "discrete":
                assert encoder.genotype == genotype
            if kind == "supernet":
                assert encoder.space == rldarts_tf.MICRO
                assert float(encoder.alpha.inverse_temperature) == 10.0
    assert kinds == {
        "supernet": "Supernet",
        "discrete": "DiscreteNetwork",
        "impala_cnn": "ImpalaCNN",
        "nature_cnn": "NatureCNN",
        "pisac_cnn": "PiSacCNN",
        "minatar_cnn": "MinAtarCNN",
        **{f"resnet_{num_layers}": "ResNet" for num_layers in (14, 20, 38, 74)},
    }


# --- What images are --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint16, np.int8])
def test_integers_that_may_be_anything_are_not_taken_for_pixels(dtype):
    planes = np.zeros((2, 8, 8, 3), dtype)
    with pytest.raises(ConfigError, match=r"^images must be uint8, bool or float, got u?int\d+: "):
        EXAMPLES["micro"]()(planes)


def test_boolean_planes_are_zeros_and_ones():
    planes = images(2, 8, 8, 3) > 127
    encoder = EXAMPLES["micro"]()
    features = encoder(planes.astype(np.float32))
    np.testing.assert_array_equal(encoder(planes), features)
    assert np.abs(features).max() > 0


def test_check_numerics_finds_nan_in_a_traced_supernet():
    encoder = rldarts_tf.Supernet(rldarts_tf.MICRO, [2], features=4)
    x = np.zeros((1, 8, 8, 3), np.float32)
    tf.debugging.enable_check_numerics()
    try:
        features = tf.function(encoder)(x)
        assert features.shape == (1, 4)
        with pytest.raises(tf.errors.InvalidArgumentError, match="NaN"):
            tf.function(encoder)(x + np.nan)
    finally:
        tf.debugging.disable_check_numerics()


@pytest.mark.parametrize(("name", "batch"), [("impala_cnn", 0), ("classic", 0), ("discrete", None)])
def test_no_images_have_no_features_and_move_no_weight(name, batch):
    encoder = EXAMPLES[name]()
    encoder(images(1, 8, 8, 3))

    def gradients(x):
        with tf.GradientTape() as tape:
            features = encoder(x)
            loss = tf.reduce_sum(features**2)
        return features, tape.gradient(loss, encoder.trainable_weights)

    spec = tf.TensorSpec([batch, 8, 8, 3], tf.uint8)
    traced = tf.function(gradients, input_signature=[spec], autograph=False)
    features, found = (gradients if batch == 0 else traced)(tf.zeros([0, 8, 8, 3], tf.uint8))
    assert features.shape == (0, encoder.features)
    assert all(not np.any(gradient) for gradient in found)
    if batch is None:
        x = images(2, 8, 8, 3)
        np.testing.assert_allclose(traced(x)[0], encoder(x), rtol=1e-4, atol=1e-5)


LINEAR = SearchSpace("linear", ("conv_3x3", "tanh", "max_pool_3x3"), num_nodes=2)
RELU = SearchSpace("relu", ("dil_conv_3x3_relu", "tanh", "relu"), num_nodes=2)


@pytest.mark.parametrize(
    "make",
    [
        lambda: rldarts_tf.Supernet(LINEAR, [2], features=4),
        lambda: rldarts_tf.Supernet(RELU, [2], features=4),
    ],
    ids=["linear", "relu"],
)
def test_forward_mode_agrees_with_the_gradients(make, float64):
    encoder = make()
    x = tf.random.normal([2, 8, 8, 3], dtype=tf.float64)
    u = encoder(x)
    weights = encoder.trainable_weights
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(u * encoder(x))
    of_x, *of_weights = tape.gradient(loss, [x, *weights])
    for primals, gradients in (([x], [of_x]), (weights, of_weights)):
        tangents = [tf.random.normal(v.shape, dtype=v.dtype) for v in primals]
        with tf.autodiff.ForwardAccumulator(primals, tangents) as forward:
            features = encoder(x)
        change = tf.reduce_sum(u * forward.jvp(features))
        expected = sum(
            float(np.sum(tf.convert_to_tensor(g) * v)) for g, v in zip(gradients, tangents)
        )
        np.testing.assert_allclose(change, expected, rtol=1e-4)
