"""Distillation in the loss of a PPO agent of TF-Agents.

    distill(agent, teacher.network, actor_weight=1.0, critic_weight=0.5)

is all that an agent of one's own needs: from then on the two terms are in the loss of `train`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf
from tf_agents.agents import tf_agent
from tf_agents.agents.ppo import ppo_agent

from rldarts_tf.agents.shapes import check_shapes
from rldarts_tf.teaching import losses

Weight = Any
"""A float, or a variable or scalar tensor that a traced loss reads."""


class TaughtLossInfo(NamedTuple):
    """`PPOLossInfo` of TF-Agents, and the terms: means over the minibatch, without weights."""

    policy_gradient_loss: tf.Tensor
    value_estimation_loss: tf.Tensor
    l2_regularization_loss: tf.Tensor
    entropy_regularization_loss: tf.Tensor
    kl_penalty_loss: tf.Tensor
    clip_fraction: tf.Tensor
    distillation_actor: tf.Tensor
    distillation_critic: tf.Tensor


def distill(
    agent: ppo_agent.PPOAgent,
    network: Callable[..., dict[str, tf.Tensor]],
    actor_weight: Weight = 0.0,
    critic_weight: Weight = 0.0,
    value_scale: float = 1.0,
) -> None:
    """Adds distillation to the loss of any PPO agent of TF-Agents; its teacher is asked in `train`.

    Args:
      agent: with one action; its `get_loss` is replaced. `LossInfo.extra` is a `TaughtLossInfo`
        afterwards.
      network: (observations [B, ...], None) -> {"logits": [B, A]}, or {"mean", "stddev": [B, A]}
        for continuous actions, and "value" [B]: `Teacher.network`.
      actor_weight: c_a, of KL(π_T ‖ π).
      critic_weight: c_c, of (V_T - V)².
      value_scale: V_T times this is in the agent's rewards, such as `Teacher.scales([game])[0]`
        where they are those of the game.
    """
    get_loss = agent.get_loss

    def taught(time_steps: Any, *args: Any, **kwargs: Any) -> tf_agent.LossInfo:
        observation = time_steps.observation
        outer = tf.shape(time_steps.step_type)
        said = network(tf.reshape(observation, [-1, *observation.shape[2:]]), None)
        lesson = {
            name: tf.reshape(value, tf.concat([outer, tf.shape(value)[1:]], axis=0))
            for name, value in said.items()
        }
        lesson["value"] *= value_scale
        info = get_loss(time_steps, *args, **kwargs)
        weights = (actor_weight, critic_weight)
        return with_terms(agent, info, lesson, weights, time_steps, *args, **kwargs)

    agent.get_loss = taught


def with_terms(
    agent: ppo_agent.PPOAgent,
    info: tf_agent.LossInfo,
    lesson: dict[str, tf.Tensor],
    term_weights: tuple[Weight, Weight],
    time_steps: Any,
    *args: Any,
    training: bool = False,
    **kwargs: Any,
) -> tf_agent.LossInfo:
    """The loss c_a KL(π_T ‖ π) + c_c (V_T - V)² larger.

    Args:
      agent: the student.
      info: of its `get_loss`, without the terms.
      lesson: as `distill` says, [B, T, ...], with values in the student's rewards.
      term_weights: (c_a, c_c).
      time_steps: [B, T, ...], as all that follows an argument of `get_loss`.
      *args: the sixth has the weights of the time steps, [B, T].
      training: whether the networks are called so.
      **kwargs: may have those weights by name.
    """
    weights = kwargs["weights"] if "weights" in kwargs else args[5]
    # As TF-Agents' own loss does: with what normalizes observations, if anything does.
    acting = agent.collect_policy
    policy = acting._distribution(
        time_steps, acting.get_initial_state(tf.shape(weights)[0]), training=training
    ).action
    value, _ = acting.apply_value_network(
        time_steps.observation, time_steps.step_type, value_state=(), training=training
    )
    check_shapes(value=(value, ("B", "T")), teacher_value=(lesson["value"], ("B", "T")))
    if "logits" in lesson:
        divergence = losses.categorical_kl(lesson["logits"], policy.logits_parameter())
    else:
        divergence = losses.gaussian_kl(
            lesson["mean"], lesson["stddev"], policy.mean(), policy.stddev()
        )
    errors = losses.squared_error(lesson["value"], value)
    # As all terms of TF-Agents': masked steps count in the divisor.
    terms = [tf.reduce_mean(term * weights) for term in (divergence, errors)]
    loss = tf.add_n([info.loss, *(c * term for c, term in zip(term_weights, terms))])
    return tf_agent.LossInfo(loss, TaughtLossInfo(*info.extra, *terms))
