"""A PPO policy as a teacher: π_T and V_T."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tf_agents.trajectories import time_step as ts

from rldarts_tf.agents.ppo.agent import make_agent, tensor_specs
from rldarts_tf.agents.ppo.settings import PPOSettings
from rldarts_tf.encoders import Encoder
from rldarts_tf.envs.reward import RewardNormalizer
from rldarts_tf.envs.suite import Suite
from rldarts_tf.training.state import part_of


def make_teacher(encoder: Encoder, settings: PPOSettings, suite: Suite) -> tuple[Any, Any]:
    """Makes the networks of a stage.

    Returns:
      (network, objects to restore). The network maps (observations, anything) to "logits" [B, A],
      or "mean" and "stddev" [B, A] for continuous actions, and "value" [B], in rewards divided by
      its `reward_scales`.
    """
    time_step_spec, action_spec = tensor_specs(suite.observation_spec(), suite.action_spec())
    agent = make_agent(settings, time_step_spec, action_spec, encoder)

    def network(observations: tf.Tensor, actions: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        del actions
        step_type = tf.fill([tf.shape(observations)[0]], ts.StepType.MID)
        with agent._shared_encoder.shared_computation():
            policy, _ = agent.actor_net(observations, step_type=step_type)
            value, _ = agent.value_net(observations, step_type=step_type)
        if action_spec.dtype.is_integer:
            return {"logits": policy.logits_parameter(), "value": value}
        return {"mean": policy.mean(), "stddev": policy.stddev(), "value": value}

    return network, {"actor": agent.actor_net, "value": agent.value_net}


def reward_scales(
    settings: PPOSettings, suite: Suite, state: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """What rewards of each game are divided by at the end of a training.

    Args:
      settings: of the training.
      suite: its environments.
      state: of its program.
    """
    games = suite.games
    normalizer = RewardNormalizer(
        len(games), settings.reward_discount, settings.reward_clip, groups=games
    )
    running = {"returns": np.zeros(len(games))}
    normalizer.set_state({**part_of(state, "normalizer"), **running})
    return dict(zip(games, normalizer.scale.tolist()))
