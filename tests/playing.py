"""Playing batches of Procgen environments, and comparing what they show."""

from __future__ import annotations

import numpy as np


def random_actions(steps, num_envs, seed=0):
    return np.random.default_rng(seed).integers(0, 15, (steps, num_envs)).astype(np.int32)


def assert_same_time_step(actual, expected):
    for name, a, e in zip(actual._fields, actual, expected):
        np.testing.assert_array_equal(a, e, err_msg=name)
        assert a.dtype == e.dtype, name


def assert_resumes_from_npz(path, env, other, actions, others):
    """A state in an .npz file continues in a new environment; afterwards both are alike.

    Args:
      path: of the file, which is written.
      env: the environments.
      other: new ones, which had other seeds.
      actions: [T, B], before the state is saved.
      others: [T, B], after it.
    """
    for action in actions:
        env.step(action)
    np.savez(path, **env.get_state())
    queued = env.episodes.state()["finished_returns"].size
    assert queued >= 1
    other.step(actions[0])
    with np.load(path, allow_pickle=False) as state:
        other.set_state(state)
    assert_same_time_step(other.current_time_step(), env.current_time_step())
    for action in others:
        assert_same_time_step(other.step(action), env.step(action))
    assert env.episodes.state()["finished_returns"].size > queued
