"""PPO's greedy policy, without what trains it."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tf_agents.trajectories import time_step as ts

from rldarts_tf.agents.ppo import agent as ppo
from rldarts_tf.agents.ppo.settings import PPOSettings
from rldarts_tf.encoders import Encoder
from rldarts_tf.envs.suite import Suite


def make_greedy(encoder: Encoder, settings: PPOSettings, suite: Suite) -> tuple[Any, Any]:
    """Makes the policy of a stage: the most probable action, within its bounds.

    Returns:
      (observations -> outputs, objects to restore): see `export.policies`.
    """
    time_step_spec, action_spec = ppo.tensor_specs(suite.observation_spec(), suite.action_spec())
    agent = ppo.make_agent(settings, time_step_spec, action_spec, encoder)

    def outputs(images: tf.Tensor) -> dict[str, tf.Tensor]:
        step_type = tf.fill([tf.shape(images)[0]], ts.StepType.MID)
        distribution, _ = agent.actor_net(images, step_type=step_type)
        value, _ = agent.value_net(images, step_type=step_type)
        if not action_spec.dtype.is_integer:
            action = tf.clip_by_value(distribution.mode(), action_spec.minimum, action_spec.maximum)
            return {"action": action, "value": value}
        logits = distribution.logits_parameter()
        action = tf.argmax(logits, axis=-1, output_type=tf.int32)
        return {"action": action, "logits": logits, "value": value}

    return outputs, {"actor": agent.actor_net, "value": agent.value_net}
