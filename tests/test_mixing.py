"""Mixed ops without weights against plain numpy formulas: values and every gradient."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rldarts_tf.kernels.mixing import combine, mix

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805
TOLERANCE = 1e-9


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _exp(x):
    """Of the negative values, which are all that the linear units with an exponential need."""
    return np.exp(np.minimum(x, 0.0))


# name: (f, f'). Not gelu, whose constant Keras holds in float32.
FORMULAS = {
    "identity": (lambda x: x, np.ones_like),
    "relu": (lambda x: np.maximum(x, 0.0), lambda x: (x > 0) * 1.0),
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "sigmoid": (_sigmoid, lambda x: _sigmoid(x) * (1 - _sigmoid(x))),
    "swish": (
        lambda x: x * _sigmoid(x),
        lambda x: _sigmoid(x) + x * _sigmoid(x) * (1 - _sigmoid(x)),
    ),
    "elu": (lambda x: np.where(x > 0, x, _exp(x) - 1), lambda x: np.where(x > 0, 1.0, _exp(x))),
    "selu": (
        lambda x: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * (_exp(x) - 1)),
        lambda x: SELU_SCALE * np.where(x > 0, 1.0, SELU_ALPHA * _exp(x)),
    ),
}
FUNCTIONS = st.lists(
    st.lists(st.sampled_from([*FORMULAS]), min_size=1, max_size=4).map(tuple),
    min_size=1,
    max_size=3,
).map(tuple)
SHAPES = st.tuples(st.integers(1, 2), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
SEEDS = st.integers(0, 2**31)


def _close(actual: tf.Tensor, expected: np.ndarray) -> None:
    assert actual.shape == expected.shape
    error = np.abs(actual.numpy() - expected).max()
    assert error <= TOLERANCE * (1 + np.abs(expected).max())


def _check_mix(
    functions: Sequence[Sequence[str]], shape: tuple[int, ...], targets: int, seed: int, graph: bool
) -> None:
    rng = np.random.default_rng(seed)
    bases = [rng.normal(size=shape) for _ in functions]
    pairs = [(b, name) for b, names in enumerate(functions) for name in names]
    p = rng.uniform(size=(len(pairs), targets))
    cotangents = rng.normal(size=(targets, *shape))
    expected = np.zeros((targets, *shape))
    expected_p = np.zeros(p.shape)
    expected_bases = [np.zeros(shape) for _ in bases]
    for row, (b, name) in enumerate(pairs):
        f, slope = FORMULAS[name]
        for t in range(targets):
            expected[t] += p[row, t] * f(bases[b])
            expected_p[row, t] = np.sum(cotangents[t] * f(bases[b]))
            expected_bases[b] += p[row, t] * cotangents[t] * slope(bases[b])

    def run(bases: list[tf.Tensor], p: tf.Tensor, cotangents: tf.Tensor):
        with tf.GradientTape() as tape:
            tape.watch([bases, p])
            results = mix(bases, functions, p)
            loss = tf.reduce_sum(tf.stack(results) * cotangents)
        return results, tape.gradient(loss, [bases, p])

    arguments = tf.nest.map_structure(tf.constant, (bases, p, cotangents))
    results, (of_bases, of_p) = (tf.function(run, autograph=False) if graph else run)(*arguments)
    assert len(results) == targets
    _close(tf.stack(results), expected)
    _close(of_p, expected_p)
    for actual, gradient in zip(of_bases, expected_bases):
        _close(actual, gradient)


def _check_combine(
    functions: Sequence[Sequence[str]],
    shape: tuple[int, ...],
    num_addends: int,
    seed: int,
    graph: bool,
) -> None:
    rng = np.random.default_rng(seed)
    bases = [rng.normal(size=shape) for _ in functions]
    addends = [rng.normal(size=shape) for _ in range(num_addends)]
    pairs = [(b, name) for b, names in enumerate(functions) for name in names]
    p = rng.uniform(size=len(pairs))
    cotangent = rng.normal(size=shape)
    expected = sum(addends, np.zeros(shape))
    expected_p = np.zeros(p.shape)
    expected_bases = [np.zeros(shape) for _ in bases]
    for row, (b, name) in enumerate(pairs):
        f, slope = FORMULAS[name]
        expected = expected + p[row] * f(bases[b])
        expected_p[row] = np.sum(cotangent * f(bases[b]))
        expected_bases[b] += p[row] * cotangent * slope(bases[b])

    def run(addends: list[tf.Tensor], bases: list[tf.Tensor], p: tf.Tensor):
        with tf.GradientTape() as tape:
            tape.watch([addends, bases, p])
            result = combine(addends, bases, functions, p)
            loss = tf.reduce_sum(result * cotangent)
        return result, tape.gradient(loss, [addends, bases, p])

    arguments = tf.nest.map_structure(tf.constant, (addends, bases, p))
    result, gradients = (tf.function(run, autograph=False) if graph else run)(*arguments)
    of_addends, of_bases, of_p = gradients
    _close(result, expected)
    _close(of_p, expected_p)
    for actual, gradient in zip(of_bases, expected_bases):
        _close(actual, gradient)
    for actual in of_addends:
        _close(actual, cotangent)


@settings(max_examples=30)
@given(functions=FUNCTIONS, shape=SHAPES, targets=st.integers(1, 4), seed=SEEDS)
def test_mix_equals_the_formula(functions, shape, targets, seed):
    _check_mix(functions, shape, targets, seed, graph=False)


@settings(max_examples=5)
@given(functions=FUNCTIONS, shape=SHAPES, targets=st.integers(1, 4), seed=SEEDS)
def test_compiled_mix_equals_the_formula(functions, shape, targets, seed):
    _check_mix(functions, shape, targets, seed, graph=True)


@settings(max_examples=30)
@given(functions=FUNCTIONS, shape=SHAPES, num_addends=st.integers(0, 3), seed=SEEDS)
def test_combine_equals_the_formula(functions, shape, num_addends, seed):
    _check_combine(functions, shape, num_addends, seed, graph=False)


@settings(max_examples=5)
@given(functions=FUNCTIONS, shape=SHAPES, num_addends=st.integers(0, 3), seed=SEEDS)
def test_compiled_combine_equals_the_formula(functions, shape, num_addends, seed):
    _check_combine(functions, shape, num_addends, seed, graph=True)


@pytest.mark.parametrize("graph", [False, True])
def test_every_function_is_mixed_as_its_formula_says(graph):
    everything = (tuple(FORMULAS), tuple(reversed(FORMULAS)))
    _check_mix(everything, (2, 3, 4, 2), targets=3, seed=1, graph=graph)
    _check_combine(everything, (2, 3, 4, 2), num_addends=2, seed=1, graph=graph)


def test_mixing_is_compiled_in_a_graph_alone():
    x = tf.ones([1, 2, 2, 1])

    def run(x: tf.Tensor) -> tf.Tensor:
        return combine([x], [x], (("tanh",),), tf.ones([1]))

    calls = [
        op
        for op in tf.function(run).get_concrete_function(x).graph.get_operations()
        if op.type == "PartitionedCall"
    ]
    assert len(calls) == 1 and calls[0].get_attr("_XlaMustCompile")
    np.testing.assert_allclose(run(x), np.full([1, 2, 2, 1], 1 + np.tanh(1.0)), rtol=1e-6)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_maps_of_half_precision_are_mixed_in_float32_and_rounded_once(dtype, graph):
    functions = (("identity", "relu", "tanh"), ("sigmoid",))
    rng = np.random.default_rng(2)
    size, last_place = [4, 32, 32, 4], 2.0**-8 if dtype == tf.bfloat16 else 2.0**-11
    maps = [tf.cast(rng.normal(size=size), dtype) for _ in range(2)]
    # One sign: of a large sum of half precision, later terms would be lost.
    dy = tf.cast(rng.uniform(1e-3, 2e-3, size=size), dtype)
    p = tf.constant(rng.uniform(size=[4, 1]), tf.float32)

    def run(p: tf.Tensor, dy: tf.Tensor, *maps: tf.Tensor):
        with tf.GradientTape() as tape:
            tape.watch([p, *maps])
            [y] = mix(maps, functions, p)
        return y, tape.gradient(y, [p, *maps], output_gradients=dy)

    y, (of_p, *of_maps) = (tf.function(run, autograph=False) if graph else run)(p, dy, *maps)
    assert (y.dtype, of_p.dtype) == (dtype, tf.float32)
    xs, g, weights = [np.float64(x) for x in maps], np.float64(dy), np.float64(p[:, 0])
    pairs = [(FORMULAS[name], b) for b, names in enumerate(functions) for name in names]
    values = [f(xs[b]) for (f, _), b in pairs]
    expected = sum(w * value for w, value in zip(weights, values))
    np.testing.assert_allclose(np.float64(y), expected, rtol=last_place, atol=1e-6)
    # As a share of the sum of sizes: rounding errors do not cancel where products do.
    sizes = [np.sum(np.abs(g * value)) for value in values]
    np.testing.assert_allclose(
        of_p[:, 0] / sizes, [np.sum(g * v) / s for v, s in zip(values, sizes)], atol=1e-3
    )
    for b, actual in enumerate(of_maps):
        slopes = (w * slope(xs[b]) for w, ((_, slope), of) in zip(weights, pairs) if of == b)
        np.testing.assert_allclose(
            np.float64(actual), g * sum(slopes), rtol=2 * last_place, atol=2e-7
        )
