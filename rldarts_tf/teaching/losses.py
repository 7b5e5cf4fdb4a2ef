"""Terms of distillation, of each state; teacher first. Gradients go to the student alone.

Sources: Schmitt et al. 2018, "Kickstarting Deep Reinforcement Learning" (KL of policies); Rusu et
al. 2016, "Policy Distillation" (softmax of Q); Fu et al., arXiv:2012.13091 (actor and critic).
"""

from __future__ import annotations

import tensorflow as tf


def categorical_kl(teacher_logits: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """KL(π_T ‖ π) = Σ_a π_T(a) (log π_T(a) - log π(a)): logits [..., A] -> [...], in nats."""
    log_teacher = tf.nn.log_softmax(tf.stop_gradient(teacher_logits))
    return tf.reduce_sum(tf.exp(log_teacher) * (log_teacher - tf.nn.log_softmax(logits)), axis=-1)


def gaussian_kl(
    teacher_mean: tf.Tensor, teacher_scale: tf.Tensor, mean: tf.Tensor, scale: tf.Tensor
) -> tf.Tensor:
    """KL(N(μ_T, σ_T²) ‖ N(μ, σ²)) of independent dimensions: [..., A] -> [...], in nats.

    Σ_i log(σ_i / σ_T,i) + (σ_T,i² + (μ_T,i - μ_i)²) / (2 σ_i²) - ½. It is that of tanh(u) too, for
    a bijection changes no divergence.
    """
    teacher_mean, teacher_scale = tf.stop_gradient(teacher_mean), tf.stop_gradient(teacher_scale)
    ratio = teacher_scale / scale
    distance = (teacher_mean - mean) / scale
    return 0.5 * tf.reduce_sum(ratio**2 + distance**2 - 1 - 2 * tf.math.log(ratio), axis=-1)


def squared_error(teacher_value: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """(V_T - V)², of values of the same shape in the same units."""
    return tf.math.squared_difference(tf.stop_gradient(teacher_value), value)


def softmax_q_kl(teacher_q: tf.Tensor, q: tf.Tensor, temperature: float) -> tf.Tensor:
    """KL(softmax(Q_T / τ) ‖ softmax(Q / τ)): [..., A] -> [...], in nats.

    Equation 3 of Rusu et al. divides the teacher's values alone, for their student is a policy;
    here it is a Q function, whose values shall keep their scale.
    """
    return categorical_kl(teacher_q / temperature, q / temperature)


def return_cross_entropy(teacher_probabilities: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """-Σ_i p_T,i log p_i, mean over actions: [..., A, atoms] -> [...], in nats.

    Both distributions have the same atoms.
    """
    labels = tf.stop_gradient(teacher_probabilities)
    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels, logits), axis=-1)
