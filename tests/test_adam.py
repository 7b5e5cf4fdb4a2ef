"""FusedAdam against Keras' own Adam, written op by op."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from rldarts_tf.agents.adam import FusedAdam, MeasuredAdam

SHAPES = [(3, 3, 2, 4), (4,), ()]


def make_variables():
    rng = np.random.default_rng(0)
    return [tf.Variable(rng.normal(size=shape).astype(np.float32)) for shape in SHAPES]


def train(optimizer, variables, steps, seed):
    rng = np.random.default_rng(seed)

    @tf.function
    def step(gradients):
        optimizer.apply_gradients(zip(gradients, variables))

    optimizer.build(variables)
    for _ in range(steps):
        step([tf.constant(rng.normal(size=shape).astype(np.float32)) for shape in SHAPES])


@pytest.mark.parametrize("epsilon", [1e-7, 1e-5, 1e-1])
def test_it_moves_variables_and_moments_as_keras_adam_does(epsilon):
    fused, plain = make_variables(), make_variables()
    optimizers = FusedAdam(3e-2, epsilon=epsilon), tf.keras.optimizers.Adam(3e-2, epsilon=epsilon)
    for optimizer, variables in zip(optimizers, (fused, plain)):
        train(optimizer, variables, steps=7, seed=1)
    for actual, expected, start in zip(fused, plain, make_variables()):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
        assert np.abs(actual.numpy() - start.numpy()).max() > 1e-3
    for actual, expected in zip(*(optimizer.variables for optimizer in optimizers)):
        assert actual.shape == expected.shape
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_it_obeys_a_learning_rate_that_changes():
    variables = make_variables()
    optimizer = FusedAdam(1e-2)
    train(optimizer, variables, steps=2, seed=1)
    optimizer.learning_rate.assign(0.0)
    before = [variable.numpy() for variable in variables]
    train(optimizer, variables, steps=2, seed=2)
    for variable, value in zip(variables, before):
        np.testing.assert_array_equal(variable, value)


def test_its_state_goes_through_a_checkpoint(tmp_path):
    variables = make_variables()
    optimizer = FusedAdam(1e-2)
    train(optimizer, variables, steps=3, seed=1)
    path = tf.train.Checkpoint(optimizer=optimizer, variables=variables).write(str(tmp_path / "c"))
    train(optimizer, variables, steps=3, seed=2)

    restored, again = make_variables(), FusedAdam(1e-2)
    again.build(restored)
    tf.train.Checkpoint(optimizer=again, variables=restored).read(path).assert_consumed()
    train(again, restored, steps=3, seed=2)
    for actual, expected in zip(restored, variables):
        np.testing.assert_array_equal(actual, expected)


def test_amsgrad_is_refused():
    with pytest.raises(ValueError, match="amsgrad"):
        FusedAdam(amsgrad=True).build(make_variables())


@pytest.fixture
def pretended_gpu(monkeypatch):
    """Keras sees a GPU when it makes an optimizer."""
    config = tf.compat.v2.config
    real = config.list_physical_devices

    def devices(kind=None):
        return ["a GPU"] if kind == "GPU" else real(kind)

    monkeypatch.setattr(config, "list_physical_devices", devices)


def xla_programs(optimizer):
    """How many functions that XLA must compile there are in the graph of a step."""
    variables = make_variables()
    optimizer.build(variables)

    @tf.function(autograph=False)
    def step(gradients):
        optimizer.apply_gradients(zip(gradients, variables))

    graph = step.get_concrete_function([tf.ones(shape) for shape in SHAPES]).graph.as_graph_def()
    return sum(function.attr["_XlaMustCompile"].b for function in graph.library.function)


@pytest.mark.parametrize("make", [FusedAdam, lambda **kwargs: MeasuredAdam(1e-2, 0.5, **kwargs)])
def test_beside_a_gpu_no_variable_has_an_xla_program_of_its_own(make, pretended_gpu):
    assert xla_programs(tf.keras.optimizers.Adam()) == len(SHAPES), "or nothing is pretended"
    assert xla_programs(make()) == 0
    assert xla_programs(FusedAdam.from_config(FusedAdam().get_config())) == 0


def test_beside_a_gpu_not_even_a_flag_that_is_set_makes_programs(pretended_gpu):
    assert xla_programs(FusedAdam(jit_compile=True)) == 0
    optimizer = FusedAdam()
    optimizer.jit_compile = True
    assert xla_programs(optimizer) == 0
