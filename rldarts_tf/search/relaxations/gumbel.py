"""The relaxations of GDAS and of its variant with two ops."""

from __future__ import annotations

import tensorflow as tf
from typing_extensions import override

from rldarts_tf.search.relaxations.base import Moment
from rldarts_tf.search.relaxations.softmax import Softmax


class HardGumbel(Softmax):
    """One op per edge, drawn with probability softmax(z) (Dong & Yang 2019, arXiv:1910.04465).

    With g ~ Gumbel(0, 1) and y = log softmax(z) + g, the op with the largest y has weight 1 and all
    others 0. The gradient is the straight-through one, of q = softmax(y / τ), for the op drawn,
    which alone is computed. The others have none, for nobody knows what they would have given.

    With two, those with the largest y are computed and have a gradient, that of q = softmax(z)
    between the two: without noise or τ, as in Auto-NBA's release (Fu et al. 2021,
    arXiv:2106.06575, its mode "proxy_hard").

    Args:
      start: τ at the beginning of the search, of one op.
      end: τ at its end; linear between.
      num_active: ops of an edge that are computed, 1 or 2.
    """

    samples = True
    selects = True

    def __init__(self, start: float, end: float, num_active: int = 1) -> None:
        self._start, self._end, self._num_active = start, end, num_active

    def _perturbed(self, z: tf.Tensor, moment: Moment) -> tf.Tensor:
        return tf.nn.log_softmax(z) - tf.math.log(-tf.math.log(moment.uniform(z)))

    @override
    def selected(self, z: tf.Tensor, moment: Moment) -> tf.Tensor:
        y = self._perturbed(z, moment)
        _, columns = tf.math.top_k(y, self._num_active)
        return tf.one_hot(tf.transpose(columns), z.shape[1], True, False, dtype=tf.bool)

    @override
    def op_weights(self, z: tf.Tensor, moment: Moment) -> tf.Tensor:
        if moment.seed is None:
            return super().op_weights(z, moment)
        y = self._perturbed(z, moment)
        selected = tf.reduce_any(self.selected(z, moment), axis=0)
        if self._num_active > 1:
            q = tf.nn.softmax(tf.where(selected, z, z.dtype.min / 2))
        else:
            temperature = self._start + (self._end - self._start) * moment.progress
            q = tf.nn.softmax(y / temperature)
        drawn = tf.one_hot(tf.argmax(y, axis=1), z.shape[1], dtype=z.dtype)
        return drawn + tf.where(selected, q - tf.stop_gradient(q), 0.0)
