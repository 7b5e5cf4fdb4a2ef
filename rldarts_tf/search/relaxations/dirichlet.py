"""The relaxation of DrNAS."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from typing_extensions import override

from rldarts_tf.search.relaxations.base import Moment, Relaxation, entropy


class Dirichlet(Relaxation):
    """p ~ Dir(c), c = elu(z) + 1 (Chen et al. 2021, "DrNAS", arXiv:2006.10355).

    A sample is a normalized vector of gamma variables, differentiated by TensorFlow's implicit
    reparameterization. The penalty is w · mean over the edges of KL(Dir(c) ‖ Dir(1)), which keeps
    the distribution broad.

    Args:
      weight: w.
    """

    samples = True

    def __init__(self, weight: float) -> None:
        self._weight = weight

    @override
    def op_weights(self, z: tf.Tensor, moment: Moment) -> tf.Tensor:
        c = _concentrations(z)
        if not moment.draws:
            return c / tf.reduce_sum(c, axis=1, keepdims=True)
        gamma = tf.random.stateless_gamma(tf.shape(z), moment.seed, c, dtype=z.dtype)
        gamma = tf.maximum(gamma, np.finfo(np.float32).tiny)
        return gamma / tf.reduce_sum(gamma, axis=1, keepdims=True)

    @override
    def penalty(self, z: tf.Tensor) -> tf.Tensor | None:
        if not self._weight:
            return None
        c = _concentrations(z)
        total = tf.reduce_sum(c, axis=1)
        of_one = tf.math.lgamma(tf.cast(z.shape[1], z.dtype))
        divergence = (
            tf.math.lgamma(total)
            - of_one
            - tf.reduce_sum(tf.math.lgamma(c), axis=1)
            + tf.reduce_sum((c - 1) * (tf.math.digamma(c) - tf.math.digamma(total)[:, None]), 1)
        )
        return self._weight * tf.reduce_mean(divergence)

    @override
    def entropy(self, z: tf.Tensor) -> tf.Tensor:
        return entropy(tf.where(z > 0, tf.math.log1p(tf.maximum(z, 0.0)), z))

    @override
    def ranking(self, z: np.ndarray, none: int | None) -> np.ndarray:
        """log c, whose softmax is the mean of p."""
        return _log_concentrations(z)

    @override
    def log_op_weights(self, z: np.ndarray) -> np.ndarray:
        return super().log_op_weights(_log_concentrations(z))


def _concentrations(z: tf.Tensor) -> tf.Tensor:
    # elu(z) + 1, which in float32 is 0 from z = -17 on.
    return tf.where(z > 0, z + 1, tf.exp(tf.minimum(z, 0.0)))


def _log_concentrations(z: np.ndarray) -> np.ndarray:
    return np.where(z > 0, np.log1p(np.maximum(z, 0)), z)
