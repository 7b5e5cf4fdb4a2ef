"""Cells against the plain per-edge, per-op formulas: outputs and every gradient."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import randomize, reference_cell, reference_op, softmax

import rldarts_tf
from rldarts_tf.cells import Cell
from rldarts_tf.errors import ConfigError
from rldarts_tf.genotype import dense_topology
from rldarts_tf.ops import Convolution, make_op, register_op, registered_ops
from rldarts_tf.search_space import OUTPUT_MODES

# Without those that differ from others in a size alone.
BUILT_IN_OPS = tuple(
    op
    for op in registered_ops()
    if not re.match(r"test_|inv_res_5x5|inv_res_3x3_e5|conv_5x5_norm", op)
)
FLOAT64 = 1e-6
"""Tolerance relative to a tensor's largest entry. Keras' gelu holds a constant in float32."""
FLOAT32 = 1e-5


@tf.keras.utils.register_keras_serializable(package="tests")
class ScaledShift(tf.keras.layers.Layer):
    """A user's op: a learned scale and shift per channel after subsampling, then sine."""

    def __init__(self, filters: int, stride: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters, self.stride = filters, stride

    def build(self, input_shape: Any) -> None:
        self.scale = self.add_weight(name="scale", shape=(self.filters,), initializer="ones")
        self.shift = self.add_weight(name="shift", shape=(self.filters,), initializer="ones")
        super().build(input_shape)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return tf.sin(x[:, :: self.stride, :: self.stride] * self.scale + self.shift)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "filters": self.filters, "stride": self.stride}


@tf.keras.utils.register_keras_serializable(package="tests")
class TripledInTraining(tf.keras.layers.Layer):
    """A user's op that differs in training, as dropout does, but predictably."""

    def __init__(self, stride: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stride = stride

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        x = x[:, :: self.stride, :: self.stride]
        return 3.0 * x if training else x

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "stride": self.stride}


register_op("test_scaled_shift", lambda filters, stride: ScaledShift(filters, stride))
register_op("test_tripled_in_training", lambda filters, stride: TripledInTraining(stride))
USER_OPS = {
    "test_scaled_shift": lambda x, variables, stride, training: tf.sin(
        x[:, ::stride, ::stride] * variables[0] + variables[1]
    ),
    "test_tripled_in_training": lambda x, variables, stride, training: (
        x[:, ::stride, ::stride] * (3.0 if training else 1.0)
    ),
}


