"""Augmented images in the loss of a PPO agent, by the rule of DrAC.

Source: Raileanu et al. 2020, "Automatic Data Augmentation for Generalization in Deep Reinforcement
Learning" (arXiv:2006.12862), whose symbols these are.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tf_agents.agents import tf_agent
from tf_agents.agents.ppo import ppo_agent

from rldarts_tf.agents.ppo.terms import Weight, divergence, outputs, parameters, with_terms
from rldarts_tf.agents.shapes import check_shapes
from rldarts_tf.teaching import losses

INVARIANCE = ("augmentation_policy", "augmentation_value")
"""Metrics of G_π and G_V, without their weight."""


def with_invariance(
    agent: ppo_agent.PPOAgent,
    info: tf_agent.LossInfo,
    time_steps: Any,
    *args: Any,
    augmented: tf.Tensor,
    weight: Weight,
    training: bool = False,
    **kwargs: Any,
) -> tf_agent.LossInfo:
    """The loss α_r (G_π + G_V) larger, that is J_DrAC, which is maximized there, with its sign.

    G_π = KL(π(·|s) ‖ π(·|f(s))) and G_V = (V(s) - V(f(s)))², in which what is of s is a constant.
    All of PPO's own loss stays at s: its ratio with images f(s) would be π(a|f(s)) over π_old(a|s),
    of two policies that differ before anything is learned.

    Args:
      agent: the agent.
      info: of its `get_loss`, without the terms.
      time_steps: [B, T, ...], with s; all that follows is as in `get_loss`.
      *args: see `with_terms`.
      augmented: f(s), [B, T, ...].
      weight: α_r.
      training: whether the networks are called so.
      **kwargs: see `with_terms`.
    """
    policy, value = outputs(agent, time_steps, training)
    policy_of_f, value_of_f = outputs(agent, time_steps._replace(observation=augmented), training)
    check_shapes(value=(value, ("B", "T")), value_of_f=(value_of_f, ("B", "T")))
    g_policy = divergence(parameters(policy), policy_of_f)
    g_value = losses.squared_error(value, value_of_f)
    terms = dict(zip(INVARIANCE, ((weight, g_policy), (weight, g_value))))
    return with_terms(info, terms, *args, **kwargs)
