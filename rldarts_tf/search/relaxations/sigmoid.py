"""The relaxation of FairDARTS."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from typing_extensions import override

from rldarts_tf.search.relaxations.base import Moment, Relaxation, ranked_by


class Sigmoid(Relaxation):
    """p = σ(z): ops do not compete (Chu et al. 2020, "Fair DARTS", arXiv:1911.12126).

    Its penalty pushes each p to 0 or to 1 (equation 5 there): -w · mean (σ(z) - ½)².

    Args:
      weight: w.
    """

    def __init__(self, weight: float) -> None:
        self._weight = weight

    @override
    def op_weights(self, z: tf.Tensor, moment: Moment) -> tf.Tensor:
        return tf.sigmoid(z)

    @override
    def penalty(self, z: tf.Tensor) -> tf.Tensor | None:
        return -self._weight * tf.reduce_mean(tf.square(tf.sigmoid(z) - 0.5))

    @override
    def entropy(self, z: tf.Tensor) -> tf.Tensor:
        """Of the ops of an edge, each of which is kept or not by itself: their sum."""
        # -p log p - (1 - p) log(1 - p) of p = σ(z).
        return tf.reduce_sum(tf.nn.softplus(z) - z * tf.sigmoid(z), axis=1)

    @override
    def log_op_weights(self, z: np.ndarray) -> np.ndarray:
        return -np.logaddexp(0.0, -z)

    @override
    def ranking(self, z: np.ndarray, none: int | None) -> np.ndarray:
        """Logits whose odds rank edges by their largest σ(z).

        Without `none` z itself: a node then has one edge.
        """
        return z if none is None else ranked_by(z, none)
