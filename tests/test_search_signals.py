"""Signals of a search: the largest eigenvalue of the α-Hessian, and rules of stopping."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rldarts_tf.encoders import Supernet
from rldarts_tf.search.signals.hessian import HessianVectorProduct, largest_eigenvalue
from rldarts_tf.search.signals.stopping import EigenvalueRule, ParameterFreeRule, Stop
from rldarts_tf.search_space import SearchSpace


@given(seed=st.integers(0, 1000), shift=st.floats(-10, 10), size=st.integers(1, 12))
@settings(max_examples=50)
def test_the_largest_eigenvalue_is_that_of_the_whole_matrix(seed, shift, size):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(size, size))
    h = a + a.T + shift * np.eye(size)
    start = rng.normal(size=size)
    found = largest_eigenvalue(lambda v: h @ v, start)
    values = np.linalg.eigvalsh(h)
    assert np.linalg.norm(found.vector) == pytest.approx(1)
    assert found.value == pytest.approx(values[-1], abs=1e-6 * np.abs(values).max())


@pytest.mark.parametrize("size", [50, 110])
def test_twenty_products_tell_it_where_the_hessian_is_indefinite(size):
    made = np.random.default_rng(size)
    for _ in range(20):
        a = made.normal(size=(size, size))
        products = Products(a + a.T)
        found = largest_eigenvalue(products, made.normal(size=size))
        assert products.count <= 20
        assert found.value == pytest.approx(np.linalg.eigvalsh(a + a.T)[-1], rel=0.05)


class Products:
    """Counts the products of a matrix."""

    def __init__(self, matrix):
        self.matrix, self.count = matrix, 0

    def __call__(self, vector):
        self.count += 1
        return self.matrix @ vector


def test_a_matrix_of_zeros_has_the_eigenvalue_zero():
    assert largest_eigenvalue(np.zeros_like, np.ones(3)).value == 0


def test_the_hessian_of_a_supernet_by_alpha_is_that_of_finite_differences(float64):
    space = SearchSpace("pooled", ("conv_3x3_relu",), ("max_pool_3x3",), 1, 1, num_nodes=2)
    supernet = Supernet(space, [4], features=4)
    images = tf.random.uniform([2, 6, 6, 2], dtype=tf.float64)
    supernet(images)
    variables = supernet.alpha.trainable_weights
    rng = np.random.default_rng(0)
    for v in variables:
        v.assign(rng.normal(scale=0.2, size=v.shape))

    def loss(x):
        # By tanh, since of a network that is linear in p little of the Hessian would remain.
        return tf.reduce_sum(tf.tanh(10 * tf.cast(supernet(x), tf.float32)) ** 2)

    gradient = tf.function(lambda x: _gradient(loss, variables, x), autograph=False)
    product = HessianVectorProduct(loss, variables)
    sizes = [int(np.prod(v.shape)) for v in variables]
    assert product.size == sum(sizes)
    columns, step = [], 1e-3
    for k in range(product.size):
        moved = []
        for sign in (1, -1):
            unit = np.split(sign * step * np.eye(product.size)[k], np.cumsum(sizes)[:-1])
            for v, part in zip(variables, unit):
                v.assign_add(part.reshape(v.shape))
            moved.append(gradient(images).numpy())
            for v, part in zip(variables, unit):
                v.assign_sub(part.reshape(v.shape))
        columns.append((moved[0] - moved[1]) / (2 * step))
    h = np.stack(columns)
    found = np.stack([product(row, images) for row in np.eye(product.size)])
    # Also the pools of the reduction cells: see `kernels.banks._max_pool`.
    np.testing.assert_allclose(found, found.T, atol=1e-3 * np.abs(h).max())
    np.testing.assert_allclose(found, h, atol=0.02 * np.abs(h).max())
    start = rng.normal(size=product.size)
    pair = largest_eigenvalue(lambda v: product(v, images), start, product.size)
    assert pair.value == pytest.approx(np.linalg.eigvalsh((found + found.T) / 2)[-1], rel=0.01)


def _gradient(loss, variables, x):
    with tf.GradientTape() as tape:
        value = loss(x)
    return tf.concat([tf.reshape(g, [-1]) for g in tape.gradient(value, variables)], axis=0)


# --- rules --------------------------------------------------------------------------------------


def stops(rule, values):
    """(number of measurements, the stop) of the first stop; None if there is none."""
    for i, value in enumerate(values):
        stop = rule.measured(100 * i, value)
        if stop is not None:
            return i + 1, stop
    return None


def test_a_rise_of_the_mean_stops_and_the_cell_before_it_is_kept():
    # Means of 5: 1 at the 11th; with 12, 13, 14 of value 3: (1+1+1+1+3)/5 = 1.4 > 1.3 · 1.
    [number, stop] = stops(EigenvalueRule(10), [1.0] * 11 + [3.0])
    assert number == 12
    assert stop.step == 700  # four measurements before the twelfth
    assert "from 1 to 1.4" in stop.reason
    assert stops(EigenvalueRule(10), [1.0] * 11 + [2.4]) is None  # 1.28


def test_a_rise_before_the_least_number_of_measurements_is_let_pass():
    assert stops(EigenvalueRule(10), [1.0] * 3 + [3.0] * 20) is None
    assert stops(EigenvalueRule(0), [1.0] * 5 + [3.0] * 20)[0] == 6


def test_a_slow_rise_is_none_and_a_mean_below_zero_says_nothing():
    assert stops(EigenvalueRule(10), 1.05 ** np.arange(50)) is None
    assert stops(EigenvalueRule(10), 1.1 ** np.arange(50))[0] == 11
    assert stops(EigenvalueRule(10), [-1.0] * 20 + [5.0] * 4) is None


def test_too_many_ops_without_weights_stop_and_the_cell_before_is_kept():
    [number, stop] = stops(ParameterFreeRule(0, most=2), [0, 2, 1, 3])
    assert number == 4 and stop == Stop(200, stop.reason) and "3, more than 2" in stop.reason
    assert stops(ParameterFreeRule(4, most=2), [3, 3, 3, 3, 2]) is None
    # There is no cell before the first.
    assert stops(ParameterFreeRule(0, most=2), [3]) is None


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=30), st.integers(0, 30))
@settings(max_examples=30)
def test_a_rule_goes_on_from_its_state(values, cut):
    whole, first, second = (EigenvalueRule(3) for _ in range(3))
    expected = [whole.measured(i, v) for i, v in enumerate(values)]
    found = [first.measured(i, v) for i, v in enumerate(values[:cut])]
    second.set_state(first.state())
    found += [second.measured(i, v) for i, v in enumerate(values) if i >= cut]
    assert found == expected
