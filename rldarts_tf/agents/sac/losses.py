"""The losses of SAC (Haarnoja et al. 2018, arXiv:1812.05905, whose equations are cited).

α is the architecture everywhere in this package: the entropy's coefficient, α there, is called
temperature here.
"""

from __future__ import annotations

import tensorflow as tf

from rldarts_tf.agents.shapes import check_shapes


def soft_target(
    r_t: tf.Tensor,
    d_t: tf.Tensor,
    q_t: tf.Tensor,
    log_pi_t: tf.Tensor,
    temperature: tf.Tensor | float,
) -> tf.Tensor:
    """r + γ (min_i Q_i(s', a') - t log π(a'|s')), the target of equations 3 and 5: [B].

    Args:
      r_t: rewards float32 [B].
      d_t: γ, or 0 where the episode terminated, [B].
      q_t: target critics at s' and a' ~ π(·|s'), [2, B].
      log_pi_t: log π(a'|s'), [B].
      temperature: t.

    Raises:
      ValueError: a shape is another.
    """
    check_shapes(
        r_t=(r_t, ("B",)),
        d_t=(d_t, ("B",)),
        q_t=(q_t, (2, "B")),
        log_pi_t=(log_pi_t, ("B",)),
        temperature=(temperature, ()),
    )
    return r_t + d_t * (tf.reduce_min(q_t, axis=0) - temperature * log_pi_t)


def critic_loss(q_tm1: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """J_Q, equation 5, of both critics together: the mean over the batch of Σ_i ½ (Q_i - y)².

    Args:
      q_tm1: Q_i(s, a), [2, B].
      target: y, [B].

    Raises:
      ValueError: a shape is another.
    """
    check_shapes(q_tm1=(q_tm1, (2, "B")), target=(target, ("B",)))
    errors = q_tm1 - tf.stop_gradient(target)
    return tf.reduce_mean(tf.reduce_sum(0.5 * tf.square(errors), axis=0))


def actor_loss(q: tf.Tensor, log_pi: tf.Tensor, temperature: tf.Tensor | float) -> tf.Tensor:
    """J_π, equation 9: the mean of t log π(a|s) - min_i Q_i(s, a).

    Args:
      q: critics at s and a ~ π(·|s), through which the gradient goes, [2, B].
      log_pi: log π(a|s), [B].
      temperature: t.

    Raises:
      ValueError: a shape is another.
    """
    check_shapes(q=(q, (2, "B")), log_pi=(log_pi, ("B",)), temperature=(temperature, ()))
    return tf.reduce_mean(temperature * log_pi - tf.reduce_min(q, axis=0))


def temperature_loss(
    log_temperature: tf.Tensor, log_pi: tf.Tensor, target_entropy: float
) -> tf.Tensor:
    """J(t), equation 18: the mean of -t (log π(a|s) + H̄), with t = exp(log_temperature).

    Args:
      log_temperature: log t, which is trained.
      log_pi: log π(a|s), [B]; a constant.
      target_entropy: H̄.

    Raises:
      ValueError: a shape is another.
    """
    check_shapes(log_temperature=(log_temperature, ()), log_pi=(log_pi, ("B",)))
    return -tf.reduce_mean(tf.exp(log_temperature) * tf.stop_gradient(log_pi + target_entropy))
