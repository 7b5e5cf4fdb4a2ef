"""Batch normalization in PPO, Rainbow and SAC: when its statistics are used, and when they move."""

from __future__ import annotations

import copy

import numpy as np
import pytest

pytest.importorskip("tf_agents")
pytest.importorskip("acme")
pytest.importorskip("reverb")

import tensorflow as tf
from learner_paths import BATCH, PATHS, images

from rldarts_tf import SearchSpace, Supernet
from rldarts_tf.agents.ppo.acting import Actor
from rldarts_tf.agents.rainbow.exploration import EpsilonGreedy

SPACE = SearchSpace(name="batch", normal_ops=("conv_3x3", "tanh"), num_normal=1, num_nodes=1)


def make_encoder():
    return Supernet(SPACE, [4], features=8, normalization="batch")


def statistics(module):
    """Moving means and variances, in the order of the module's variables."""
    found = [v for v in tf.Module.variables.fget(module) if "moving_" in v.name]
    assert found
    return [v.numpy() for v in found]


def trained(path):
    """The images of the pass that is differentiated; those of all others are other images."""
    if hasattr(path, "experience"):
        return path.experience.observation[:, :-1].reshape(BATCH, *images(0).shape)
    return images(2, BATCH)


def assert_moved(encoder, expected):
    for actual, wanted in zip(statistics(encoder), statistics(expected)):
        np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", PATHS)
def test_statistics_move_once_in_a_step_by_the_batch_that_is_trained_on(name):
    path = PATHS[name](make_encoder())
    encoder = path.encoder
    expected = type(encoder).from_config(encoder.get_config())
    expected(trained(path))
    expected.set_weights(encoder.get_weights())
    before = statistics(encoder)
    expected(trained(path), training=True)
    assert all((a != b).any() for a, b in zip(before, statistics(expected)))
    path.step()
    assert_moved(encoder, expected)


def test_rainbow_trains_on_the_statistics_of_the_batch_and_its_target_takes_them_over():
    path = PATHS["rainbow"](make_encoder())
    network, target = path.learner._network, path.learner._target_network
    sample = next(path.learner._samples)
    actions = sample.data.action
    before, copied = statistics(target), copy.deepcopy(network)
    q = copied(sample.data.observation, training=True).mean()
    inferred = network(sample.data.observation).mean()
    metrics, _ = path.learner._step(sample, {})
    expected, other = (tf.reduce_mean(tf.gather(x, actions, batch_dims=1)) for x in (q, inferred))
    np.testing.assert_allclose(metrics["q_mean"], expected, rtol=1e-4, atol=1e-6)
    assert abs(float(expected - other)) > 1e-3
    for old, new in zip(before, statistics(target)):
        np.testing.assert_array_equal(old, new)
    path.learner._update_target()
    for mine, theirs in zip(statistics(network), statistics(target)):
        np.testing.assert_array_equal(mine, theirs)


def test_sac_trains_on_the_statistics_of_the_batch_and_its_targets_follow_them():
    path = PATHS["sac"](make_encoder())
    critics, targets = path.learner._critics, path.learner._target_critics
    sample = next(path.learner._samples)
    copied = copy.deepcopy(critics)
    q = copied.q(copied.torso(sample.data.observation, training=True), sample.data.action)
    other = critics(sample.data.observation, sample.data.action)
    before = statistics(targets)
    metrics = path.learner._step(sample.data, {})
    np.testing.assert_allclose(metrics["q_mean"], tf.reduce_mean(q), rtol=1e-4, atol=1e-6)
    assert abs(float(tf.reduce_mean(q) - tf.reduce_mean(other))) > 1e-3
    rate = path.learner._settings.target_update_rate
    for old, new, online in zip(before, statistics(targets), statistics(critics)):
        assert (online != old).any()
        np.testing.assert_allclose(new, old + rate * (online - old), rtol=1e-5, atol=1e-7)


def test_acting_neither_moves_statistics_nor_depends_on_the_other_images():
    observations = images(5, 4)
    path = PATHS["rainbow"](make_encoder())
    generator = tf.random.Generator.from_seed(0, alg="philox")
    greedy = EpsilonGreedy(path.learner._network, 0.0, generator)
    ppo_path = PATHS["ppo"](make_encoder())
    actor = Actor(ppo_path.agent, generator)
    sac_path = PATHS["sac"](make_encoder())
    policy = sac_path.networks.policy(generator, greedy=True)
    cases = [
        (path, lambda x: greedy.act(x)[1]),
        (ppo_path, lambda x: actor(x)[2]),
        (sac_path, lambda x: policy.act(x)[1]),
    ]
    for each, act in cases:
        before = statistics(each.encoder)
        np.testing.assert_allclose(act(observations)[:2], act(observations[:2]), rtol=1e-4)
        for old, new in zip(before, statistics(each.encoder)):
            np.testing.assert_array_equal(old, new)


def test_statistics_are_in_the_checkpoint(tmp_path):
    for name in ("ppo", "rainbow", "sac"):
        path, other = (PATHS[name](make_encoder()) for _ in range(2))
        path.step()
        saved = tf.train.Checkpoint(**path.trackables).save(str(tmp_path / name))
        tf.train.Checkpoint(**other.trackables).restore(saved)
        for mine, theirs in zip(statistics(path.encoder), statistics(other.encoder)):
            np.testing.assert_array_equal(mine, theirs)
