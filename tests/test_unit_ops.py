"""Ops of unit size: the fast forms beside TensorFlow's own derivatives of the plain formula."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rldarts_tf.kernels.mixing import apply_function
from rldarts_tf.kernels.normalization import unit_rms
from rldarts_tf.kernels.unit import mix_unit, scale_to_unit

FUNCTIONS = (("identity", "relu", "tanh"), ("identity",))
SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
SEEDS = st.integers(0, 2**31)
Maps = Callable[..., Sequence[tf.Tensor]]


def _plain_mix(p: tf.Tensor, *bases: tf.Tensor) -> list[tf.Tensor]:
    """Σ_f p_ft f(base) / ν, written down as it stands there."""
    ys = [
        unit_rms(apply_function(name, base), (1, 2, 3))
        for base, names in zip(bases, FUNCTIONS)
        for name in names
    ]
    return [
        tf.add_n([tf.cast(p_f, y.dtype) * y for p_f, y in zip(tf.unstack(p_t), ys)])
        for p_t in tf.unstack(p, axis=1)
    ]


def _fast_mix(p: tf.Tensor, *bases: tf.Tensor) -> Sequence[tf.Tensor]:
    return mix_unit(bases, FUNCTIONS, p)


def _fast_scaled(p: tf.Tensor, y: tf.Tensor, filters: int = 2) -> list[tf.Tensor]:
    return [scale_to_unit(y, p, filters)]


def _plain_scaled(p: tf.Tensor, y: tf.Tensor, filters: int = 2) -> list[tf.Tensor]:
    maps = tf.split(y, y.shape[-1] // filters, axis=-1)
    side_by_side = tf.concat([unit_rms(one, (1, 2, 3)) for one in maps], axis=-1)
    return [tf.cast(p, y.dtype) * side_by_side]


def _derivatives(
    function: Maps, arguments: Sequence[tf.Tensor], rng: np.random.Generator, graph: bool
) -> list[tf.Tensor]:
    """Values, their gradient along random cotangents, and the gradient of that along others."""

    def random_like(x: tf.Tensor) -> tf.Tensor:
        return tf.constant(rng.normal(size=x.shape), x.dtype)

    cotangents = [random_like(y) for y in function(*arguments)]
    directions = [random_like(x) for x in arguments]

    def run(arguments: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        with tf.GradientTape() as outer:
            outer.watch(arguments)
            with tf.GradientTape() as inner:
                inner.watch(arguments)
                values = function(*arguments)
            first = inner.gradient(values, arguments, output_gradients=cotangents)
            along = tf.add_n([tf.reduce_sum(d * h) for d, h in zip(first, directions)])
        return [*values, *first, *outer.gradient(along, arguments)]

    return (tf.function(run) if graph else run)(list(arguments))


def _check_derivatives(
    fast: Maps, plain: Maps, arguments: Sequence[tf.Tensor], seed: int, graph: bool
) -> None:
    found = _derivatives(fast, arguments, np.random.default_rng(seed), graph)
    expected = _derivatives(plain, arguments, np.random.default_rng(seed), False)
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * (1 + np.abs(b).max()))


def _mix_arguments(shape: Sequence[int], targets: int, seed: int) -> list[tf.Tensor]:
    rng = np.random.default_rng(seed)
    functions = sum(map(len, FUNCTIONS))
    return [
        tf.constant(rng.normal(size=size))
        for size in [(functions, targets), *[shape] * len(FUNCTIONS)]
    ]


@given(SHAPES, st.integers(1, 3), SEEDS)
@settings(max_examples=15)
def test_mixtures_and_their_first_and_second_derivatives_equal_the_formula(shape, targets, seed):
    _check_derivatives(_fast_mix, _plain_mix, _mix_arguments(shape, targets, seed), seed, False)


def test_compiled_mixtures_and_their_derivatives_equal_the_formula():
    _check_derivatives(_fast_mix, _plain_mix, _mix_arguments((3, 4, 2, 3), 2, 0), 1, True)


@given(SHAPES, st.integers(1, 3), SEEDS)
@settings(max_examples=15)
def test_maps_side_by_side_are_scaled_each_by_itself(shape, maps, seed):
    _check_scaled(shape, maps, seed, False)


def test_compiled_scaling_equals_the_formula():
    _check_scaled((3, 4, 2, 3), 2, 0, True)


def _check_scaled(shape: Sequence[int], maps: int, seed: int, graph: bool) -> None:
    rng, filters = np.random.default_rng(seed), shape[-1]
    arguments = [
        tf.constant(rng.normal(size=[maps * filters])),
        tf.constant(rng.normal(size=[*shape[:3], maps * filters])),
    ]
    _check_derivatives(
        functools.partial(_fast_scaled, filters=filters),
        functools.partial(_plain_scaled, filters=filters),
        arguments,
        seed,
        graph,
    )


@pytest.mark.parametrize("kind", ["mixture", "scaling"])
def test_tangents_of_forward_mode_equal_the_formula(kind):
    p, *bases = _mix_arguments((2, 3, 3, 2), 2, 3)
    pairs = {
        "mixture": ([p, *bases], _fast_mix, _plain_mix),
        "scaling": ([p[0], bases[0]], _fast_scaled, _plain_scaled),
    }
    arguments, *pair = pairs[kind]
    found, expected = (_tangents(function, arguments) for function in pair)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def _tangents(function: Maps, arguments: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    with tf.autodiff.ForwardAccumulator(arguments, [tf.ones_like(x) for x in arguments]) as forward:
        return [forward.jvp(y) for y in function(*arguments)]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_gradients_of_maps_of_half_precision_are_those_of_float32_but_for_rounding(dtype):
    exact = _mix_arguments((4, 5, 5, 4), 2, 5)
    rounded = [tf.cast(exact[0], tf.float32), *(tf.cast(x, dtype) for x in exact[1:])]
    exact = [tf.cast(x, tf.float32) for x in rounded]
    rng = np.random.default_rng(0)
    cotangents = [tf.cast(tf.constant(rng.normal(size=(4, 5, 5, 4))), dtype) for _ in range(2)]

    def gradients(function: Maps, arguments: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            values = function(*arguments)
        of_values = [tf.cast(g, y.dtype) for g, y in zip(cotangents, values)]
        return tape.gradient(values, arguments, output_gradients=of_values)

    found, expected = gradients(_fast_mix, rounded), gradients(_plain_mix, exact)
    assert [x.dtype.name for x in found] == ["float32", dtype, dtype]
    for a, b in zip(found, expected):
        error = np.abs(tf.cast(a, tf.float32) - b).max()
        assert error <= (2e-2 if dtype == "bfloat16" else 3e-3) * np.abs(b).max()
