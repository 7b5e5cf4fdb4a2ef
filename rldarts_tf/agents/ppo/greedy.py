"""PPO's greedy policy, without what trains it."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from rldarts_tf.agents.ppo.settings import PPOSettings
from rldarts_tf.agents.ppo.teacher import make_teacher
from rldarts_tf.encoders import Encoder
from rldarts_tf.envs.suite import Suite


def make_greedy(encoder: Encoder, settings: PPOSettings, suite: Suite) -> tuple[Any, Any]:
    """Makes the policy of a stage: the most probable action, within its bounds.

    Returns:
      (observations -> outputs, objects to restore): see `export.policies`.
    """
    network, trackables = make_teacher(encoder, settings, suite)
    spec = suite.action_spec()

    def outputs(images: tf.Tensor) -> dict[str, tf.Tensor]:
        said = network(images)
        if "mean" in said:
            action = tf.clip_by_value(said["mean"], spec.minimum, spec.maximum)
            return {"action": action, "value": said["value"]}
        return {"action": tf.argmax(said["logits"], axis=-1, output_type=tf.int32), **said}

    return outputs, trackables
