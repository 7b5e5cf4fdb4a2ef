"""Distillation in the loss of a PPO agent of TF-Agents.

    distill(agent, teacher.network, actor_weight=1.0, critic_weight=0.5)

is all that an agent of one's own needs: from then on the two terms are in the loss of `train`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tf_agents.agents import tf_agent
from tf_agents.agents.ppo import ppo_agent

from rldarts_tf.agents.ppo.terms import Weight, divergence, outputs, with_terms
from rldarts_tf.agents.shapes import check_shapes
from rldarts_tf.teaching import losses
from rldarts_tf.teaching.distillation import TERMS


def distill(
    agent: ppo_agent.PPOAgent,
    network: Callable[..., dict[str, tf.Tensor]],
    actor_weight: Weight = 0.0,
    critic_weight: Weight = 0.0,
    value_scale: float = 1.0,
) -> None:
    """Adds distillation to the loss of any PPO agent of TF-Agents; its teacher is asked in `train`.

    Args:
      agent: with one action; its `get_loss` is replaced. `LossInfo.extra` is an
        `ExtendedLossInfo` afterwards.
      network: (observations [B, ...], None) -> {"logits": [B, A]}, or {"mean", "stddev": [B, A]}
        for continuous actions, and "value" [B]: `Teacher.network`.
      actor_weight: c_a, of KL(π_T ‖ π).
      critic_weight: c_c, of (V_T - V)².
      value_scale: V_T times this is in the agent's rewards, such as `Teacher.scales([game])[0]`
        where they are those of the game. Where the agent normalizes them, as TF-Agents' do unless
        they are made with `normalize_rewards=False`, there is no such number.
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
        return with_distillation(
            agent, info, time_steps, *args, lesson=lesson, term_weights=weights, **kwargs
        )

    agent.get_loss = taught


def with_distillation(
    agent: ppo_agent.PPOAgent,
    info: tf_agent.LossInfo,
    time_steps: Any,
    *args: Any,
    lesson: dict[str, tf.Tensor],
    term_weights: tuple[Weight, Weight],
    training: bool = False,
    **kwargs: Any,
) -> tf_agent.LossInfo:
    """The loss c_a KL(π_T ‖ π) + c_c (V_T - V)² larger.

    Args:
      agent: the student.
      info: of its `get_loss`, without the terms.
      time_steps: [B, T, ...]; all that follows is as in `get_loss`.
      *args: see `with_terms`.
      lesson: as `distill` says, [B, T, ...], with values in the student's rewards.
      term_weights: (c_a, c_c).
      training: whether the networks are called so.
      **kwargs: see `with_terms`.
    """
    policy, value = outputs(agent, time_steps, training)
    check_shapes(value=(value, ("B", "T")), teacher_value=(lesson["value"], ("B", "T")))
    of_states = divergence(lesson, policy), losses.squared_error(lesson["value"], value)
    return with_terms(info, dict(zip(TERMS, zip(term_weights, of_states))), *args, **kwargs)
