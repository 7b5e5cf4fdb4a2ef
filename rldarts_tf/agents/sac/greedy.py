"""SAC's greedy policy, without what trains it."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from rldarts_tf.agents.sac.settings import SACSettings
from rldarts_tf.agents.sac.teacher import make_networks
from rldarts_tf.encoders import Encoder
from rldarts_tf.envs.suite import Suite


def make_greedy(encoder: Encoder, settings: SACSettings, suite: Suite) -> tuple[Any, Any]:
    """Makes the policy of a stage: tanh(μ).

    Returns:
      (observations -> outputs, objects to restore): see `export.policies`.
    """
    networks = make_networks(encoder, settings, suite)

    def outputs(images: tf.Tensor) -> dict[str, tf.Tensor]:
        features = networks.critics.torso(images)
        mean, _ = networks.actor.mean_and_scale(features)
        action = tf.tanh(mean)
        q = tf.reduce_min(networks.critics.q(features, action), axis=0)
        return {"action": action, "q": q}

    return outputs, {"critics": networks.critics, "actor": networks.actor}
