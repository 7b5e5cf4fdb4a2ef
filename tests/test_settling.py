"""Evaluations, teachers and exports act with what a search stands for, not with the last draw."""

from __future__ import annotations

import pytest

pytest.importorskip("tf_agents")
pytest.importorskip("acme")

import numpy as np
import tensorflow as tf
from aiming import AimingSettings, AimingSuite
from spaces import CHAIN_3
from trained_runs import trained_stage
from trainings import TINY, arrays_of

from rldarts_tf.envs.catch.settings import CatchSettings
from rldarts_tf.envs.catch.suite import CatchSuite
from rldarts_tf.export.policies import read_stage, restore
from rldarts_tf.export.teachers import load_teacher
from rldarts_tf.search import supernets
from rldarts_tf.training.settings import EncoderSettings

CATCH = CatchSuite(CatchSettings(rows=6))
SUITES = {"ppo": CATCH, "rainbow": CATCH, "sac": AimingSuite(AimingSettings(continuous=True))}
METHOD = {"relaxation": "gumbel"}
ENCODERS = EncoderSettings(CHAIN_3.name, [2], features=8)


def flat(said):
    """What a network says, as one array."""
    return np.concatenate([np.ravel(part) for part in tf.nest.flatten(said)])


def strongest(supernet):
    """The strongest op of each layer, one-hot."""
    z = supernet.alpha.numpy_logits()["chain"]
    return np.eye(z.shape[1])[z.argmax(axis=1)]


def draw_another(supernet):
    """Draws until it is not the strongest ops."""
    alpha = supernet.alpha
    alpha.draw()
    while np.array_equal(alpha.numpy_op_weights()["chain"], strongest(supernet)):
        alpha.draw()


def make_certain(supernet):
    """α with which no other op than the strongest is drawn."""
    for node, row in zip(supernet.alpha.logits["chain"], strongest(supernet)):
        node.assign(1e3 * row[None])


@pytest.fixture(scope="module", params=TINY)
def search(request, tmp_path_factory):
    """A search that draws: (its directory, observations, what its program said of them)."""
    root, suite = tmp_path_factory.mktemp("settled") / "run", SUITES[request.param]
    shape = suite.observation_spec().shape
    settings, said = TINY[request.param], {}
    size = (settings.num_envs, *shape)
    images = np.random.default_rng(0).integers(0, 256, size).astype(np.uint8)
    with trained_stage(root, "search", settings, ENCODERS, suite, search=METHOD) as program:
        parts = {k: v for k, v in program.trackables.items() if isinstance(v, tf.Module)}
        supernet = supernets(*parts.values())[0]
        draw_another(supernet)
        said["drawn"] = flat(program._act(images)[1])
        before = arrays_of(**parts)
        program.evaluation_policy(0)(images)
        said["evaluating"] = flat(program._act_evaluating(images)[1])
        for name, value in arrays_of(**parts).items():
            np.testing.assert_array_equal(value, before[name], err_msg=name)
        said["drawn after"] = flat(program._act(images)[1])
        make_certain(supernet)
        said["certain"] = flat(program._act(images)[1])
    return root, images, said


def test_an_evaluation_acts_with_the_strongest_ops_and_training_with_what_it_drew(search):
    _, _, said = search
    np.testing.assert_allclose(said["evaluating"], said["certain"], rtol=1e-5, atol=1e-6)
    assert np.abs(said["drawn"] - said["certain"]).max() > 1e-3
    np.testing.assert_array_equal(said["drawn after"], said["drawn"])


def test_a_teacher_is_the_network_of_the_strongest_ops(search):
    root, images, _ = search
    stage = read_stage(root, "search")
    encoder = stage.make_encoder()
    network, parts = stage.algorithm.teacher.make_teacher(encoder, stage.settings, stage.suite)
    restore(parts, stage.checkpoint)
    actions = tf.zeros([len(images), *stage.suite.action_spec().shape])
    draw_another(encoder)
    drawn = flat(network(images, actions))
    make_certain(encoder)
    expected = flat(network(images, actions))
    said = flat(load_teacher(root, "search").network(images, actions))
    np.testing.assert_allclose(said, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(drawn - expected).max() > 1e-3
