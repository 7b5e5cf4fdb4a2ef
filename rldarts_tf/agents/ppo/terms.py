"""Terms that this package adds to the loss of a PPO agent of TF-Agents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp
from tf_agents.agents import tf_agent
from tf_agents.agents.ppo import ppo_agent

from rldarts_tf.teaching import losses

Weight = Any
"""A float, or a variable or scalar tensor that a traced loss reads."""

Term = Callable[..., tf_agent.LossInfo]
"""(agent, info of the loss so far, arguments of `get_loss`) -> info of the loss with more terms."""


class ExtendedLossInfo(NamedTuple):
    """`PPOLossInfo` of TF-Agents, and the terms: means over the minibatch, without weights.

    A term that the loss does not have is 0.
    """

    policy_gradient_loss: tf.Tensor
    value_estimation_loss: tf.Tensor
    l2_regularization_loss: tf.Tensor
    entropy_regularization_loss: tf.Tensor
    kl_penalty_loss: tf.Tensor
    clip_fraction: tf.Tensor
    distillation_actor: tf.Tensor | float = 0.0
    distillation_critic: tf.Tensor | float = 0.0
    augmentation_policy: tf.Tensor | float = 0.0
    augmentation_value: tf.Tensor | float = 0.0


def outputs(
    agent: ppo_agent.PPOAgent, time_steps: Any, training: bool = False
) -> tuple[tfp.distributions.Distribution, tf.Tensor]:
    """Policy and value [B, T] at time steps, computed as TF-Agents' own loss does.

    So what normalizes observations, if anything does, is part of it.

    Args:
      agent: the agent, with one action.
      time_steps: [B, T, ...].
      training: whether the networks are called so.
    """
    acting = agent.collect_policy
    state = acting.get_initial_state(tf.shape(time_steps.step_type)[0])
    policy = acting._distribution(time_steps, state, training=training).action
    value, _ = acting.apply_value_network(
        time_steps.observation, time_steps.step_type, value_state=(), training=training
    )
    return policy, value


def parameters(policy: tfp.distributions.Distribution) -> dict[str, tf.Tensor]:
    """{"logits": [..., A]}, or {"mean", "stddev": [..., A]} of continuous actions."""
    if isinstance(policy, tfp.distributions.Categorical):
        return {"logits": policy.logits_parameter()}
    return {"mean": policy.mean(), "stddev": policy.stddev()}


def divergence(
    target: Mapping[str, tf.Tensor], policy: tfp.distributions.Distribution
) -> tf.Tensor:
    """KL(target ‖ policy), [B, T], in nats; the target is a constant.

    Args:
      target: as `parameters` gives it.
      policy: with the batch shape [B, T].
    """
    own = parameters(policy)
    if "logits" in target:
        return losses.categorical_kl(target["logits"], own["logits"])
    return losses.gaussian_kl(target["mean"], target["stddev"], own["mean"], own["stddev"])


def with_terms(
    info: tf_agent.LossInfo,
    terms: Mapping[str, tuple[Weight, tf.Tensor]],
    *args: Any,
    **kwargs: Any,
) -> tf_agent.LossInfo:
    """The loss with means over the minibatch, each times its weight.

    Args:
      info: of the loss without them.
      terms: by their names in `ExtendedLossInfo`, (weight, the term of each time step [B, T]).
      *args: those of `get_loss` after the time steps, of which the sixth has the weights of the
        time steps, [B, T].
      **kwargs: may have those weights by name.
    """
    weights = kwargs["weights"] if "weights" in kwargs else args[5]
    # As all terms of TF-Agents': masked steps count in the divisor.
    means = {name: tf.reduce_mean(term * weights) for name, (_, term) in terms.items()}
    loss = tf.add_n([info.loss, *(weight * means[name] for name, (weight, _) in terms.items())])
    return tf_agent.LossInfo(loss, ExtendedLossInfo(**{**info.extra._asdict(), **means}))
