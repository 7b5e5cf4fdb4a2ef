"""Environments of this package as those of TF-Agents."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tf_agents")

import tensorflow as tf
from tf_agents.environments import tf_py_environment, utils

from rldarts_tf.envs.catch.settings import CatchSettings
from rldarts_tf.envs.catch.suite import CatchSuite
from rldarts_tf.envs.py_environment import PyEnvironment


def catch():
    return CatchSuite(CatchSettings(rows=6)).make(3, seed=5)


def gymnasium():
    pytest.importorskip("minatar")
    from rldarts_tf.envs.gymnasium.batch import make_gymnasium
    from rldarts_tf.envs.gymnasium.settings import GymnasiumSettings

    return make_gymnasium(GymnasiumSettings(env="MinAtar/Breakout-v1"), 3, seed=5)


@pytest.fixture(params=[catch, gymnasium])
def make(request):
    return request.param


def test_its_time_steps_are_those_of_the_environments(make):
    own = make()
    environment = tf_py_environment.TFPyEnvironment(PyEnvironment(make()))
    assert environment.batch_size == 3
    expected, found = own.reset(), environment.reset()
    rng = np.random.default_rng(0)
    ended = 0
    for _ in range(100):
        for name in ("step_type", "reward", "discount", "observation"):
            np.testing.assert_array_equal(
                getattr(found, name).numpy(), np.asarray(getattr(expected, name)), err_msg=name
            )
        ended += int(found.is_last().numpy().sum())
        action = rng.integers(0, 3, 3).astype(own.action_spec().dtype)
        expected, found = own.step(action), environment.step(tf.constant(action))
    assert ended
    own.close()
    environment.close()


def test_it_is_what_its_specs_say(make):
    environment = PyEnvironment(make())
    utils.validate_py_environment(environment, episodes=2)
    environment.close()


def test_closing_it_closes_the_environments():
    closed = []
    environments = catch()
    environments.close = lambda: closed.append(True)
    PyEnvironment(environments).close()
    assert closed == [True]
