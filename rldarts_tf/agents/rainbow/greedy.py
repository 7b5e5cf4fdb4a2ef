"""Rainbow's greedy policy, without what trains it."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from acme import specs
from acme.tf import utils as tf2_utils

from rldarts_tf.agents.rainbow import agent as rainbow
from rldarts_tf.agents.rainbow.settings import RainbowSettings
from rldarts_tf.encoders import Encoder
from rldarts_tf.envs.suite import Suite, num_actions


def make_greedy(encoder: Encoder, settings: RainbowSettings, suite: Suite) -> tuple[Any, Any]:
    """Makes the policy of a stage: the action of the largest value.

    Returns:
      (observations -> outputs, objects to restore): see `export.policies`.
    """
    network = rainbow.make_network(encoder, num_actions(suite.action_spec(), "Rainbow"), settings)
    observation = suite.observation_spec()
    tf2_utils.create_variables(network, [specs.Array(observation.shape, observation.dtype)])

    def outputs(images: tf.Tensor) -> dict[str, tf.Tensor]:
        q = network(images).mean()
        return {"action": tf.argmax(q, axis=-1, output_type=tf.int32), "q": q}

    return outputs, {"network": network}
