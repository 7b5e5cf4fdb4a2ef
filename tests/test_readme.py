"""Runs the code of README.md and of docs/agents.md exactly as it stands there."""

from __future__ import annotations

import re

import numpy as np
import pytest

pytest.importorskip("tf_agents")

import tensorflow as tf
from readme import AGENTS, README, marked_block
from tf_agents.agents.ppo import ppo_clip_agent
from tf_agents.agents.sac import tanh_normal_projection_network
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts

import rldarts_tf
from rldarts_tf import encoding_network

# Those of Acme are run in test_readme_acme.py.
NAMES = {
    README: ("pseudo-code", "swap-before", "swap-after", "acme-swap-before", "acme-swap-after"),
    AGENTS: ("options", "tf-agents-ppo", "tf-agents-sac", "acme-rainbow", "acme-sac"),
}


def run(name, page=README, **namespace):
    """Runs a block; returns its namespace."""
    exec(compile(marked_block(name, page), f"{page.name} ({name})", "exec"), namespace)
    return namespace


@pytest.mark.parametrize("page", NAMES, ids=lambda page: page.name)
def test_each_marker_stands_once_and_there_are_no_others(page):
    markers = re.findall(r"(?:readme|docs)-test: *(\S+)", page.read_text(encoding="utf-8"))
    assert sorted(markers) == sorted(NAMES[page])


def test_the_readme_is_read_in_ten_minutes():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


@pytest.fixture(scope="module")
def observation_spec():
    # TF-Agents' own network takes float images only.
    return tensor_spec.BoundedTensorSpec((20, 20, 3), tf.float32, 0.0, 1.0)


@pytest.fixture(scope="module")
def action_spec():
    return tensor_spec.BoundedTensorSpec((), tf.int32, 0, 14)


def features(encoder, observation_spec):
    batch = tensor_spec.sample_spec_nest(observation_spec, outer_dims=(3,), seed=1)
    return encoder(batch)[0]


def alphas(encoder):
    return [v for v in encoder.trainable_weights if "alpha" in v.name]


def test_the_swap_before_and_after(observation_spec, action_spec):
    specs = {"observation_spec": observation_spec, "action_spec": action_spec}
    before = run("swap-before", **specs)["encoder"]
    after = run("swap-after", **specs)["encoder"]
    for encoder in (before, after):
        assert features(encoder, observation_spec).shape == (3, 256)
    assert alphas(before) == []
    supernet = after.encoder
    assert isinstance(supernet, rldarts_tf.Supernet)
    assert (supernet.space, supernet.depths) == (rldarts_tf.CLASSIC, (16, 16, 16))
    # One matrix per node of a normal and of a reduction cell.
    assert sorted(tuple(v.shape) for v in alphas(after)) == sorted(
        [(j, ops) for j in range(1, 5) for ops in (6, 5)]
    )
    # The swap changes what is imported and what the encoder is asked for; nothing else.
    lines = [marked_block(name).splitlines() for name in ("swap-before", "swap-after")]
    assert [len(block) for block in lines] == [2, 2]


def test_the_swap_takes_the_bytes_that_an_environment_gives(action_spec):
    spec = tensor_spec.BoundedTensorSpec((20, 20, 3), tf.uint8, 0, 255)
    encoder = run("swap-after", observation_spec=spec, action_spec=action_spec)["encoder"]
    assert features(encoder, spec).shape == (3, 256)


def test_the_pseudo_code():
    trained = []

    def train(encoder):
        """One step of gradient descent."""
        images = tf.constant(np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)), tf.uint8)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(encoder(images, training=True) - 1))
        weights = encoder.trainable_weights
        old = [v.numpy() for v in weights]
        gradients = tape.gradient(loss, weights)
        tf.keras.optimizers.SGD(1.0).apply_gradients(zip(gradients, weights))
        trained.append((encoder, [np.any(v != o) for v, o in zip(weights, old)]))

    namespace = run("pseudo-code", rldarts_tf=rldarts_tf, train=train)
    (supernet, supernet_changed), (discrete, discrete_changed) = trained
    assert supernet is namespace["supernet"]
    assert isinstance(supernet, rldarts_tf.Supernet)
    assert all(supernet_changed)
    assert isinstance(discrete, rldarts_tf.DiscreteNetwork)
    assert all(discrete_changed)
    # The genotype is that of the α which has been trained.
    assert any(v.numpy().any() for v in alphas(supernet))
    assert namespace["genotype"] == supernet.discretize() == discrete.genotype
    assert (supernet.depths, discrete.depths) == ((16, 16, 16), (64, 64, 64))


def test_options_make_encoders_and_single_ones_replace_them():
    made = run("options", AGENTS, rldarts_tf=rldarts_tf)
    assert (made["supernet"].depths, made["small"].depths) == ((16, 16, 16), (8, 8))
    assert made["supernet"].space == made["small"].space == rldarts_tf.MICRO
    assert isinstance(made["baseline"], rldarts_tf.ImpalaCNN)
    assert {made[name].features for name in ("supernet", "small", "baseline")} == {64}


def test_actor_and_value_network_of_ppo_go_around_one_encoder(observation_spec, action_spec):
    made = run(
        "tf-agents-ppo",
        AGENTS,
        observation_spec=observation_spec,
        action_spec=action_spec,
        time_step_spec=ts.time_step_spec(observation_spec),
        optimizer=tf.keras.optimizers.Adam(1e-3),
        encoding_network=encoding_network,
        ppo_clip_agent=ppo_clip_agent,
    )
    agent, encoder = made["agent"], made["encoder"]
    agent.initialize()
    for network in (agent.actor_net, made["value"]):
        assert network._encoder is encoder
        assert {v.ref() for v in alphas(encoder)} <= {v.ref() for v in network.trainable_weights}


def test_critics_of_sac_go_around_one_encoder_and_their_targets_around_another():
    made = run(
        "tf-agents-sac",
        AGENTS,
        observation_spec=tensor_spec.BoundedTensorSpec((16, 16, 9), tf.uint8, 0, 255),
        action_spec=tensor_spec.BoundedTensorSpec((2,), tf.float32, -1.0, 1.0),
        encoding_network=encoding_network,
        tanh_normal_projection_network=tanh_normal_projection_network,
    )
    encoders = [made[name]._encoder for name in ("q1", "q2", "target1", "target2", "actor")]
    ours, theirs = made["encoder"], encoders[2]
    assert [encoder is ours for encoder in encoders] == [True, True, False, False, True]
    assert encoders[3] is theirs and theirs.encoder is not ours.encoder
    assert ours.encoder.space == theirs.encoder.space == rldarts_tf.MICRO_PISAC
    made["actor"].create_variables()
    of_encoder = {v.ref() for v in ours.trainable_weights}
    assert of_encoder and not of_encoder & {v.ref() for v in made["actor"].trainable_weights}
