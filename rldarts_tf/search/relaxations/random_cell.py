"""The relaxation of random search with weight sharing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from typing_extensions import override

from rldarts_tf.search.relaxations.base import Moment, Relaxation
from rldarts_tf.space import NONE, Space


class RandomCell(Relaxation):
    """A whole cell, drawn uniformly from the space (Li & Talwalkar 2019, arXiv:1902.07638).

    Each node keeps min(j, K) of its inputs, and each of these has one op but `none`, of weight 1;
    all other weights are 0. That is the distribution of `random_genotype`. No p depends on z.

    The draw is Algorithm 4 on independent uniform numbers u [E, |O|]: the op of an edge is that of
    the largest u, and a node keeps the K edges whose largest u are largest. Which u of an edge is
    the largest says nothing of how large it is, so that inputs and ops are independent.

    Args:
      space: the search space.
      ops: O of the cell type, in the order of the columns of z.
    """

    samples = True
    selects = True

    def __init__(self, space: Space, ops: Sequence[str]) -> None:
        targets = np.array([target for _, target in space.edges])
        rows = np.arange(len(targets))
        self._top_k = space.top_k
        self._columns = np.array([op != NONE for op in ops])
        self._same_node = targets[:, None] == targets
        # Of equals the lower input comes first: a node keeps exactly so many.
        self._earlier = rows[:, None] > rows
        inputs = self._same_node.sum(axis=1, keepdims=True)
        kept = np.minimum(self._top_k, inputs) / inputs
        self._mean = (kept * self._columns / self._columns.sum()).astype(np.float32)

    @override
    def selected(self, z: tf.Tensor, moment: Moment) -> tf.Tensor:
        u = tf.where(self._columns, moment.uniform(z), -1.0)
        largest = tf.reduce_max(u, axis=1)
        other, own = largest[None, :], largest[:, None]
        before = tf.logical_or(other > own, tf.logical_and(tf.equal(other, own), self._earlier))
        stronger = tf.math.count_nonzero(tf.logical_and(before, self._same_node), axis=1)
        op = tf.one_hot(tf.argmax(u, axis=1), z.shape[1], True, False, dtype=tf.bool)
        return tf.logical_and(op, (stronger < self._top_k)[:, None])[None]

    @override
    def op_weights(self, z: tf.Tensor, moment: Moment) -> tf.Tensor:
        """The cell that is drawn; where none is, its mean: min(j, K) / j / (|O| - 1)."""
        if moment.seed is None:
            return tf.constant(self._mean, z.dtype)
        return tf.cast(self.selected(z, moment)[0], z.dtype)

    @override
    def log_op_weights(self, z: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.log(self._mean.astype(np.float64))