def assert_close(actual: Any, expected: Any, tolerance: float, what: str) -> None:
    """Differences are small beside the largest entry of the expected tensor."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, what
    assert np.all(np.isfinite(expected)), what
    scale = np.abs(expected).max()
    error = np.abs(actual - expected).max()
    assert error <= tolerance * scale + 1e-12, f"{what}: {error} beside {scale}"


@contextlib.contextmanager
def _holding(variables: Sequence[tf.Variable], values: Sequence[Any]) -> Iterator[None]:
    before = [variable.numpy() for variable in variables]
    for variable, value in zip(variables, values):
        variable.assign(value)
    yield
    for variable, value in zip(variables, before):
        variable.assign(value)


def check_against_reference(
    ops: Sequence[str],
    num_nodes: int = 2,
    image: tuple[int, int, int, int] = (2, 5, 4, 3),
    filters: int = 3,
    stride: int = 1,
    output_mode: str = "concat",
    normalization: str | None = None,
    training: bool = False,
    alpha_scale: float = 1.0,
    beta: float = 5.0,
    seed: int = 0,
    recompute: bool = False,
    unit_ops: bool = False,
    graph: bool = False,
    tolerance: float = FLOAT64,
) -> None:
    """Builds a supernet cell with random weights and α and compares all there is to compare."""
    dtype = tf.keras.backend.floatx()
    rng = np.random.default_rng(seed)
    columns = (*ops, "none")
    cell = Cell(
        dense_topology(columns, num_nodes),
        filters,
        stride,
        output_mode,
        normalization,
        op_columns=columns,
        recompute=recompute,
        unit_ops=unit_ops,
    )
    x = tf.constant(rng.normal(size=image), dtype)
    edges = num_nodes * (num_nodes + 1) // 2
    alpha = tf.constant(alpha_scale * rng.normal(size=(edges, len(columns))), dtype)
    cell(x, tf.zeros([edges, len(columns)], dtype))
    randomize(cell.weights, seed)

    keys = [(i, j, op) for j in range(1, num_nodes + 1) for i in range(j) for op in columns[:-1]]
    theta = {key: [tf.constant(value) for value in cell.edge_variables(*key)] for key in keys}
    adapter = None
    if image[-1] != filters:
        adapter = [tf.constant(w) for w in cell._adapter.get_weights()]
    output_variables = []
    if output_mode == "concat":
        output_variables = [tf.constant(w) for w in cell._output_conv.get_weights()]
    elif output_mode == "weighted_sum":
        output_variables = [tf.constant(cell.output_weights.numpy())]

    # The plain formulas.
    with tf.GradientTape() as tape:
        tape.watch([x, alpha, theta, adapter or [], output_variables])
        expected = reference_cell(
            x,
            theta,
            softmax(beta * alpha),
            columns,
            num_nodes,
            stride,
            output_mode,
            adapter,
            output_variables,
            normalization,
            training,
            USER_OPS,
            unit_ops,
        )
        cotangent = tf.constant(rng.normal(size=expected.shape), dtype)
        loss = tf.reduce_sum(expected * cotangent)
    expected_gradients = tape.gradient(
        loss, [x, alpha, theta, adapter or [], output_variables], unconnected_gradients="zero"
    )
    expected_x, expected_alpha, expected_theta, expected_adapter, expected_output = (
        expected_gradients
    )

    # The package.
    variables = cell.trainable_weights

    def value_and_gradients():
        with tf.GradientTape() as tape:
            tape.watch([x, alpha])
            y = cell(x, tf.nn.softmax(beta * alpha), training=training)
            loss = tf.reduce_sum(y * cotangent)
        return y, tape.gradient(loss, [x, alpha, variables], unconnected_gradients="zero")

    run = tf.function(value_and_gradients, autograph=False) if graph else value_and_gradients
    actual, (actual_x, actual_alpha, actual_theta) = run()

    assert_close(actual, expected, tolerance, "output")
    assert_close(actual_x, expected_x, tolerance, "gradient of the input")
    # α as one tensor: its gradients are differences of sums, so that small ones round coarsely.
    assert_close(actual_alpha, expected_alpha, tolerance, "gradient of alpha")
    # Written into the variables, gradients are read edge by edge as weights are.
    with _holding(variables, actual_theta):
        for key in keys:
            trainable = _number_of_trainable(theta[key], normalization)
            pairs = list(zip(cell.edge_variables(*key), expected_theta[key]))
            assert len(pairs) == len(theta[key])
            for a, b in pairs[:trainable]:
                assert_close(a, b, tolerance, f"gradient of edge {key}")
        if adapter is not None:
            for a, b in zip(cell._adapter.get_weights(), expected_adapter):
                assert_close(a, b, tolerance, "gradient of the adapter")
        if output_mode == "concat":
            for a, b in zip(cell._output_conv.get_weights(), expected_output):
                assert_close(a, b, tolerance, "gradient of the output convolution")
        elif output_mode == "weighted_sum":
            assert_close(
                cell.output_weights.numpy(), expected_output[0], tolerance, "output weights"
            )


def _number_of_trainable(values: Sequence[Any], normalization: str | None) -> int:
    """How many of an edge's weights are trained: running means and variances come last.

    A convolution with one such pair has five or six weights, inverted residuals ten or fifteen.
    """
    return len(values) - (2 * (len(values) // 5) if normalization == "batch" else 0)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("op", BUILT_IN_OPS)
def test_cell_of_each_op_equals_the_formulas(float64, op, stride):
    check_against_reference([op, "skip_connect"][: 1 + (op != "skip_connect")], stride=stride)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("output_mode", OUTPUT_MODES)
def test_cell_of_all_ops_equals_the_formulas(float64, output_mode, stride):
    check_against_reference(
        [*BUILT_IN_OPS, *USER_OPS], num_nodes=2, stride=stride, output_mode=output_mode
    )


@pytest.mark.parametrize("num_nodes", range(1, 7))
def test_cell_of_every_number_of_nodes_equals_the_formulas(float64, num_nodes):
    check_against_reference(
        rldarts_tf.CLASSIC.ops("normal")[:-1], num_nodes, image=(1, 6, 5, 3), stride=2
    )


@settings(max_examples=25)
@given(
    ops=st.lists(st.sampled_from([*BUILT_IN_OPS, *USER_OPS]), min_size=1, max_size=5, unique=True),
    num_nodes=st.integers(1, 6),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    batch_and_channels=st.tuples(st.integers(1, 2), st.integers(1, 4)),
    filters=st.integers(1, 4),
    stride=st.sampled_from([1, 2]),
    output_mode=st.sampled_from(OUTPUT_MODES),
    normalization=st.sampled_from([None, None, "layer", "batch"]),
    training=st.booleans(),
    # From a uniform mixture to a softmax whose small entries underflow to exact zeros.
    alpha_scale=st.sampled_from([0.0, 0.1, 1.0, 300.0]),
    beta=st.sampled_from([1.0, 5.0, 10.0]),
    seed=st.integers(0, 2**31),
)
def test_cell_equals_the_formulas(size, batch_and_channels, **numbers):
    tf.keras.backend.set_floatx("float64")
    try:
        batch, channels = batch_and_channels
        check_against_reference(image=(batch, *size, channels), **numbers)
    finally:
        tf.keras.backend.set_floatx("float32")


MIXED = ["conv_3x3", "conv_5x5", "dil_conv_3x3", "relu", "gelu", "max_pool_3x3", "skip_connect"]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    "ops,recompute",
    [
        # Linear convolutions and ops without weights alone: differentiated by node.
        (MIXED, False),
        ([*MIXED, "conv_3x3_relu"], False),
        ([*MIXED, "conv_3x3_relu", "dil_conv_5x5_relu", "sep_conv_3x3", "test_scaled_shift"], True),
    ],
    ids=["linear", "not linear", "recompute"],
)
def test_cell_in_a_traced_function_equals_the_formulas(float64, ops, recompute, stride):
    check_against_reference(
        ops, num_nodes=3, image=(2, 7, 6, 3), stride=stride, recompute=recompute, graph=True
    )


@pytest.mark.parametrize("output_mode", OUTPUT_MODES)
@pytest.mark.parametrize("normalization", [None, "layer"])
def test_recomputing_cell_equals_the_formulas(float64, output_mode, normalization):
    ops = ["conv_3x3_relu", "dil_conv_3x3", "sep_conv_3x3", "tanh", "avg_pool_3x3"]
    check_against_reference(
        ops, output_mode=output_mode, normalization=normalization, recompute=True
    )


def test_cell_that_depends_on_training_does_not_recompute():
    topology = dense_topology(("conv_3x3",), 2)
    with pytest.raises(rldarts_tf.ConfigError, match="recompute: not with batch normalization"):
        Cell(topology, 3, normalization="batch", recompute=True)


@pytest.mark.parametrize("cell_type,stride", [("reduction", 2), ("normal", 1)])
def test_classic_cells_equal_the_formulas_in_float32(cell_type, stride):
    check_against_reference(
        rldarts_tf.CLASSIC.ops(cell_type)[:-1],
        num_nodes=4,
        image=(2, 9, 8, 6),
        filters=4,
        stride=stride,
        tolerance=FLOAT32,
    )


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("normalization", ["layer", "batch"])
@pytest.mark.parametrize("stride", [1, 2])
def test_normalized_cell_equals_the_formulas(float64, normalization, training, stride):
    ops = ["conv_3x3", "conv_5x5_relu", "dil_conv_3x3_relu", "sep_conv_3x3_relu", "tanh"]
    check_against_reference(
        ops, num_nodes=3, stride=stride, normalization=normalization, training=training
    )


@pytest.mark.parametrize("op", ["conv_3x3_relu", "dil_conv_3x3", "sep_conv_3x3"])
def test_batch_normalization_keeps_running_statistics_of_each_edge(float64, op):
    columns = (op, "none")
    cell = Cell(dense_topology(columns, 2), 3, normalization="batch", op_columns=columns)
    x = tf.random.stateless_normal([4, 6, 6, 3], seed=[1, 2], dtype=tf.float64)
    p = tf.fill([3, 2], tf.constant(0.5, tf.float64))
    cell(x, p)
    randomize(cell.weights, 3)
    before = cell.edge_variables(0, 2, op)
    cell(x, p, training=True)
    after = cell.edge_variables(0, 2, op)

    *head, kernel, _, _, mean, variance = before
    if head:
        x = tf.nn.depthwise_conv2d(x, head[0], [1, 1, 1, 1], "SAME")
    maps = tf.nn.convolution(x, kernel, padding="SAME", dilations=2 if "dil" in op else 1).numpy()
    momentum = 0.99
    expected_mean = momentum * mean + (1 - momentum) * maps.mean(axis=(0, 1, 2))
    expected_variance = momentum * variance + (1 - momentum) * maps.var(axis=(0, 1, 2))
    np.testing.assert_allclose(after[-2], expected_mean, rtol=1e-9)
    np.testing.assert_allclose(after[-1], expected_variance, rtol=1e-9)


def test_op_of_a_user_gets_the_training_flag():
    cell = Cell((((0, "test_tripled_in_training"),),), filters=2, output_mode="last")
    x = tf.random.stateless_normal([1, 3, 3, 2], seed=[0, 1])
    np.testing.assert_array_equal(cell(x), x)
    np.testing.assert_array_equal(cell(x, training=False), x)
    np.testing.assert_allclose(cell(x, training=True), 3 * x, rtol=1e-6)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("op", BUILT_IN_OPS)
def test_op_on_its_own_equals_the_formula(float64, op, stride):
    layer = make_op(op, filters=3, stride=stride)
    x = tf.random.stateless_normal([2, 7, 6, 3], seed=[0, 1], dtype=tf.float64)
    layer(x)
    randomize(layer.weights, 1)
    assert_close(layer(x), reference_op(op, x, layer.get_weights(), stride), FLOAT64, op)


@pytest.mark.parametrize("size", itertools.product([1, 2, 5, 8], [1, 2, 3, 8]))
def test_strided_dilated_convolution_is_the_dilated_one_subsampled(float64, size):
    layer = make_op("dil_conv_5x5", filters=2, stride=2)
    x = tf.random.stateless_normal([1, *size, 3], seed=[0, 1], dtype=tf.float64)
    layer(x)
    randomize(layer.weights, 1)
    kernel, bias = layer.get_weights()
    full = tf.nn.convolution(x, kernel, padding="SAME", dilations=2) + bias
    assert_close(layer(x), full[:, ::2, ::2], FLOAT64, str(size))


@pytest.mark.parametrize("stride", [1, 2])
def test_cell_on_images_of_unknown_size_computes_the_same(stride):
    space = rldarts_tf.CLASSIC
    topology = rldarts_tf.random_genotype(space).cells["normal" if stride == 1 else "reduction"]
    cell = Cell(topology, 3, stride=stride)
    traced = tf.function(cell, input_signature=[tf.TensorSpec([None, None, None, 3])])
    for size in ((4, 6), (5, 7), (6, 5)):
        x = tf.random.stateless_normal([2, *size, 3], seed=[0, 1])
        np.testing.assert_allclose(traced(x), cell(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_discrete_cell_is_a_supernet_cell_whose_kept_weights_are_one(float64, stride):
    genotype = rldarts_tf.random_genotype(rldarts_tf.CLASSIC)
    cell_type = "reduction" if stride == 2 else "normal"
    columns = rldarts_tf.CLASSIC.ops(cell_type)
    topology = genotype.cells[cell_type]
    cell = Cell(topology, 3, stride=stride)
    x = tf.random.stateless_normal([2, 7, 7, 3], seed=[0, 1], dtype=tf.float64)
    cell(x)
    randomize(cell.weights, 2)
    kept = {(i, j, op) for j, node in enumerate(topology, start=1) for i, op in node}
    edges = [(i, j) for j in range(1, 5) for i in range(j)]
    weights = np.zeros((len(edges), len(columns)))
    variables = {}
    for i, j, op in itertools.product(range(4), range(1, 5), columns):
        if (i, j, op) in kept:
            weights[edges.index((i, j)), columns.index(op)] = 1.0
            variables[i, j, op] = cell.edge_variables(i, j, op)
        elif i < j:
            variables[i, j, op] = _unused(op)
    expected = reference_cell(
        x, variables, weights, columns, 4, stride, output_variables=cell._output_conv.get_weights()
    )
    assert_close(cell(x), expected, FLOAT64, "output")


def _unused(op: str) -> list[Any]:
    """Weights of an op whose result is multiplied by zero."""
    layer = make_op(op, 3) if op != "none" else None
    if not isinstance(layer, Convolution):
        return []
    return [np.ones((layer.kernel_size, layer.kernel_size, 3, 3)), np.ones(3)]


def test_weights_of_an_edge_can_be_written_and_read_alone():
    columns = ("conv_3x3", "sep_conv_3x3", "skip_connect", "none")
    cell = Cell(dense_topology(columns, 3), 2, op_columns=columns)
    cell(tf.zeros([1, 4, 4, 2]), tf.zeros([6, 4]))
    randomize(cell.weights, 0)
    keys = [(i, j, op) for j in range(1, 4) for i in range(j) for op in columns[:-1]]
    for key in keys:
        before = {other: cell.edge_variables(*other) for other in keys}
        new = [value + 1 for value in before[key]]
        cell.set_edge_variables(*key, new)
        for other in keys:
            expected = new if other == key else before[other]
            actual = cell.edge_variables(*other)
            assert len(actual) == len(expected)
            for a, b in zip(actual, expected):
                np.testing.assert_array_equal(a, b)
    assert cell.edge_variables(0, 1, "skip_connect") == []


def test_initial_kernels_of_an_edge_do_not_depend_on_the_width_of_its_bank():
    columns = ("conv_3x3", "none")
    cell = Cell(dense_topology(columns, 5), 8, op_columns=columns)
    cell(tf.zeros([1, 4, 4, 8]), tf.zeros([15, 2]))
    limit = np.sqrt(6 / (9 * (8 + 8)))  # Glorot and Bengio 2010, equation 16
    for j in range(1, 6):
        kernel, bias = cell.edge_variables(0, j, "conv_3x3")
        assert 0.95 * limit < np.abs(kernel).max() <= limit
        np.testing.assert_allclose(kernel.std(), limit / np.sqrt(3), rtol=0.1)
        np.testing.assert_array_equal(bias, np.zeros(8))


def test_bad_arguments_of_a_cell_are_named():
    topology = (((0, "relu"),),)
    for arguments, name in (
        ({"output_mode": "median"}, "output_mode"),
        ({"filters": 0}, "filters"),
        ({"stride": 3}, "stride"),
        ({"normalization": "group"}, "normalization"),
        ({"topology": (((0, "no_such_op"),),)}, "no_such_op"),
    ):
        with pytest.raises(ConfigError, match=name) as raised:
            Cell(**{"topology": topology, "filters": 2, **arguments})
        assert "\n" not in str(raised.value)
    with pytest.raises(ConfigError, match="no_such_op"):
        make_op("no_such_op", 4)
    with pytest.raises(ConfigError, match="relu"):
        register_op("relu", lambda filters, stride: tf.keras.layers.ReLU())
    with pytest.raises(ConfigError, match="none"):
        register_op("none", lambda filters, stride: tf.keras.layers.ReLU())
    with pytest.raises(KeyError):
        Cell(topology, filters=2).edge_variables(0, 1, "tanh")


@pytest.mark.parametrize(
    ("ops", "options"),
    [
        (("conv_3x3", "relu", "tanh"), {"graph": True}),
        (("conv_3x3_relu", "dil_conv_3x3_relu", "skip_connect"), {}),
        (("conv_3x3", "max_pool_3x3", "test_scaled_shift"), {"stride": 2, "recompute": True}),
    ],
)
def test_ops_of_unit_size_equal_the_formulas(float64, ops, options):
    check_against_reference(ops, unit_ops=True, image=(2, 5, 4, 3), **options)


def test_an_error_of_a_users_op_names_the_op():
    register_op("test_wrong_shape", lambda filters, stride: tf.keras.layers.Reshape((7,)))
    register_op("test_no_layer", lambda filters, stride: 1 / 0)
    with pytest.raises(ConfigError, match=r"op 'test_no_layer': ZeroDivisionError"):
        Cell((((0, "test_no_layer"),),), filters=2)
    with pytest.raises(Exception, match=r"op 'test_wrong_shape': "):
        Cell((((0, "test_wrong_shape"),),), filters=2)(tf.zeros((1, 4, 4, 2)))
