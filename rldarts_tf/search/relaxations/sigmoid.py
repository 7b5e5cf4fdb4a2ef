"""The relaxation of FairDARTS."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from typing_extensions import override

from rldarts_tf.search.relaxations.base import Moment, Relaxation


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
    def ranking(self, z: np.ndarray, none: int | None) -> np.ndarray:
        """Logits whose odds rank edges by their largest σ(z).

        The odds of an op are exp(z) over the sum of the others. That of `none` is chosen so that
        this sum, for the best op, is the same on all edges. Without `none` z itself: a node then
        has one edge.
        """
        if none is None:
            return z
        others = np.delete(z, none, axis=1)
        z, others = z - others.max(), others - others.max()
        beside_best = np.exp(others).sum(axis=1) - np.exp(others.max(axis=1))
        z[:, none] = np.log(z.shape[1] - beside_best)
        return z
