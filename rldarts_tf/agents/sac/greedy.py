"""SAC's greedy policy, without what trains it."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from rldarts_tf.agents.off_policy.replay import environment_spec
from rldarts_tf.agents.sac import agent as sac
from rldarts_tf.agents.sac.settings import SACSettings
from rldarts_tf.encoders import Encoder
from rldarts_tf.envs.suite import Suite, check_box


def make_greedy(encoder: Encoder, settings: SACSettings, suite: Suite) -> tuple[Any, Any]:
    """Makes the policy of a stage: tanh(μ).

    Returns:
      (observations -> outputs, objects to restore): see `export.policies`.
    """
    check_box(suite.action_spec(), "SAC")
    spec = environment_spec(suite.observation_spec(), suite.action_spec())
    networks = sac.SACNetworks(spec, encoder, settings)

    def outputs(images: tf.Tensor) -> dict[str, tf.Tensor]:
        features = networks.critics.torso(images)
        mean, _ = networks.actor.mean_and_scale(features)
        action = tf.tanh(mean)
        q = tf.reduce_min(networks.critics.q(features, action), axis=0)
        return {"action": action, "q": q}

    return outputs, {"critics": networks.critics, "actor": networks.actor}
