"""Rainbow's greedy policy, without what trains it."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from rldarts_tf.agents.rainbow.settings import RainbowSettings
from rldarts_tf.agents.rainbow.teacher import make_q_network
from rldarts_tf.encoders import Encoder
from rldarts_tf.envs.suite import Suite


def make_greedy(encoder: Encoder, settings: RainbowSettings, suite: Suite) -> tuple[Any, Any]:
    """Makes the policy of a stage: the action of the largest value.

    Returns:
      (observations -> outputs, objects to restore): see `export.policies`.
    """
    network = make_q_network(encoder, settings, suite)

    def outputs(images: tf.Tensor) -> dict[str, tf.Tensor]:
        q = network(images).mean()
        return {"action": tf.argmax(q, axis=-1, output_type=tf.int32), "q": q}

    return outputs, {"network": network}
