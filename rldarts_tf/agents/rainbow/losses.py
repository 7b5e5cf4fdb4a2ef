"""The losses of Rainbow.

Sources: Bellemare et al. 2017 (C51); van Hasselt et al. 2016 (double Q); Schaul et al. 2016
(prioritized replay).
"""

from __future__ import annotations

import tensorflow as tf
from acme.tf.losses.distributional import l2_project
from acme.tf.networks import DiscreteValuedDistribution

from rldarts_tf.agents.shapes import check_shapes


def double_q_target(
    r_t: tf.Tensor, d_t: tf.Tensor, z_t: DiscreteValuedDistribution, q_t_selector: tf.Tensor
) -> tf.Tensor:
    """m = Φ(r + d Z_{θ'}(s_t, a*)), a* = argmax_a q_θ(s_t, a): [B, atoms], a constant.

    Args:
      r_t: float32 [B], the n-step return.
      d_t: float32 [B], γ^n, or 0 where the episode terminated on the way.
      z_t: distributions at s_t by the target network, batch shape [B, A].
      q_t_selector: action values at s_t by the online network, [B, A].

    Raises:
      ValueError: a shape is another.
    """
    check_shapes(
        r_t=(r_t, ("B",)),
        d_t=(d_t, ("B",)),
        z_t=(z_t.logits, ("B", "A", "K")),
        q_t_selector=(q_t_selector, ("B", "A")),
    )
    a_t = tf.argmax(q_t_selector, axis=-1, output_type=tf.int32)
    p_t = tf.nn.softmax(tf.gather(z_t.logits, a_t, batch_dims=1))  # [B, atoms]
    atoms = r_t[:, None] + d_t[:, None] * z_t.values  # [B, atoms]
    return tf.stop_gradient(l2_project(atoms, p_t, z_t.values))


def categorical_loss(
    z_tm1: DiscreteValuedDistribution, a_tm1: tf.Tensor, target: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The C51 loss.

    Args:
      z_tm1: distributions of returns of all actions at s_{t-1}, batch shape [B, A].
      a_tm1: the actions taken, int32 [B].
      target: m, [B, atoms].

    Returns:
      (cross-entropy of m and the prediction [B], the loss; their Kullback-Leibler divergence [B],
      the priority of Hessel et al. 2018).

    Raises:
      ValueError: a shape is another.
    """
    check_shapes(
        z_tm1=(z_tm1.logits, ("B", "A", "K")), a_tm1=(a_tm1, ("B",)), target=(target, ("B", "K"))
    )
    logits = tf.gather(z_tm1.logits, a_tm1, batch_dims=1)
    cross_entropy = tf.nn.softmax_cross_entropy_with_logits(labels=target, logits=logits)
    entropy = -tf.reduce_sum(tf.math.xlogy(target, target), axis=-1)
    return cross_entropy, tf.stop_gradient(cross_entropy - entropy)


def projected(atoms: tf.Tensor, probabilities: tf.Tensor, support: tf.Tensor) -> tf.Tensor:
    """A teacher's distributions of returns on the student's atoms: Φ of C51.

    Args:
      atoms: the teacher's, in the student's units of reward, [B, J].
      probabilities: of each action, [B, A, J].
      support: the student's atoms, [atoms].

    Returns:
      float32 [B, A, atoms].
    """
    check_shapes(
        atoms=(atoms, ("B", "J")),
        probabilities=(probabilities, ("B", "A", "J")),
        support=(support, ("K",)),
    )
    by_action = tf.unstack(probabilities, axis=1)
    return tf.stack([l2_project(atoms, p, support) for p in by_action], axis=1)


def importance_weights(probabilities: tf.Tensor, exponent: float) -> tf.Tensor:
    """w_i = P(i)^-exponent / max_j P(j)^-exponent (Schaul et al. 2016, section 3.4): [B] -> [B].

    The number of transitions, which is a factor there, cancels out.

    Raises:
      ValueError: the probabilities are not [B].
    """
    check_shapes(probabilities=(probabilities, ("B",)))
    weights = tf.pow(tf.cast(probabilities, tf.float32), -exponent)
    return weights / tf.reduce_max(weights)
