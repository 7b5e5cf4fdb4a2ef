"""The relaxations of GDAS and of its variant with two ops."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from typing_extensions import override

from rldarts_tf.search.relaxations.base import Moment
from rldarts_tf.search.relaxations.softmax import Softmax
from rldarts_tf.space import LEFT_OUT, NONE


class HardGumbel(Softmax):
    """One op per edge, drawn with probability softmax(z) (Dong & Yang 2019, arXiv:1910.04465).

    With g ~ Gumbel(0, 1) and y = log softmax(z) + g, the op with the largest y has weight 1 and all
    others 0. The gradient is the straight-through one, of q = softmax(y / τ), for the op drawn,
    which alone is computed. The others have none, for nobody knows what they would have given.

    With two, those with the largest y are computed and have a gradient, that of q = softmax(z)
    between the two: without noise or τ, as in Auto-NBA's release (Fu et al. 2021,
    arXiv:2106.06575, its mode "proxy_hard").

    Settled, the op with the largest z has weight 1, and it alone is computed. As in Algorithm 4 it
    is not `none`, unless an edge has nothing else left.

    Args:
      start: τ at the beginning of the search, of one op.
      end: τ at its end; linear between.
      ops: O.
      num_active: ops of an edge that are computed, 1 or 2.
    """

    samples = True
    selects = True

    def __init__(self, start: float, end: float, ops: Sequence[str], num_active: int = 1) -> None:
        self._start, self._end, self._num_active = start, end, num_active
        self._none = np.array([op == NONE for op in ops])

    def _perturbed(self, z: tf.Tensor, moment: Moment) -> tf.Tensor:
        """y, whose largest entries count; settled, z itself with `none` last."""
        if moment.settled:
            # Below every op that is there, above those that a progressive search has left out.
            return tf.where(self._none & (z > LEFT_OUT), LEFT_OUT / 2, z)
        return tf.nn.log_softmax(z) - tf.math.log(-tf.math.log(moment.uniform(z)))

    @override
    def selected(self, z: tf.Tensor, moment: Moment) -> tf.Tensor:
        y = self._perturbed(z, moment)
        _, columns = tf.math.top_k(y, 1 if moment.settled else self._num_active)
        return tf.one_hot(tf.transpose(columns), z.shape[1], True, False, dtype=tf.bool)

    @override
    def op_weights(self, z: tf.Tensor, moment: Moment) -> tf.Tensor:
        if not (moment.draws or moment.settled):
            return super().op_weights(z, moment)
        y = self._perturbed(z, moment)
        chosen = tf.one_hot(tf.argmax(y, axis=1), z.shape[1], dtype=z.dtype)
        if moment.settled:
            return chosen
        selected = tf.reduce_any(self.selected(z, moment), axis=0)
        if self._num_active > 1:
            q = tf.nn.softmax(tf.where(selected, z, z.dtype.min / 2))
        else:
            temperature = self._start + (self._end - self._start) * moment.progress
            q = tf.nn.softmax(y / temperature)
        return chosen + tf.where(selected, q - tf.stop_gradient(q), 0.0)
